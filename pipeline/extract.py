"""Stage one: decode processes prepare clips, the device turns them into rows, shards are written, then published in one step."""

from __future__ import annotations

import errno
import multiprocessing
import os
import queue
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from filelock import FileLock, Timeout
from pebble import ProcessExpired, ProcessPool

from pipeline import __version__
from pipeline.cache import publish
from pipeline.configured import Stage
from pipeline.decode import Clip, Track
from pipeline.errors import UserError
from pipeline.index import Entry
from pipeline.lanes import Lane
from pipeline.manifest import Home, Manifest
from pipeline.media import stat_of
from pipeline.plan import StagePlan, derived_content, derived_stat, plan, settle
from pipeline.progress import Progress
from pipeline.shards import Failure
from pipeline.spool import Job, Prepared, prepare_clip, start_decoder
from pipeline.types import Extractor

SPOOL_PREFIX = ".spool-"
SPOOL_BYTES = 2 << 30
"""Prepared items that may wait on disk for the device before decoding pauses."""


@dataclass(frozen=True)
class Options:
    """How an extraction runs; nothing here is part of a stage's identity."""

    device: str = "auto"
    store: str = "zarr"
    limit: int | None = None
    only: Sequence[str] = ()
    retry_failed: bool = False
    rehash: bool = False
    deadline_seconds: float = 60.0


@dataclass
class Outcome:
    """What an extraction did: rows made and new failures by stage."""

    extracted: dict[str, int] = field(default_factory=dict)
    failed: dict[str, list[Failure]] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)


def extract(home: Home, table: Manifest, stages: Sequence[Stage], options: Options, progress: Progress) -> Outcome:
    """Do exactly what `plan` says, stages that derive from others after these, and publish each stage that is complete.

    Raises UserError for what a user can mend; KeyboardInterrupt leaves every finished clip in the cache.
    """
    outcome = Outcome()
    for depth in range(1 + max(map(_depth, stages), default=0)):
        level = [stage for stage in stages if _depth(stage) == depth]
        with _locked(home, level), _disk_errors(home):
            plans = {
                name: _chosen(settle(result, table, rehash=options.rehash), options)
                for name, result in plan(home, table, level, retry_failed=options.retry_failed).items()
            }
            if any(result.todo for result in plans.values()):
                _run(home, table, plans, options, progress, outcome)
            for result in plans.values():
                _publish(home, table, result, outcome)
    return outcome


def _depth(stage: Stage) -> int:
    return 1 + _depth(stage.upstream) if stage.upstream else 0


def _chosen(result: StagePlan, options: Options) -> StagePlan:
    """The plan cut down to `--only` and `--limit`."""
    known = {*result.fresh, *(todo.sample.id for todo in result.todo), *(failure.id for failure in result.failed)}
    for clip in options.only:
        if clip not in known:
            raise UserError(f"--only {clip}: no such clip in {result.stage.dataset!r}; ids are in manifests/{result.stage.dataset}.csv")
    todo = [item for item in result.todo if not options.only or item.sample.id in options.only]
    return replace(result, todo=todo[: options.limit])


@contextmanager
def _locked(home: Home, stages: Iterable[Stage]) -> Iterator[None]:
    with ExitStack() as stack:
        for stage in sorted(stages, key=lambda stage: stage.name):
            folder = home.cache / stage.dataset / stage.name
            with _disk_errors(home):
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(FileLock(folder / ".lock", timeout=0))
                except Timeout:
                    raise UserError(
                        f"another extraction of {stage.dataset}/{stage.name} is running; wait for it, then run this again"
                    ) from None
        yield


