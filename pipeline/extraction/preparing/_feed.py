"""One stage that prepares its items, in a thread of its own, while the decoder goes on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from traceback import walk_tb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decoding.decode import Clip
from pipeline.errors import ClipError
from pipeline.extraction.preparing.jobs import Items, Job
from pipeline.types import Array, Extractor, Frame


class Feed(threading.Thread):
    """Runs `prepare` of one stage on the frames it is given and writes the items to its spool file."""

    def __init__(self, job: Job, stage: str, extractor: Extractor, clip: Clip) -> None:
        super().__init__(daemon=True)
        self.job, self.stage, self.extractor = job, stage, extractor
        self.wanted = _checked_selection(extractor.select(clip.length, clip.rate_hz), clip.length)
        self.times = dict(zip(*(part.tolist() for part in np.unique(self.wanted, return_counts=True)), strict=True))
        self.path = job.items_path(stage)
        self.frames: queue.Queue[Frame | BaseException | None] = queue.Queue(maxsize=4)
        self.failure = ""
        self.refused: OSError | None = None
        self.count, self.shape, self.dtype = 0, tuple[int, ...](), "|u1"

    def give(self, index: int, frame: Frame) -> None:
        for _ in range(self.times.get(index, 0)):
            self.frames.put(frame)

    def finish(self, end: BaseException | None) -> None:
        self.frames.put(end)
        self.join()

    def items(self) -> Items:
        return Items(self.path, (self.count, *self.shape), self.dtype)

    def run(self) -> None:
        received = iter(self._next, None)
        try:
            with self._disk(open, self.path, "wb") as spool:
                for item in _whole(iter(self.extractor.prepare(received))):
                    self._disk(spool.write, self._checked(item).data)
                    self.job.moved()
                self._disk(spool.flush)
        except BaseException as error:  # a stage's own mistake, an exit too, is this clip's recorded failure
            self.failure = phrase(error)
        for _ in received:
            pass  # never leave the decoder waiting for a stage that has ended

    def _next(self) -> Frame | None:
        frame = self.frames.get()
        self.job.moved()
        return None if isinstance(frame, BaseException) else frame

    def _disk(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What the disk refuses ends the run, not the clip."""
        try:
            return act(*arguments)
        except OSError as error:
            self.refused = error
            raise

    def _checked(self, item: Array) -> Array:
        item = np.ascontiguousarray(item)
        if item.dtype.kind not in "biufc":
            raise ClipError(f"{self.stage} prepared items of {item.dtype}; expected numbers")
        if self.count and (item.shape, item.dtype.str) != (self.shape, self.dtype):
            raise ClipError(f"{self.stage} prepared items of {self.shape} and of {item.shape} from one clip")
        self.shape, self.dtype, self.count = item.shape, item.dtype.str, self.count + 1
        return item


def _checked_selection(selected: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    wanted = np.asarray(selected)
    if len(wanted) and wanted.dtype.kind not in "iu":
        raise ClipError(f"its selection is of {wanted.dtype}; expected whole numbers")
    wanted = wanted.astype(np.int64)
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= length or (np.diff(wanted) < 0).any()):
        raise ClipError(f"its selection {wanted[0]}..{wanted[-1]} is not ascending within {length} frames")
    return wanted


def _whole(items: Iterator[Array]) -> Iterator[Array]:
    """All items of `prepare`: `map` and its like take a StopIteration of what they call for their own end, which this refuses."""
    while True:
        try:
            item = next(items)
        except StopIteration as end:
            _, *below = (frame.f_code.co_name for frame, _ in walk_tb(end.__traceback__))
            if below and below[-1] != "__next__":
                raise RuntimeError("prepare raised StopIteration") from end
            return
        yield item


def phrase(error: BaseException) -> str:
    """A clip's own reason as it is; a stage's mistake with its kind."""
    return str(error) if isinstance(error, ClipError) else f"{type(error).__name__}: {error}"
