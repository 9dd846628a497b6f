"""What a decode process does with one clip: hash it, decode it once, let every stage prepare its items, spool them to disk."""

from __future__ import annotations

import math
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.decode import Clip, DecoderFailed, Recounted, open_clip
from pipeline.errors import ClipError, UserError
from pipeline.machine import die_with_parent
from pipeline.media import Stat, content_of, stat_of
from pipeline.types import Array, Extractor, Frame


@dataclass(frozen=True, slots=True)
class Job:
    """One clip's media for the stages that need them; `spool` is the folder for the items.

    A derived stage's clip is given as `rows` of the stage that it derives from, with their key in place of a content hash.
    """

    number: int
    id: str
    stages: Mapping[str, Extractor]
    spool: Path
    deadline_seconds: float
    paths: tuple[Path, ...] = ()
    decord: bool = True
    rows: Clip | None = None
    key: tuple[str, Stat] | None = None


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


def prepare_clip(job: Job) -> Prepared:
    """Items of every stage, or the reason of each failure; what the disk refuses is raised.

    The kernel's alarm kills this process when nothing moves for `deadline_seconds`: a decoder may hang with the GIL held.
    """
    _progress(job)
    content, stat = job.key or ("", stat_of(job.paths))
    prepared = Prepared(content or content_of(job.paths), stat)
    try:
        _decode(job, prepared)
        if job.key is None and stat_of(job.paths) != stat:
            raise ClipError("the file changed while it was read")
    except (OSError, UserError):
        raise
    except Exception as error:  # whatever a clip does to the code is its recorded failure
        reason = str(error) if isinstance(error, ClipError) else f"{type(error).__name__}: {error}"
        prepared.items = {}
        prepared.failures = dict.fromkeys(job.stages, reason) | prepared.failures
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return prepared


def _progress(job: Job) -> None:
    signal.setitimer(signal.ITIMER_REAL, job.deadline_seconds)


def _decode(job: Job, prepared: Prepared) -> None:
    """Decodes with decord, then with PyAV if that fails, and once more for each track whose packets lied."""
    decord, lengths = job.decord, dict[Path, int]()
    for _ in range(2 + len(job.paths)):
        clip = job.rows or open_clip(job.paths, decord=decord, lengths=lengths)
        try:
            _run_stages(job, clip, prepared)
            break
        except DecoderFailed:
            decord = False
        except Recounted as recount:
            decord, lengths[recount.path] = False, recount.length
    else:
        raise ClipError("its number of frames changes from one decode to the next")
    prepared.source_length, prepared.rate_hz = clip.length, clip.rate_hz
    prepared.decoder = "+".join(sorted({track.decoder for track in clip.tracks}))
    prepared.tracks = tuple(track.length for track in clip.tracks)


def _run_stages(job: Job, clip: Clip, prepared: Prepared) -> None:
    """One decode for all stages: every frame goes to the threads of the stages that selected it."""
    feeds, failures = _feeds(job, clip)
    wanted = np.unique(np.concatenate([np.empty(0, np.int64), *(feed.wanted for feed in feeds)]))
    for feed in feeds:
        feed.start()
    end: BaseException | None = None
    try:
        for index, frame in zip(wanted.tolist(), clip.frames(wanted), strict=True):
            _progress(job)
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
        except Exception as error:
            failures[name] = _phrase(error)
    return feeds, failures


def _phrase(error: Exception) -> str:
    """A clip's own reason as it is; a stage's mistake with its kind."""
    return str(error) if isinstance(error, ClipError) else f"{type(error).__name__}: {error}"


def _checked_selection(wanted: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= length or (np.diff(wanted) < 0).any()):
        raise ClipError(f"its selection {wanted[0]}..{wanted[-1]} is not ascending within {length} frames")
    return wanted


class _Feed(threading.Thread):
    """Runs `prepare` of one stage on the frames it is given and writes the items to its spool file."""

    def __init__(self, job: Job, stage: str, extractor: Extractor, clip: Clip) -> None:
        super().__init__(daemon=True)
        self.job, self.stage, self.extractor = job, stage, extractor
        self.wanted = _checked_selection(extractor.select(clip.length, clip.rate_hz), clip.length)
        self.times = dict(zip(*(part.tolist() for part in np.unique(self.wanted, return_counts=True)), strict=True))
        self.path = job.spool / f"{job.number}-{stage}"
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
        received = self._received()
        try:
            with self._disk(open, self.path, "wb") as spool:
                for item in self.extractor.prepare(received):
                    self._disk(spool.write, self._checked(item).data)
                    _progress(self.job)
                self._disk(spool.flush)
        except Exception as error:  # a stage's own mistake is this clip's recorded failure
            self.failure = _phrase(error)
        for _ in received:
            pass  # never leave the decoder waiting for a stage that has ended

    def _received(self) -> Iterator[Frame]:
        while (frame := self.frames.get()) is not None:
            if isinstance(frame, BaseException):
                return
            yield frame

    def _disk(self, act: Callable[..., Any], *arguments: Any) -> Any:
        """What the disk refuses ends the run, not the clip."""
        try:
            return act(*arguments)
        except OSError as error:
            self.refused = error
            raise

    def _checked(self, item: Array) -> Array:
        item = np.ascontiguousarray(item)
        if self.count and (item.shape, item.dtype.str) != (self.shape, self.dtype):
            raise ClipError(f"{self.stage} prepared items of {self.shape} and of {item.shape} from one clip")
        self.shape, self.dtype, self.count = item.shape, item.dtype.str, self.count + 1
        return item
