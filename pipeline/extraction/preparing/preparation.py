"""What a decode process does with one clip: hash it, decode it once, let every stage prepare its items, spool them to disk."""

from __future__ import annotations

import math
import pickle
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.identity import Fingerprint, refuse_changed
from pipeline.corpus.media import Stat, hashed, stat_of
from pipeline.decoding.decode import Clip, decoded
from pipeline.decoding.video import media_errors
from pipeline.errors import ClipError, UserError
from pipeline.machine import die_with_parent
from pipeline.types import Array, Extractor, Frame


@dataclass(frozen=True, slots=True)
class Job:
    """One clip's media, in the state that was planned, for the stages that need them; `spool` is the folder for the items.

    A derived stage's clip is given as `rows` of the stage that it derives from, with their key as `content`.
    """

    number: int
    id: str
    stages: Mapping[str, Extractor]
    spool: Path
    stat: Stat
    deadline_seconds: float
    paths: tuple[Path, ...] = ()
    decord: bool = True
    rows: Clip | None = None
    content: str = ""
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)
    """What its stages are: no other code makes its items."""

    def items_path(self, stage: str) -> Path:
        """The spool file of a stage's items."""
        return self.spool / f"{self.number}-{stage}"

    def moved(self) -> None:
        """From now on the clip has its whole deadline again."""
        signal.setitimer(signal.ITIMER_REAL, self.deadline_seconds)


@dataclass(frozen=True, slots=True)
class Items:
    """The `(n, *item_shape)` items of one stage in a spool file."""

    path: Path
    shape: tuple[int, ...]
    dtype: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Array:
        """`(len(part), *item_shape)`, read now, so a long clip costs no memory; a map of the file would be counted as ours."""
        start, stop, _ = part.indices(len(self))
        size = math.prod(self.shape[1:])
        values = np.fromfile(self.path, self.dtype, (stop - start) * size, offset=start * size * np.dtype(self.dtype).itemsize)
        return values.reshape(stop - start, *self.shape[1:])


@dataclass(slots=True)
class Prepared:
    """What a decode process found: the items of each stage, or why there are none."""

    content: str
    stat: Stat
    source_length: int = 0
    rate_hz: float = 0.0
    decoder: str = ""
    tracks: tuple[int, ...] = ()
    items: dict[str, Items] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def start_decoder() -> None:
    """Runs first in every decode process: it dies with its parent, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    die_with_parent()


def prepare_sent(sent: bytes) -> Prepared:
    """As `prepare_clip`, of a pickled job: that its stages cannot be imported any more is said as what it is."""
    try:
        job: Job = pickle.loads(sent)  # noqa: S301  # from the process that started this one
    except BaseException as error:  # a file that somebody is editing may raise anything
        said = f"a stage changed while it ran, and cannot be imported now: {type(error).__name__}: {error}"
        raise UserError(f"{said}; finished clips are kept, mend it, then run the same line again") from error
    return prepare_clip(job)


def prepare_clip(job: Job) -> Prepared:
    """Items of every stage, or the reason of each failure; what the disk refuses is raised.

    The kernel's alarm kills this process when nothing moves for `deadline_seconds`: a decoder may hang with the GIL held.
    """
    _refuse_changed(job)
    job.moved()
    prepared = Prepared(job.content, job.stat if job.rows else stat_of(job.paths))
    try:
        if job.rows:
            _run_stages(job, job.rows, prepared)
        else:
            with media_errors(job.paths[0]):
                prepared.content = hashed(job.paths, job.moved)
            decoded(job.paths, lambda clip: _run_stages(job, clip, prepared), decord=job.decord, moved=job.moved)
            if stat_of(job.paths) != prepared.stat:
                raise ClipError("the file changed while it was read")
    except (OSError, UserError):
        raise
    except BaseException as error:  # whatever a clip does to the code is its recorded failure
        prepared.items = {}
        prepared.failures = dict.fromkeys(job.stages, _phrase(error)) | prepared.failures
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    _refuse_changed(job)  # what was imported on the way
    return prepared


def _refuse_changed(job: Job) -> None:
    for name, said in job.fingerprints.items():
        if name in job.stages:
            refuse_changed(name, job.stages[name], said)


def _run_stages(job: Job, clip: Clip, prepared: Prepared) -> None:
    """One decode for all stages: every frame goes to the threads of the stages that selected it."""
    prepared.source_length, prepared.rate_hz = clip.length, clip.rate_hz
    prepared.decoder = "+".join(sorted({track.decoder for track in clip.tracks}))
    prepared.tracks = tuple(track.length for track in clip.tracks)
    feeds, failures = _feeds(job, clip)
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *(feed.wanted for feed in feeds)]))
    for feed in feeds:
        feed.start()
    end: BaseException | None = None
    try:
        for index, frame in zip(wanted.tolist(), clip.frames(wanted), strict=True):
            for feed in feeds:
                feed.give(index, frame)
    except BaseException as error:
        end = error
        raise
    finally:
        for feed in feeds:
            feed.finish(end)
    for feed in feeds:
        if feed.refused:
            raise feed.refused
    prepared.items = {feed.stage: feed.items() for feed in feeds if not feed.failure}
    prepared.failures = failures | {feed.stage: feed.failure for feed in feeds if feed.failure}


def _feeds(job: Job, clip: Clip) -> tuple[list[_Feed], dict[str, str]]:
    """The feeds of the stages, and why others cannot choose their frames."""
    feeds, failures = [], {}
    for name, extractor in job.stages.items():
        try:
            feeds.append(_Feed(job, name, extractor, clip))
        except BaseException as error:
            failures[name] = _phrase(error)
    return feeds, failures


def _phrase(error: BaseException) -> str:
    """A clip's own reason as it is; a stage's mistake with its kind."""
    return str(error) if isinstance(error, ClipError) else f"{type(error).__name__}: {error}"


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


class _Feed(threading.Thread):
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
            self.failure = _phrase(error)
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