@contextmanager
def _disk_errors(home: Home) -> Iterator[None]:
    """What the disk refuses, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG):
            raise UserError(
                f"cannot write to the cache {home.cache}: {error.strerror}; finished clips are kept, run the same line again"
            ) from error
        raise


def _run(home: Home, table: Manifest, plans: Mapping[str, StagePlan], options: Options, progress: Progress, outcome: Outcome) -> None:
    """One pass over the clips: a decode for all stages of a modality, then each stage's lane."""
    device, threads = _device(options.device, plans.values()), cores()
    attempts = {(name, todo.sample.id): todo.attempts for name, result in plans.items() for todo in result.todo}
    spool = _spool([home.cache / table.name / name for name in plans])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pipeline.spool", "PIL.Image"])
    writer = ThreadPoolExecutor(1, "shard-writer")
    pool = ProcessPool(max_workers=threads, initializer=start_decoder, context=context)
    lanes: dict[str, Lane] = {}
    try:
        progress.start({name: len(result.todo) for name, result in plans.items() if result.todo})
        prepared = _Decoding(pool, _jobs(home, table, plans, spool, options), ahead=2 * threads + 2)
        made = {"device": device, "threads": threads, "signcache": __version__}
        for name, result in plans.items():
            if result.todo:
                forward = result.stage.extractor.load(device)
                lanes[name] = Lane(result.stage, result.stage.folder(home), forward, device, options.store, made, writer)
        for job, found in prepared:
            for name in job.stages:
                items = 0
                if name in found.failures:
                    failure = _failure(job, found, found.failures[name], attempts[name, job.id])
                    lanes[name].fail(failure)
                    outcome.failed.setdefault(name, []).append(failure)
                else:
                    items = found.items[name].shape[0]
                    lanes[name].add(job.number, job.id, found)
                    outcome.extracted[name] = outcome.extracted.get(name, 0) + 1
                progress.advance(name, failed=name in found.failures, frames=items)
        for lane in lanes.values():
            lane.close()
    except BaseException:
        for lane in lanes.values():
            lane.salvage()
        raise
    finally:
        pool.stop()  # type: ignore[no-untyped-call]
        pool.join()
        writer.shutdown()
        progress.stop()
        shutil.rmtree(spool, ignore_errors=True)
    for lane in lanes.values():
        lane.finish()


