"""Parts of long videos: when each frame is shown, which frames an interval is, and decoding from the key frame before it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.intervals import Interval
from pipeline.decoding.video import Moved, _container, _upright, media_errors
from pipeline.errors import ClipError
from pipeline.types import Array

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

HIDING = frozenset({"vp8"})
"""Codecs whose packets may hold frames that are never shown."""
TOLERANCE = 0.001
"""Seconds by which a frame may come early: containers round its time to a millisecond."""
BACK = (1, 2, 4, 8)
"""Of the key frames up to the wanted one, counted from the last, those that decoding begins at in turn; then the file's first frame."""


class Mistimed(Exception):
    """Frames of `path` are not shown when its packets say: its timeline is to be had by decoding it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path.name} shows frames at other times than it says"


@dataclass(frozen=True)
class Timeline:
    """When the `frames` of a video are shown: `ticks`, ascending, of `tick` seconds each, the last one until `end`.

    `ticks` is empty where the file does not say: its frames follow each other at `rate_hz`, 0 where unknown. `keys` are the ticks at
    which decoding can begin.
    """

    frames: int
    ticks: NDArray[np.int64]
    keys: NDArray[np.int64]
    end: float
    tick: float
    rate_hz: float

    @property
    def seconds(self) -> NDArray[np.float64]:
        """`(frames + 1,)`: when each frame is shown, and when the last one ends, from the first one on; empty where nothing tells."""
        if len(self.ticks):
            return np.asarray((np.append(self.ticks, self.end) - self.ticks[0]) * self.tick)
        return np.arange(self.frames + 1) / self.rate_hz if self.rate_hz else np.empty(0)

    def as_bytes(self) -> bytes:
        """What `from_bytes` takes."""
        out = io.BytesIO()
        np.savez(out, frames=self.frames, ticks=self.ticks, keys=self.keys, others=[self.end, self.tick, self.rate_hz])
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Timeline:
        """What `as_bytes` was given of."""
        with np.load(io.BytesIO(content)) as said:
            return cls(int(said["frames"]), said["ticks"], said["keys"], *said["others"].tolist())


class Timelines(Protocol):
    """The timeline of a video by its packets, or `exact`, by decoding all of it."""

    def __call__(self, path: Path, moved: Moved, *, exact: bool = False) -> Timeline: ...


def timeline_of(path: Path, moved: Moved, *, exact: bool = False) -> Timeline:
    """The timeline by the packets of a video, or by decoding it, also where packets do not tell. Raises ClipError."""
    with media_errors(path), _container(path) as (container, stream):
        found = _by_decoding(container, stream, moved) if exact else _by_packets(container, stream, moved)
    if found is None:
        return timeline_of(path, moved, exact=True)
    if not found.frames:
        raise ClipError(f"{path.name} holds no frames")
    return found


def _by_packets(container: InputContainer, stream: VideoStream, moved: Moved) -> Timeline | None:
    """None where a packet may be no frame, or does not say when it is shown: AVI gives the times of decoding for those."""
    ticks, keys, end = list[int](), list[int](), 0
    for packet in container.demux(stream):
        moved()
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        if packet.is_keyframe:
            keys.append(packet.pts)
        if not packet.is_discard:
            ticks.append(packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
    is_reordered = any(after < before for before, after in pairwise(ticks))
    told = len(set(ticks)) == len(ticks) and stream.codec_context.name not in HIDING
    return _timeline(stream, sorted(ticks), keys, end) if told and is_reordered >= bool(stream.codec_context.has_b_frames) else None


def _by_decoding(container: InputContainer, stream: VideoStream, moved: Moved) -> Timeline:
    ticks, keys, end, frames = list[int](), list[int](), 0, 0
    for frame in container.decode(stream):
        moved()
        frames += 1
        if frame.pts is not None:
            ticks.append(frame.pts)
            end = max(end, frame.pts + (frame.duration or 0))
            if frame.key_frame:
                keys.append(frame.pts)
    ascends = len(ticks) == frames and all(before < after for before, after in pairwise(ticks))
    return _timeline(stream, ticks, keys, end) if ascends else replace(_timeline(stream, [], [], 0), frames=frames)


def _timeline(stream: VideoStream, ticks: list[int], keys: list[int], end: float) -> Timeline:
    rate, tick = float(stream.average_rate or stream.guessed_rate or 0), float(stream.time_base or 0)
    if ticks and rate and end <= ticks[-1]:  # the last frame does not say how long it is shown
        end = ticks[-1] + 1 / (rate * tick)
    return Timeline(len(ticks), np.array(ticks, np.int64), np.array(sorted(keys), np.int64), end, tick, rate)


def frames_in(interval: Interval, frames: int, seconds: NDArray[np.float64], name: str) -> tuple[int, int]:
    """`[start, end)` of an interval in the frames of a file that it is a part of; raises ClipError where it is none.

    In seconds, those that begin in it; `seconds` are `(frames + 1,)`, or empty where the file does not tell.
    """
    known = len(seconds) > 0
    has = f"it has {frames} frames" + (f", {seconds[-1]:.3f} s" if known else "")
    what = f"{interval.phrase} of {name}"
    if interval.unit == "t" and not known:
        raise ClipError(f"{what}: {has}, and does not say when each is shown; give start_frame and end_frame")
    last = seconds[-1] + TOLERANCE if interval.unit == "t" else frames
    wrong = {
        "begins before its first frame": interval.start < 0,
        "ends before it begins": interval.end < interval.start,
        "is empty": interval.end == interval.start,
        "goes beyond its end": interval.end > last,
    }
    for why, is_so in wrong.items():
        if is_so:
            raise ClipError(f"{what} {why}; {has}")
    if interval.unit == "frames":
        return int(interval.start), int(interval.end)
    start, end = np.searchsorted(seconds[:-1], [interval.start - TOLERANCE, interval.end - TOLERANCE]).tolist()
    if start == end:
        raise ClipError(f"{what}: no frame begins in it; {has}")
    return start, end


def between(path: Path, timeline: Timeline, wanted: NDArray[np.int64], *, moved: Moved) -> Iterator[Array]:
    """The `wanted` frames (ascending, no repeats), decoded in turn from a key frame before the first; raises Mistimed, ClipError."""
    keep = set(wanted.tolist())
    if not keep:
        return
    with media_errors(path):
        for number, frame in _from(path, timeline, int(wanted[0]), moved):
            if number in keep:
                yield _upright(frame)
            if number == wanted[-1]:
                return
    raise Mistimed(path)


def _from(path: Path, timeline: Timeline, first: int, moved: Moved) -> Iterator[tuple[int, VideoFrame]]:
    """Frames with their numbers, none left out, from one that is not after the `first` wanted."""
    if not len(timeline.ticks):
        yield from enumerate(_decoded(path, None, moved))
        return
    keys = timeline.keys[timeline.keys <= timeline.ticks[first]].tolist()
    for key in [*(keys[-back] for back in BACK if back < len(keys)), None]:
        frames = _decoded(path, key, moved)
        head = next(frames, None)
        if head is not None and head.pts is not None and head.pts <= timeline.ticks[first]:
            break
    else:
        raise Mistimed(path)
    for number, frame in enumerate(chain([head], frames), int(np.searchsorted(timeline.ticks, head.pts))):
        if number == timeline.frames or timeline.ticks[number] != frame.pts:
            raise Mistimed(path)
        yield number, frame


def _decoded(path: Path, key: int | None, moved: Moved) -> Iterator[VideoFrame]:
    """The frames from that of a key frame on, without those before it that are decoded after it; from the start without one."""
    import av

    with _container(path) as (container, stream):
        if key is not None:
            try:
                container.seek(key, stream=stream)
            except av.FFmpegError:  # not in this file
                return
        begun = key is None
        for packet in container.demux(stream):
            moved()
            begun = begun or packet.is_keyframe or not packet.size
            for frame in packet.decode() if begun else ():
                if key is None or (frame.pts is not None and frame.pts >= key):
                    yield frame
