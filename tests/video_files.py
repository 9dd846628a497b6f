"""Tiny real clips, written by PyAV, whose every frame carries its own number in its pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
COLUMNS, ROWS = 4, 2
"""The number as eight blocks, black or white, the highest bit at the upper left: no rotation of a frame reads the same."""
DARK, LIGHT = 40, 215
TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""Clockwise degrees -> the four corners `a b c d` of an mp4 display matrix."""


def numbered(number: int, size: tuple[int, int]) -> Image:
    """`(height, width, 3)` uint8 image that shows `number`, 0..255; `size` is (width, height)."""
    width, height = size
    rows, columns = np.arange(height) * ROWS // height, np.arange(width) * COLUMNS // width
    bit = COLUMNS * ROWS - 1 - (rows[:, None] * COLUMNS + columns)
    image: Image = np.repeat(np.where(number >> bit & 1, LIGHT, DARK).astype(np.uint8)[..., None], 3, axis=2)
    return image


def coloured(number: int, size: tuple[int, int]) -> Image:
    """As `numbered`, tinted and with seeded noise: colours that decoders could round otherwise."""
    noise = np.random.default_rng(number).normal(0, 8, (size[1], size[0], 3))
    image: Image = np.clip(numbered(number, size) * np.array([1, 0.85, 0.7]) + noise + np.array([0, 10, 30]), 0, 255).astype(np.uint8)
    return image


def number_of(image: Image) -> int:
    """The number that a decoded frame shows."""
    height, width = image.shape[:2]
    number = 0
    for row in range(ROWS):
        for column in range(COLUMNS):
            block = image[row * height // ROWS : (row + 1) * height // ROWS, column * width // COLUMNS : (column + 1) * width // COLUMNS]
            number = number * 2 + int(block.mean() > (DARK + LIGHT) / 2)
    return number


def write_clip(
    path: Path,
    frames: int = 24,
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    rate: float = 25,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container: Mapping[str, str] | None = None,
    times: Sequence[float] | None = None,
    audio: bool = False,
    format: str | None = None,
    draw: Callable[[int, tuple[int, int]], Image] = numbered,
) -> Path:
    """A clip of `frames` numbered frames at `rate`, or at these `times` in seconds; `draw` may draw others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=format, options=dict(container or {})) as output:
        stream = output.add_stream(codec, rate=Fraction(rate).limit_denominator(1001), options=dict(options or {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.thread_count = 1
        ticks = Fraction(1, 90000) if times else None
        if ticks:
            stream.codec_context.time_base = ticks
        sound = output.add_stream("aac", rate=16000, layout="mono") if audio else None
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(draw(number, size), format="rgb24")
            if times and ticks:
                frame.pts, frame.time_base = round(times[number] / ticks), ticks
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        if sound:
            _add_sound(output, sound, seconds=frames / rate)
    return path


def _add_sound(output: av.container.OutputContainer, stream: av.AudioStream, *, seconds: float) -> None:
    for start in range(0, math.ceil(16000 * seconds), 1024):
        wave = np.sin(np.arange(start, start + 1024) * 0.1, dtype=np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def write_sound(path: Path) -> Path:
    """A container that holds sound and no video."""
    with av.open(str(path), "w") as output:
        _add_sound(output, output.add_stream("aac", rate=16000, layout="mono"), seconds=0.5)
    return path


def turned(path: Path, degrees: int) -> Path:
    """The mp4 file marked as to be shown turned clockwise: what phones write in portrait."""
    content = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in TURNS[degrees])
    struct.pack_into(">9i", content, content.index(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def edited(path: Path, first: int, *, ticks: int) -> Path:
    """The mp4 file with an edit list that starts at frame `first`: what cutting without encoding writes."""
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 16
    (start,) = struct.unpack_from(">i", content, place)
    struct.pack_into(">i", content, place, start + first * ticks)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    """The file's first part, as an interrupted copy leaves it."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def damaged(path: Path, share: float, *, length: int = 64) -> Path:
    """The file with zeros somewhere in it."""
    content = bytearray(path.read_bytes())
    start = int(len(content) * share)
    content[start : start + length] = bytes(length)
    path.write_bytes(content)
    return path


def beheaded(path: Path, share: float) -> Path:
    """The MPEG-TS file without its first part: a recording that starts between two key frames."""
    content = path.read_bytes()
    path.write_bytes(content[int(len(content) * share) // 188 * 188 :])
    return path


def write_planes(path: Path, frames: Sequence[Sequence[Image]]) -> Path:
    """Uncompressed video written without an encoder, the same bytes everywhere: Y, U and V planes of each frame (4:2:0)."""
    height, width = frames[0][0].shape
    body = b"".join(b"FRAME\n" + b"".join(plane.tobytes() for plane in planes) for planes in frames)
    path.write_bytes(b"YUV4MPEG2 W%d H%d F25:1 Ip A1:1 C420jpeg\n" % (width, height) + body)
    return path
