"""When each frame of a video is shown, as its packets say it or as a decode of all of it shows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.decoding.video import Moved, _container, media_errors
from pipeline.errors import ClipError

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

HIDING = frozenset({"vp8"})
"""Codecs whose packets may hold frames that are never shown."""


@dataclass(frozen=True)
class Timeline:
    """When the `frames` of a video are shown: `ticks`, ascending, of `tick` seconds each, the last one until `end`.

    `ticks` is empty where the file does not say: its frames follow each other at `rate_hz`, 0 where unknown. Decoding can begin at the
    packets of `keys`, by their ticks; `marks` tell which packets these are.
    """

    frames: int
    ticks: NDArray[np.int64]
    keys: NDArray[np.int64]
    marks: NDArray[np.uint64]
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
        others = [self.end, self.tick, self.rate_hz]
        np.savez(out, frames=self.frames, ticks=self.ticks, keys=self.keys, marks=self.marks, others=others)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Timeline:
        """What `as_bytes` was given of."""
        with np.load(io.BytesIO(content)) as said:
            return cls(int(said["frames"]), said["ticks"], said["keys"], said["marks"], *said["others"].tolist())


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
    ticks, keys, end = list[int](), dict[int, int](), 0
    for packet in container.demux(stream):
        moved()
        if not packet.size:
            continue
        if packet.pts is None:
            return None
        if packet.is_keyframe:
            keys[packet.pts] = mark_of(packet)
        if not packet.is_discard:
            ticks.append(packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
    is_reordered = any(after < before for before, after in pairwise(ticks))
    told = len(set(ticks)) == len(ticks) and stream.codec_context.name not in HIDING
    return _timeline(stream, sorted(ticks), keys, end) if told and is_reordered >= bool(stream.codec_context.has_b_frames) else None


def _by_decoding(container: InputContainer, stream: VideoStream, moved: Moved) -> Timeline:
    ticks, keys, end, frames = list[int](), dict[int, int](), 0, 0
    for packet in container.demux(stream):
        moved()
        if packet.is_keyframe and packet.size and packet.pts is not None:
            keys[packet.pts] = mark_of(packet)
        for frame in packet.decode():
            frames += 1
            if frame.pts is not None:
                ticks.append(frame.pts)
                end = max(end, frame.pts + (frame.duration or 0))
    ascends = len(ticks) == frames and all(before < after for before, after in pairwise(ticks))
    return _timeline(stream, ticks, keys, end) if ascends else replace(_timeline(stream, [], {}, 0), frames=frames)


def mark_of(packet: Packet[VideoStream]) -> int:
    """Tells a packet from others: after a seek, MPEG program streams give some the time of another."""
    return xxhash.xxh3_64_intdigest(bytes(packet), seed=max(packet.pos or 0, 0))


def _timeline(stream: VideoStream, ticks: list[int], keys: Mapping[int, int], end: float) -> Timeline:
    rate, tick = float(stream.average_rate or stream.guessed_rate or 0), float(stream.time_base or 0)
    if ticks and rate and end <= ticks[-1]:  # the last frame does not say how long it is shown
        end = ticks[-1] + 1 / (rate * tick)
    places = sorted(keys)
    marks = np.array([keys[place] for place in places], np.uint64)
    return Timeline(len(ticks), np.array(ticks, np.int64), np.array(places, np.int64), marks, end, tick, rate)
