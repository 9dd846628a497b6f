"""Rows of a window of frames, as the stages of a model would make them of a clip that holds just these frames."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from pipeline.cache.stage import Stage
from pipeline.errors import UserError
from pipeline.extraction.forward_passes import DEVICE_BATCH, launched
from pipeline.types import Array, Extractor, Forward, Frame, has_forward

Rows = Mapping[str, Array]
"""`{stage: (T, *row_shape)}`."""


class Source(Protocol):
    """What a stage that reads frames makes of those of a window."""

    def rows(self, first: int, stop: int, rate_hz: float) -> Array:
        """`(T, *row_shape)` of the frames that the stage selects from `first` up to `stop`."""


class Kept:
    """Rows of all frames that were made before."""

    def __init__(self, extractor: Extractor, rows: Array) -> None:
        self.extractor, self.of_frames = extractor, rows

    def rows(self, first: int, stop: int, rate_hz: float) -> Array:
        return self.of_frames[first + self.extractor.select(stop - first, rate_hz)]


class Streamed:
    """Rows made of frames as they come; what the stage prepared of the last `most` frames is kept, and a row once it was made.

    The stage must prepare an item of each frame before it takes the next: raises UserError where it looks ahead.
    """

    def __init__(self, stage: Stage, device: str, most: int) -> None:
        self.name, self.extractor, self.device = stage.name, stage.extractor, device
        self.forward = stage.extractor.load(device)
        self.items: deque[Array] = deque(maxlen=most)
        self.made: dict[tuple[int, int], Array] = {}
        self.stop = 0
        """Frames given so far."""
        self._waiting: Frame | None = None
        self._prepared = iter(stage.extractor.prepare(iter(self._taken, None)))

    def give(self, frame: Frame) -> None:
        """The next frame."""
        self._waiting = frame
        item = next(self._prepared, None)
        if item is None or self._waiting is not None:
            raise UserError(f"stage {self.name!r} prepares no item of each frame, so no long video; use a model of other stages")
        self._keep([np.asarray(item)], 1)

    def close(self) -> None:
        """Let go of what the stage holds: MediaPipe's graph never ends where Python ends first."""
        close = getattr(self._prepared, "close", None)
        if close:
            close()

    def repeat(self, times: int) -> None:
        """As many frames that nobody saw: each is taken to be as the one before."""
        self._keep([self.items[-1]] * times if self.items else [], times)

    def _keep(self, items: Sequence[Array], times: int) -> None:
        self.items.extend(items)
        self.stop += times
        oldest = self.stop - len(self.items)
        self.made = {frames: row for frames, row in self.made.items() if frames[0] >= oldest}

    def _taken(self) -> Frame | None:
        frame, self._waiting = self._waiting, None
        if frame is None:
            raise UserError(f"stage {self.name!r} reads a clip as a whole, so no long video; use a model of other stages")
        return frame

    def rows(self, first: int, stop: int, rate_hz: float) -> Array:
        oldest = self.stop - len(self.items)
        if not oldest <= first < stop <= self.stop:
            raise ValueError(f"frames {first}:{stop}, where {oldest}:{self.stop} are kept")
        frames = first + self.extractor.select(stop - first, rate_hz)
        windows = [tuple(frames[part].tolist()) for part in self.extractor.rows(len(frames))]
        missing = [key for key in dict.fromkeys(windows) if key not in self.made]
        inputs = [np.stack([self.items[i - oldest] for i in key]) if len(key) > 1 else self.items[key[0] - oldest] for key in missing]
        fresh = computed(self.extractor, self.forward, inputs, self.device)
        self.made.update(zip(missing, fresh, strict=True))
        return np.stack([self.made[key] for key in windows]) if windows else fresh


class Received(Streamed):
    """Rows that somebody else made of frames as they came, one of each; of a stage that `takes_rows`."""

    def give(self, frame: Frame) -> None:
        self._keep(frame, 1)


def takes_rows(extractor: Extractor) -> bool:
    """Whether what a stage prepares of each frame is a row already."""
    return not has_forward(extractor) and list(extractor.rows(2)) == [slice(0, 1), slice(1, 2)]


def computed(extractor: Extractor, forward: Forward | None, inputs: Sequence[Array], device: str) -> Array:
    """`(n, *row_shape)` rows of the items of each, passes as large as an extraction's."""
    shape, dtype = extractor.row_shape, extractor.dtype
    if not inputs:
        return np.empty((0, *shape), dtype)
    if forward is None:
        return np.stack(inputs).astype(dtype, copy=False).reshape(len(inputs), *shape)
    most = DEVICE_BATCH[device]
    parts = [np.stack(inputs[start : start + most]) for start in range(0, len(inputs), most)]
    return np.concatenate([launched(forward, part, device, most)() for part in parts]).astype(dtype, copy=False)


class Windows:
    """The rows of every stage that a model reads, by window. `sources` are those of the stages that read frames."""

    def __init__(self, stages: Sequence[Stage], sources: Mapping[str, Source], rate_hz: float, device: str) -> None:
        self.stages, self.sources, self.rate_hz, self.device = stages, sources, rate_hz, device
        derived = [link for stage in stages for link in stage.chain if link.upstream]
        self.forwards = {link.name: link.extractor.load(device) for link in derived}

    def rows(self, first: int, stop: int) -> Rows:
        """Raises ClipError where the frames give no rows."""
        known: dict[str, Array] = {}
        return {stage.name: self._rows(stage, first, stop, known) for stage in self.stages}

    def _rows(self, stage: Stage, first: int, stop: int, known: dict[str, Array]) -> Array:
        if stage.name not in known:
            if stage.upstream is None:
                known[stage.name] = self.sources[stage.name].rows(first, stop, self.rate_hz)
            else:
                above = self._rows(stage.upstream, first, stop, known)
                known[stage.name] = self._derived(stage, above, self.rate_hz * len(above) / (stop - first))
        return known[stage.name]

    def _derived(self, stage: Stage, above: Array, rate_hz: float) -> Array:
        extractor = stage.extractor
        chosen = (np.array(above[i]) for i in extractor.select(len(above), rate_hz).tolist())
        items = [np.asarray(item) for item in extractor.prepare((row,) for row in chosen)]
        parts = extractor.rows(len(items))
        inputs = [np.stack(items[part]) if part.stop - part.start > 1 else items[part.start] for part in parts]
        return computed(extractor, self.forwards[stage.name], inputs, self.device)


class Stream:
    """Frames as they come, given to the stages that read them, or rows of these to `Received`."""

    def __init__(self, stages: Sequence[Stage], device: str, most: int, kind: type[Streamed] = Streamed) -> None:
        self.sources = {stage.name: kind(stage, device, most) for stage in stages}
        self.stop = 0

    def close(self) -> None:
        for source in self.sources.values():
            source.close()

    def give(self, frame: Frame, number: int | None = None) -> None:
        """The next frame, or that with a later number: those between were dropped, and are taken to be as the one before."""
        number = self.stop if number is None else number
        for source in self.sources.values():
            source.repeat(number - source.stop)
            source.give(frame)
        self.stop = number + 1


def spans(frames: int, window: int, stride: int) -> Iterator[tuple[int, int]]:
    """Windows of a video in the order of their ends: one every `stride` frames as soon as there are `window` frames."""
    return ((stop - window, stop) for stop in range(window, frames + 1, stride))
