"""Video files, decoded in order from the start by decord, or by PyAV where decord is wrong or holds too much."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ClipError
from pipeline.types import Array

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Moved: TypeAlias = Callable[[], object]
DECORD_BYTES = 256 << 20
"""Frames of a clip that decord decodes: it runs ahead of whoever takes them, to the end, and keeps what waits in memory."""


def not_asked() -> None:
    """Nobody wants to know that something moved."""


class DecoderFailed(Exception):
    """decord gave up on a clip; PyAV decodes it from the start."""


class Recounted(Exception):
    """A track holds another number of frames than its packets say: `path` has `length`. Frames are to be chosen again."""

    def __init__(self, path: Path, length: int) -> None:
        super().__init__(path, length)
        self.path, self.length = path, length

    def __str__(self) -> str:
        return f"{self.path.name} holds {self.length} frames"


def headers(path: Path, moved: Moved) -> tuple[int, float, int]:
    """Packets of a video, their mean rate (0 where unknown), and the bytes of all its frames. Raises ClipError."""
    with media_errors(path), _container(path) as (container, stream):
        packets = 0
        for packet in container.demux(stream):
            moved()
            packets += bool(packet.size)
        if not packets:
            raise ClipError(f"{path.name} holds no frames")
        return packets, float(stream.average_rate or stream.guessed_rate or 0), packets * stream.width * stream.height * 3


def decord_is_exact(path: Path, packets: int) -> bool:
    """Whether decord's count and first frame are the stream's: it misorders MPEG-TS, breaks on rotation and on widths whose
    lines are padded much (48 pixels), and has its own colours for interlaced and 10-bit frames."""
    try:
        import decord
    except ImportError:
        return False
    with media_errors(path), _container(path) as (container, stream):
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


def by_decord(path: Path, length: int, wanted: NDArray[np.int64], *, moved: Moved) -> Iterator[Array]:
    """Every frame is decoded in turn: decord's seeks give neighbours of the wanted frame on clips with B-frames.

    Where frames run out before the packets do, decord repeats the last one; so two equal last frames are left to PyAV.
    """
    import decord

    keep = set(wanted.tolist())
    last: list[Array] = []
    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        for index in range(length):
            frame = reader.next()
            moved()
            if index in keep or index >= length - 2:
                last = [*last[-1:], frame.asnumpy()]
            if index in keep:
                yield last[-1]
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise DecoderFailed(str(error)) from error
    if len(last) == 2 and np.array_equal(last[0], last[1]):
        raise DecoderFailed(f"{path.name} ends with a frame twice")


def by_pyav(path: Path, length: int, wanted: NDArray[np.int64], *, moved: Moved) -> Iterator[Array]:
    """Decodes to the end, so that the true number of frames is known; raises Recounted where it is another."""
    keep = set(wanted.tolist())
    count = 0
    with media_errors(path), _container(path) as (container, stream):
        for frame in container.decode(stream):
            moved()
            if count in keep:
                yield _upright(frame)
            count += 1
    if count == 0:
        raise ClipError(f"{path.name} holds no frames that can be decoded")
    if count != length:
        raise Recounted(path, count)


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


@contextmanager
def media_errors(path: Path) -> Iterator[None]:
    """Turns what PyAV and the system raise on a bad file into a ClipError with its reason."""
    import av

    try:
        yield
    except FileNotFoundError as error:
        raise ClipError(f"{_name(error, path)} is missing") from error
    except PermissionError as error:
        raise ClipError(f"{_name(error, path)} may not be read (permissions)") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(f"{_name(error, path)} cannot be decoded: {getattr(error, 'strerror', None) or error}") from error


def _name(error: Exception, path: Path) -> str:
    """The file that the system names, one of several, else `path`; PyAV names its functions there."""
    import av

    named = None if isinstance(error, av.FFmpegError) else getattr(error, "filename", None)
    return Path(named or path).name
