"""Parts of long files: which frames an interval is, and decoding them from the key frame before."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.intervals import Interval
from pipeline.decoding.timeline import Timeline, mark_of
from pipeline.decoding.video import Moved, _container, _upright, media_errors
from pipeline.errors import ClipError
from pipeline.types import Array

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

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


def expected(path: Path, interval: Interval) -> tuple[int, float]:
    """Frames of a part of a video and their rate, as far as its header lets expect: nothing else is read. Raises ClipError."""
    with media_errors(path), _container(path) as (_, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 0)
    return round((interval.end - interval.start) * (rate if interval.unit == "t" else 1)), rate


def frames_in(interval: Interval, frames: int, seconds: NDArray[np.float64], name: str) -> tuple[int, int]:
    """`[start, end)` of an interval in the frames of a file that it is a part of; raises ClipError where it is none.

    In seconds, those that begin in it; `seconds` are `(frames + 1,)`, or empty where the file does not tell.
    """
    known = len(seconds) > 0
    wrong = {
        "it does not say when each is shown, so give start_frame and end_frame": interval.unit == "t" and not known,
        "an interval begins at 0 or later": interval.start < 0,
        "an interval ends after it begins": interval.end < interval.start,
        "an interval is not empty": interval.end == interval.start,
        "that is beyond its end": interval.end > (seconds[-1] + TOLERANCE if known and interval.unit == "t" else frames),
    }
    start, end = int(interval.start), int(interval.end)
    if interval.unit == "t" and known:
        start, end = np.searchsorted(seconds[:-1], [interval.start - TOLERANCE, interval.end - TOLERANCE]).tolist()
        wrong["no frame begins in it"] = start == end
    for why, is_so in wrong.items():
        if is_so:
            has = f"{frames} frames, {seconds[-1]:.3f} s" if known else f"{frames} frames"
            raise ClipError(f"{interval.phrase} of {name}, which has {has}: {why}")
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
    keys = int(np.searchsorted(timeline.keys, timeline.ticks[first], side="right"))
    places = [keys - back for back in BACK if back < keys]
    for key in [*((int(timeline.keys[place]), int(timeline.marks[place])) for place in places), None]:
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


def _decoded(path: Path, key: tuple[int, int] | None, moved: Moved) -> Iterator[VideoFrame]:
    """The frames from that of a key frame on, without those before it that are decoded after it; from the start without one.

    None where a seek does not find it.
    """
    with _container(path) as (container, stream):
        packets = container.demux(stream) if key is None else _sought(container, stream, key)
        for packet in packets:
            moved()
            for frame in packet.decode():
                if key is None or (frame.pts is not None and frame.pts >= key[0]):
                    yield frame


def _sought(container: InputContainer, stream: VideoStream, key: tuple[int, int]) -> Iterator[Packet[VideoStream]]:
    """The packets from that of a key frame on, by its tick and mark; none where a seek does not lead to it."""
    import av

    tick, mark = key
    try:
        container.seek(tick, stream=stream)
    except av.FFmpegError:  # in such a file nothing can be sought
        return
    packets = container.demux(stream)
    for packet in packets:
        if packet.is_keyframe and packet.size and packet.pts is not None and packet.pts >= tick:
            if packet.pts == tick and mark_of(packet) == mark:
                yield packet
                yield from packets
            return
