"""From media files to frames: each clip is decoded once, in order, by decord, or by PyAV where decord is wrong or holds too much."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ClipError
from pipeline.shards import checked_rows, open_shard
from pipeline.tables import Reader, read_rows, reader_of
from pipeline.types import Array, Frame

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Decoder = Literal["decord", "pyav", "cache"] | Reader
DECORD_BYTES = 256 << 20
"""Frames of a clip that decord decodes: it runs ahead of whoever takes them, to the end, and keeps what waits in memory."""


class DecoderFailed(Exception):
    """decord gave up on a clip; PyAV decodes it from the start."""


class Recounted(Exception):
    """A track holds another number of frames than its packets say: `path` has `length`. Frames are to be chosen again."""

    def __init__(self, path: Path, length: int) -> None:
        super().__init__(f"{path.name} holds {length} frames")
        self.path, self.length = path, length


@dataclass(frozen=True, slots=True)
class Track:
    """One media file, or a folder or series of frames: its number of frames, their mean rate (0 where unknown), and who decodes it.

    A clip of a derived stage is `length` rows of an upstream shard, from `start`, which `store` opens, with their checksum.
    """

    path: Path
    length: int
    rate_hz: float
    decoder: Decoder
    start: int = 0
    store: str = ""
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class Clip:
    """The tracks of one modality, zipped: instant `i` of the first track goes with the frame of the same normalised time in the others."""

    tracks: tuple[Track, ...]

    @property
    def length(self) -> int:
        return self.tracks[0].length

    @property
    def rate_hz(self) -> float:
        return self.tracks[0].rate_hz

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[Frame]:
        """The frames at `wanted` (ascending, no repeats), one decode a track. Raises ClipError, DecoderFailed, Recounted."""
        return zip(*(_aligned(track, wanted, self.length) for track in self.tracks), strict=True)


def open_clip(paths: Sequence[Path], *, decord: bool, lengths: dict[Path, int]) -> Clip:
    """The tracks of a clip without decoding them; `lengths` overrules what packets say. Raises ClipError with the reason."""
    return Clip(tuple(_open_track(path, decord=decord, length=lengths.get(path)) for path in paths))


def _open_track(path: Path, *, decord: bool, length: int | None) -> Track:
    reader = reader_of(path)
    if reader is None or os.path.isfile(path):
        with _media_errors(path):
            if path.stat().st_size == 0:
                raise ClipError(f"{path.name} is empty")
    if reader:
        return Track(path, len(read_rows(path)), 0.0, reader)
    with _media_errors(path), _container(path) as (container, stream):
        packets = sum(1 for packet in container.demux(stream) if packet.size)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        size = packets * stream.width * stream.height * 3
    if not packets:
        raise ClipError(f"{path.name} holds no frames")
    trusted = decord and length is None and size <= DECORD_BYTES and _decord_is_exact(path, packets)
    return Track(path, packets if length is None else length, rate, "decord" if trusted else "pyav")


def _decord_is_exact(path: Path, packets: int) -> bool:
    """Whether decord's count and first frame are the stream's: it misorders MPEG-TS, breaks on rotation and on widths whose
    lines are padded much (48 pixels), and has its own colours for interlaced and 10-bit frames."""
    try:
        import decord
    except ImportError:
        return False
    with _media_errors(path), _container(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None or first.rotation or first.interlaced_frame or first.format.components[0].bits > 8:
            return False
        if container.format.name.startswith("mpegts"):
            return False
        image = first.to_ndarray(format="rgb24")
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        return len(reader) == packets and np.array_equal(reader.next().asnumpy(), image)
    except (decord.DECORDError, RuntimeError, StopIteration, UnicodeEncodeError):
        return False  # a name that is no UTF-8 cannot be given to decord


def _aligned(track: Track, wanted: NDArray[np.int64], length: int) -> Iterator[Array]:
    """The track's frame for each wanted instant of a clip of `length`."""
    if track.length == length:
        yield from _read(track, wanted)
        return
    mapped = np.minimum((wanted + 0.5) * track.length / length, track.length - 1).astype(np.int64)
    distinct, repeats = np.unique(mapped, return_counts=True)
    for image, times in zip(_read(track, distinct), repeats, strict=True):
        yield from [image] * int(times)