def _device(asked: str, plans: Iterable[StagePlan]) -> str:
    """`cpu` or `cuda`; torch is asked only where a stage to do has a forward pass."""
    if not any(type(result.stage.extractor).load is not Extractor.load for result in plans if result.todo):
        return "cpu"
    import torch

    torch.set_num_threads(cores())
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _spool(folders: Sequence[Path]) -> Path:
    """A new folder for items. What lies in these locked stages' folders from before belongs to runs that were killed."""
    for folder in folders:
        for leftover in folder.glob(f"{SPOOL_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=SPOOL_PREFIX, dir=folders[0]))


def _jobs(home: Home, table: Manifest, plans: Mapping[str, StagePlan], spool: Path, options: Options) -> Iterator[Job]:
    """One job a clip and modality, for all the stages that want it, in the order of the manifest."""
    wanted: dict[tuple[str, str], dict[str, StagePlan]] = {}
    for name, result in plans.items():
        for todo in result.todo:
            wanted.setdefault((todo.sample.id, result.stage.extractor.source), {})[name] = result
    samples = {sample.id: sample for sample in table.samples}
    rows = {result.stage.upstream.name: result.inputs for result in plans.values() if result.stage.upstream}
    places = {sample.id: place for place, sample in enumerate(table.samples)}
    for number, (clip, source) in enumerate(sorted(wanted, key=lambda pair: places[pair[0]])):
        results = wanted[clip, source]
        stages = {name: result.stage.extractor for name, result in results.items()}
        job = Job(number, clip, stages, spool, options.deadline_seconds)
        upstream = next(iter(results.values())).stage.upstream
        if upstream is None:
            yield replace(job, paths=table.paths(samples[clip], source))
        else:
            yield _derived(home, job, upstream, rows[upstream.name][clip])


def _derived(home: Home, job: Job, upstream: Stage, entry: Entry) -> Job:
    """The job on an upstream row in place of media; its rate is that of the rows."""
    row, shard = entry
    rate_hz = row.rate_hz * row.length / row.source_length if row.source_length else row.rate_hz
    track = Track(upstream.folder(home) / str(shard.file), row.length, rate_hz, "cache", row.start, shard.store)
    return replace(job, rows=Clip((track,)), key=(derived_content(upstream, entry), derived_stat(upstream, entry)))


class _Decoding:
    """Prepared clips as they get ready, never more than `ahead` of the device nor, once it has work, SPOOL_BYTES on disk."""

    def __init__(self, pool: ProcessPool, jobs: Iterator[Job], ahead: int) -> None:
        self.pool, self.jobs, self.ahead = pool, jobs, ahead
        self.done: queue.Queue[tuple[Job, Future[Prepared], int]] = queue.Queue()
        self.running = 0
        self.spooled = 0
        self.lock = threading.Lock()
        self._fill()

    def __iter__(self) -> Iterator[tuple[Job, Prepared]]:
        while self.running:
            job, future, size = self.done.get()
            self.running -= 1
            try:
                found = future.result()
            except ProcessExpired as error:
                found = self._crashed(job, error)
            if found is not None:
                yield job, found
            with self.lock:
                self.spooled -= size
            self._fill()

    def _fill(self) -> None:
        while self.running < self.ahead and (self.spooled < SPOOL_BYTES or not self.running):
            job = next(self.jobs, None)
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        self.running += 1
        self.pool.schedule(prepare_clip, args=(job,)).add_done_callback(lambda future: self._ready(job, future))

    def _ready(self, job: Job, future: Future[Prepared]) -> None:
        files = [job.spool / f"{job.number}-{name}" for name in job.stages]
        size = sum(file.stat().st_size for file in files if file.exists())
        with self.lock:
            self.spooled += size
        self.done.put((job, future, size))

    def _crashed(self, job: Job, error: ProcessExpired) -> Prepared | None:
        """After a crash each stage of the clip is tried alone once, without decord; after that it has failed."""
        if job.decord:
            for name, extractor in job.stages.items():
                self._start(replace(job, stages={name: extractor}, decord=False))
            return None
        content, stat = job.key or ("", stat_of(job.paths))
        return Prepared(content, stat, failures=dict.fromkeys(job.stages, _death(job, error.exitcode)))


def _death(job: Job, exitcode: int | None) -> str:
    if exitcode == -signal.SIGALRM:
        return f"its decoding made no progress for {job.deadline_seconds:g} s"
    if exitcode is not None and exitcode < 0:
        return f"its decoding process was killed by {signal.Signals(-exitcode).name}"
    return f"its decoding process ended with status {exitcode}"


def _failure(job: Job, found: Prepared, reason: str, attempts: int) -> Failure:
    decoder = found.decoder or ("decord" if job.decord else "pyav")
    return Failure(job.id, reason, decoder, attempts + 1, found.content, found.stat.token, found.stat.size)


def _publish(home: Home, table: Manifest, result: StagePlan, outcome: Outcome) -> None:
    """Publish what is finished, unless clips are still to do of an identity that would replace a published one."""
    fresh = plan(home, table, [result.stage])[result.stage.name]
    after = replace(fresh, found=result.found, todo=[todo for todo in fresh.todo if todo.sample.id not in result.found])
    if after.todo and after.before and not after.is_published:
        outcome.unpublished[result.stage.name] = len(after.todo)
        return
    if not after.needs_publishing:
        return
    bound: dict[str, Entry] = {}
    for sample in table.samples:
        stat = after.stats.get(sample.id)
        entry = result.found.get(sample.id) or (after.done.entry(sample.id, stat.token) if stat else None)
        if entry:
            bound[sample.id] = entry
    publish(home, result.stage, after.done, bound, after.failed)
