"""From media to frames: each clip is decoded once, in order, its tracks zipped; what is no video is read as it is."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.shards import checked_rows, open_shard
from pipeline.corpus.intervals import interval_of, parted
from pipeline.decoding.mosaic import as_it_is, developer
from pipeline.decoding.parts import Mistimed, between, expected, frames_in
from pipeline.decoding.tables import Reader, read_rows, reader_of
from pipeline.decoding.timeline import Timeline, Timelines, timeline_of
from pipeline.decoding.video import (
    DECORD_BYTES,
    DecoderFailed,
    Moved,
    Recounted,
    by_decord,
    by_pyav,
    decord_is_exact,
    headers,
    media_errors,
    not_asked,
)
from pipeline.errors import ClipError
from pipeline.types import Array, Frame

T = TypeVar("T")
Decoder = Literal["decord", "pyav", "cache"] | Reader


@dataclass(frozen=True, slots=True)
class Track:
    """One media file, or a folder or series of frames: its number of frames, their mean rate (0 where unknown), and who decodes it.

    A part of a file is `length` of its frames from `start`, of a video with its `timeline`. A clip of a derived stage is `length` rows of
    an upstream shard, from `start`, which `store` opens, with their checksum.
    """

    path: Path
    length: int
    rate_hz: float
    decoder: Decoder
    start: int = 0
    store: str = ""
    checksum: str = ""
    timeline: Timeline | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """The tracks of one modality, zipped: instant `i` of the first track goes with the frame of the same normalised time in the others."""

    tracks: tuple[Track, ...]
    moved: Moved = not_asked
    """Is called after every frame that is decoded, wanted or not."""
    develop: Callable[[Array], Array] = as_it_is
    """Turns what a file holds into what stages read."""

    @property
    def length(self) -> int:
        return self.tracks[0].length

    @property
    def rate_hz(self) -> float:
        return self.tracks[0].rate_hz

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[Frame]:
        """The frames at `wanted` (ascending, no repeats), one decode a track, read-only. Raises ClipError, DecoderFailed, Recounted."""
        for frame in zip(*(_aligned(track, wanted, self) for track in self.tracks), strict=True):
            developed = tuple(map(self.develop, frame))
            for image in developed:
                image.setflags(write=False)  # every stage is given the same
            yield developed


def decoded(
    paths: Sequence[Path],
    take: Callable[[Clip], T],
    *,
    modality: str = "",
    decord: bool = True,
    moved: Moved = not_asked,
    timelines: Timelines = timeline_of,
) -> T:
    """What `take` makes of a clip's frames, all of them from one decode; those of some modalities are mosaics.

    It is given the clip with decord, then with PyAV if that fails, and once more for each track whose packets lied. Raises ClipError.
    """
    lengths, mistimed = dict[Path, int](), set[Path]()

    def timeline(path: Path, moved: Moved, *, exact: bool = False) -> Timeline:
        return timelines(path, moved, exact=exact or path in mistimed)

    for _ in range(2 + len(paths)):
        clip = open_clip(paths, decord=decord, lengths=lengths, moved=moved, timelines=timeline)
        try:
            return take(replace(clip, develop=developer(modality)))
        except DecoderFailed:
            decord = False
        except Recounted as recount:
            decord, lengths[recount.path] = False, recount.length
        except Mistimed as error:
            mistimed.add(error.path)
    raise ClipError("its number of frames changes from one decode to the next")


def open_clip(
    paths: Sequence[Path], *, decord: bool, lengths: dict[Path, int], moved: Moved = not_asked, timelines: Timelines = timeline_of
) -> Clip:
    """The tracks of a clip without decoding them; `lengths` overrules what packets say. Raises ClipError with the reason."""
    return Clip(tuple(_open_track(path, decord, lengths.get(path), moved=moved, timelines=timelines) for path in paths), moved)


def _open_track(path: Path, decord: bool, length: int | None, *, moved: Moved, timelines: Timelines) -> Track:
    file, part = parted(path)
    path = Path(file)
    reader = reader_of(path)
    if reader is None or os.path.isfile(path):
        with media_errors(path):
            if path.stat().st_size == 0:
                raise ClipError(f"{path.name} is empty")
    if part:
        return _open_part(path, part, reader, moved, timelines)
    if reader:
        return Track(path, len(read_rows(path)), 0.0, reader)
    packets, rate, size = headers(path, moved)
    trusted = decord and length is None and size <= DECORD_BYTES and decord_is_exact(path, packets)
    return Track(path, packets if length is None else length, rate, "decord" if trusted else "pyav")


def expected_length(path: Path) -> tuple[int, float]:
    """Frames of a track and their rate; of a part of a video without reading more than the video's header. Raises ClipError."""
    file, part = parted(path)
    if part and reader_of(Path(file)) is None:
        return expected(Path(file), interval_of(part))
    track = _open_track(path, False, None, moved=not_asked, timelines=timeline_of)
    return track.length, track.rate_hz


def _open_part(path: Path, part: str, reader: Reader | None, moved: Moved, timelines: Timelines) -> Track:
    interval, timeline = interval_of(part), None
    if reader:
        frames, seconds = len(read_rows(path)), np.empty(0)
    else:
        timeline = timelines(path, moved)
        frames, seconds = timeline.frames, timeline.seconds
    start, end = frames_in(interval, frames, seconds, path.name)
    return Track(path, end - start, timeline.rate_hz if timeline else 0.0, reader or "pyav", start, timeline=timeline)


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
    if track.timeline:
        return between(track.path, track.timeline, wanted + track.start, moved=moved)
    if track.decoder == "decord":
        return by_decord(track.path, track.length, wanted, moved=moved)
    if track.decoder == "pyav":
        return by_pyav(track.path, track.length, wanted, moved=moved)
    if track.store:
        values = _cached(track)
        return (np.array(values[i]) for i in wanted)
    rows = read_rows(track.path)
    return (np.array(rows[i]) for i in wanted + track.start)


def _cached(track: Track) -> Array:
    """The rows of an upstream clip. What is wrong with the cache is raised as UserError: it is no failure of the clip."""
    every, end = open_shard(track.path.parent, track.store, track.path.name), track.start + track.length
    return checked_rows(every[track.start : end], track.checksum, track.path.parent, track.path.name, f"{track.start} to {end}")


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