def _read(track: Track, wanted: NDArray[np.int64]) -> Iterator[Array]:
    if track.decoder == "decord":
        return _read_decord(track, wanted)
    if track.decoder == "pyav":
        return _read_pyav(track, wanted)
    values = _cached(track) if track.store else read_rows(track.path)
    return (np.array(values[i]) for i in wanted)


def _cached(track: Track) -> Array:
    """The rows of an upstream clip. What is wrong with the cache is raised as UserError: it is no failure of the clip."""
    every, end = open_shard(track.path.parent, track.store, track.path.name), track.start + track.length
    return checked_rows(every[track.start : end], track.checksum, track.path.parent, track.path.name, f"{track.start} to {end}")


def _read_decord(track: Track, wanted: NDArray[np.int64]) -> Iterator[Array]:
    """Every frame is decoded in turn: decord's seeks give neighbours of the wanted frame on clips with B-frames.

    Where frames run out before the packets do, decord repeats the last one; so two equal last frames are left to PyAV.
    """
    import decord

    keep = set(wanted.tolist())
    last: list[Array] = []
    try:
        reader = decord.VideoReader(str(track.path), num_threads=1)
        for index in range(track.length):
            frame = reader.next()
            if index in keep or index >= track.length - 2:
                last = [*last[-1:], frame.asnumpy()]
            if index in keep:
                yield last[-1]
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise DecoderFailed(str(error)) from error
    if len(last) == 2 and np.array_equal(last[0], last[1]):
        raise DecoderFailed(f"{track.path.name} ends with a frame twice")


def _read_pyav(track: Track, wanted: NDArray[np.int64]) -> Iterator[Array]:
    """Decodes to the end, so that the true number of frames is known; raises Recounted where it is another."""
    keep = set(wanted.tolist())
    count = 0
    with _media_errors(track.path), _container(track.path) as (container, stream):
        for frame in container.decode(stream):
            if count in keep:
                yield _upright(frame)
            count += 1
    if count == 0:
        raise ClipError(f"{track.path.name} holds no frames that can be decoded")
    if count != track.length:
        raise Recounted(track.path, count)


def _upright(frame: VideoFrame) -> Array:
    """`(H, W, 3)` uint8 as a player shows it; `rotation` is counter-clockwise degrees."""
    image: Array = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90))) if frame.rotation else image


class _container:
    """The opened file and its best video stream, decoded by one thread: the clips are what runs in parallel."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> tuple[InputContainer, VideoStream]:
        import av

        self.container = av.open(str(self.path), metadata_errors="replace")
        stream = self.container.streams.best("video")
        if stream is None:
            self.container.close()
            raise ClipError(f"{self.path.name} has no video stream")
        stream.codec_context.thread_count = 1
        return self.container, stream  # type: ignore[return-value]

    def __exit__(self, *_: object) -> None:
        self.container.close()


class _media_errors:
    """Turns what PyAV and the system raise on a bad file into a ClipError with its reason."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        import av

        if isinstance(error, FileNotFoundError):
            raise ClipError(f"{self.path.name} is missing") from error
        if isinstance(error, PermissionError):
            raise ClipError(f"{self.path.name} may not be read (permissions)") from error
        if isinstance(error, (av.FFmpegError, OSError, ValueError)):
            raise ClipError(f"{self.path.name} cannot be decoded: {getattr(error, 'strerror', None) or error}") from error


def resized(image: Array, size: tuple[int, int]) -> Array:
    """`(height, width, 3)` uint8: bilinear, antialiased, aspect not kept (Pillow; torchvision's uint8 resize agrees within 1)."""
    from PIL import Image

    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def gray(image: Array) -> Array:
    """`(H, W)` uint8 luma of an RGB image, ITU-R 601 with Pillow's rounding."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).convert("L"))


def nearest(image: Array, size: tuple[int, int]) -> Array:
    """`size` of an `(H, W, ...)` image by taking pixel `floor(i * in / out)`, as `torch.nn.functional.interpolate` does by default."""
    return image[_steps(image.shape[0], size[0])[:, None], _steps(image.shape[1], size[1])]


@functools.lru_cache(maxsize=64)
def _steps(length: int, wanted: int) -> NDArray[np.int64]:
    return np.arange(wanted, dtype=np.int64) * length // wanted
