"""From media files to frames: each clip is decoded once, in order, by decord, or by PyAV where decord is wrong or holds too much."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

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

T = TypeVar("T")
Moved: TypeAlias = Callable[[], object]
Decoder = Literal["decord", "pyav", "cache"] | Reader
DECORD_BYTES = 256 << 20
"""Frames of a clip that decord decodes: it runs ahead of whoever takes them, to the end, and keeps what waits in memory."""


def not_asked() -> None:
    """Nobody wants to know that something moved."""


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
    moved: Moved = not_asked
    """Is called after every frame that is decoded, wanted or not."""

    @property
    def length(self) -> int:
        return self.tracks[0].length

    @property
    def rate_hz(self) -> float:
        return self.tracks[0].rate_hz

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[Frame]:
        """The frames at `wanted` (ascending, no repeats), one decode a track, read-only. Raises ClipError, DecoderFailed, Recounted."""
        for frame in zip(*(_aligned(track, wanted, self) for track in self.tracks), strict=True):
            for image in frame:
                image.setflags(write=False)  # every stage is given the same
            yield frame


def decoded(paths: Sequence[Path], take: Callable[[Clip], T], *, decord: bool = True, moved: Moved = not_asked) -> T:
    """What `take` makes of a clip's frames, all of them from one decode.

    It is given the clip with decord, then with PyAV if that fails, and once more for each track whose packets lied. Raises ClipError.
    """
    lengths = dict[Path, int]()
    for _ in range(2 + len(paths)):
        clip = open_clip(paths, decord=decord, lengths=lengths, moved=moved)
        try:
            return take(clip)
        except DecoderFailed:
            decord = False
        except Recounted as recount:
            decord, lengths[recount.path] = False, recount.length
    raise ClipError("its number of frames changes from one decode to the next")


def open_clip(paths: Sequence[Path], *, decord: bool, lengths: dict[Path, int], moved: Moved = not_asked) -> Clip:
    """The tracks of a clip without decoding them; `lengths` overrules what packets say. Raises ClipError with the reason."""
    return Clip(tuple(_open_track(path, decord, lengths.get(path), moved=moved) for path in paths), moved)


def _open_track(path: Path, decord: bool, length: int | None, *, moved: Moved) -> Track:
    reader = reader_of(path)
    if reader is None or os.path.isfile(path):
        with media_errors(path):
            if path.stat().st_size == 0:
                raise ClipError(f"{path.name} is empty")
    if reader:
        return Track(path, len(read_rows(path)), 0.0, reader)
    with media_errors(path), _container(path) as (container, stream):
        packets = _packets(container, stream, moved)
        rate = float(stream.average_rate or stream.guessed_rate or 0)
        size = packets * stream.width * stream.height * 3
    if not packets:
        raise ClipError(f"{path.name} holds no frames")
    trusted = decord and length is None and size <= DECORD_BYTES and _decord_is_exact(path, packets)
    return Track(path, packets if length is None else length, rate, "decord" if trusted else "pyav")


def _packets(container: InputContainer, stream: VideoStream, moved: Moved) -> int:
    packets = 0
    for packet in container.demux(stream):
        moved()
        packets += bool(packet.size)
    return packets


def _decord_is_exact(path: Path, packets: int) -> bool:
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


def _aligned(track: Track, wanted: NDArray[np.int64], clip: Clip) -> Iterator[Array]:
    """The track's frame for each wanted instant of a clip."""
    if track.length == clip.length:
        yield from _read(track, wanted, clip.moved)
        return
    mapped = np.minimum((wanted + 0.5) * track.length / clip.length, track.length - 1).astype(np.int64)
    distinct, repeats = np.unique(mapped, return_counts=True)
    for image, times in zip(_read(track, distinct, clip.moved), repeats, strict=True):
        yield from [image] * int(times)


def _read(track: Track, wanted: NDArray[np.int64], moved: Moved) -> Iterator[Array]:
    if track.decoder == "decord":
        return _read_decord(track, wanted, moved)
    if track.decoder == "pyav":
        return _read_pyav(track, wanted, moved)
    values = _cached(track) if track.store else read_rows(track.path)
    return (np.array(values[i]) for i in wanted)


def _cached(track: Track) -> Array:
    """The rows of an upstream clip. What is wrong with the cache is raised as UserError: it is no failure of the clip."""
    every, end = open_shard(track.path.parent, track.store, track.path.name), track.start + track.length
    return checked_rows(every[track.start : end], track.checksum, track.path.parent, track.path.name, f"{track.start} to {end}")


def _read_decord(track: Track, wanted: NDArray[np.int64], moved: Moved) -> Iterator[Array]:
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
            moved()
            if index in keep or index >= track.length - 2:
                last = [*last[-1:], frame.asnumpy()]
            if index in keep:
                yield last[-1]
    except (decord.DECORDError, RuntimeError, StopIteration) as error:
        raise DecoderFailed(str(error)) from error
    if len(last) == 2 and np.array_equal(last[0], last[1]):
        raise DecoderFailed(f"{track.path.name} ends with a frame twice")


def _read_pyav(track: Track, wanted: NDArray[np.int64], moved: Moved) -> Iterator[Array]:
    """Decodes to the end, so that the true number of frames is known; raises Recounted where it is another."""
    keep = set(wanted.tolist())
    count = 0
    with media_errors(track.path), _container(track.path) as (container, stream):
        for frame in container.decode(stream):
            moved()
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
    """The file that an error names, else `path`."""
    return Path(getattr(error, "filename", None) or path).name


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
