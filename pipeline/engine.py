"""The engine: decode processes prepare clips, the device turns them into rows, a thread writes shards, all at the same time."""

from __future__ import annotations

import multiprocessing
import pickle
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from pebble import ProcessExpired, ProcessPool

from pipeline import __version__
from pipeline.configured import Stage
from pipeline.errors import UserError
from pipeline.fingerprint import refuse_changed
from pipeline.lanes import Lane
from pipeline.machine import use_float32
from pipeline.shards import Failure
from pipeline.spool import Job, Prepared, prepare_sent, start_decoder
from pipeline.types import Extractor, Forward

SPOOL_BYTES = 2 << 30
"""Prepared items that may wait on disk for the device before decoding pauses."""
Report: TypeAlias = Callable[[str, int, Failure | None], None]
"""Is told of each clip of each stage: the stage, how many items it had, and its failure."""


@dataclass(frozen=True)
class Work:
    """What an engine needs besides its jobs: small, and the same on every worker."""

    stages: Mapping[str, Stage]
    folders: Mapping[str, Path]
    attempts: Mapping[tuple[str, str], int]
    device: str
    threads: int
    decoders: int
    store: str


class Engine:
    """Takes jobs to shards. Weights load once, decode processes start once, however often it runs."""

    def __init__(self, work: Work) -> None:
        self.work = work
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["pipeline.newborn", "pipeline.spool", "PIL.Image"])
        _start_fork_server()
        self.writer = ThreadPoolExecutor(1, "shard-writer")
        self.pool = ProcessPool(max_workers=work.decoders, initializer=start_decoder, context=context)
        self.forwards: dict[str, Forward | None] = {}

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()
        self.writer.shutdown()

    def run(self, jobs: Iterator[Job], report: Report) -> None:
        """Every clip of `jobs` lies in a finished shard or is a recorded failure when this returns.

        An exception, Ctrl-C too, leaves the clips that were whole in finished shards.
        """
        decoding = _Decoding(self.pool, jobs, ahead=2 * self.work.decoders + 2)
        lanes: dict[str, Lane] = {}
        try:
            with _asked_to_stop(decoding.stop):
                lanes = {name: self._lane(name) for name in self.work.stages}
                for job, found in decoding:
                    self._take(job, found, lanes, report)
                for lane in lanes.values():
                    lane.close()
        except BaseException:
            for lane in lanes.values():
                lane.salvage()
            raise
        for lane in lanes.values():
            lane.finish()

    def _lane(self, name: str) -> Lane:
        work, stage = self.work, self.work.stages[name]
        if name not in self.forwards:
            if has_forward(stage.extractor):
                use_threads(work.threads)
            self.forwards[name] = _loaded(stage, work.device)
        made = {"device": work.device, "threads": work.threads, "signcache": __version__}
        made |= {"stage": stage.kind, "settings": stage.settings}
        return Lane(stage, work.folders[name], self.forwards[name], work.device, work.store, made, self.writer)

    def _take(self, job: Job, found: Prepared, lanes: Mapping[str, Lane], report: Report) -> None:
        """One prepared clip: rows or a failure for each of its stages."""
        for name in job.stages:
            if name in found.failures:
                failure = _failure(job, found, found.failures[name], self.work.attempts.get((name, job.id), 0))
                lanes[name].fail(failure)
                report(name, 0, failure)
            else:
                lanes[name].add(job.number, job.id, found)
                report(name, found.items[name].shape[0], None)


def _start_fork_server() -> None:
    """Decode processes are forked from a server that never sees Ctrl-C: while it imports it would print its traceback."""
    resource_tracker.ensure_running()  # first, because starting it unblocks the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _loaded(stage: Stage, device: str) -> Forward | None:
    try:
        forward = stage.extractor.load(device)
    except (UserError, OSError):
        raise
    except Exception as error:  # a stage that somebody is writing may raise anything
        raise UserError(f"stage {stage.name!r} cannot be loaded: {type(error).__name__}: {error}") from error
    refuse_changed(stage.name, stage.extractor, stage.fingerprint, has_weights=forward is not None)
    return forward


def has_forward(extractor: Extractor) -> bool:
    """Whether the stage computes on the device."""
    return type(extractor).load is not Extractor.load


def use_threads(threads: int) -> None:
    """The engine sets torch's threads itself, so that rows repeat byte for byte; float32 means float32."""
    import torch

    torch.set_num_threads(threads)
    use_float32()


@contextmanager
def _asked_to_stop(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C stops between two clips, where no lock is held; the second at once. Elsewhere than in a main thread: as ever."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class _Decoding:
    """Prepared clips as they get ready, never more than `ahead` of the device nor, once it has work, SPOOL_BYTES on disk."""

    def __init__(self, pool: ProcessPool, jobs: Iterator[Job], ahead: int) -> None:
        self.pool, self.jobs, self.ahead = pool, jobs, ahead
        self.done: queue.SimpleQueue[tuple[Job, Future[Prepared], int] | None] = queue.SimpleQueue()
        self.stopped = False
        self.running = 0
        self.spooled = 0
        self.lock = threading.Lock()
        self._fill()

    def __iter__(self) -> Iterator[tuple[Job, Prepared]]:
        while self.running:
            ready = self.done.get()
            if ready is None or self.stopped:
                raise KeyboardInterrupt
            job, future, size = ready
            self.running -= 1
            try:
                found: Prepared | None = future.result()
            except ProcessExpired as error:
                found = self._crashed(job, error)
            except BrokenProcessPool as error:
                raise UserError(f"decode processes die as they start ({error}); what they said is above; mend it") from error
            if found is not None:
                yield job, found
            with self.lock:
                self.spooled -= size
            self._fill()

    def stop(self) -> None:
        """Ends the iteration before the next clip; may be called by a signal handler."""
        self.stopped = True
        self.done.put(None)

    def _fill(self) -> None:
        while self.running < self.ahead and (self.spooled < SPOOL_BYTES or not self.running):
            job = next(self.jobs, None)
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        self.running += 1
        self.pool.schedule(prepare_sent, args=(pickle.dumps(job),)).add_done_callback(lambda future: self._ready(job, future))

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
        return Prepared(job.content, job.stat, failures=dict.fromkeys(job.stages, _death(job, error.exitcode)))


def _death(job: Job, exitcode: int | None) -> str:
    if exitcode == -signal.SIGALRM:
        return f"its decoding made no progress for {job.deadline_seconds:g} s"
    if exitcode is not None and exitcode < 0:
        return f"its decoding process was killed by {signal.Signals(-exitcode).name}"
    return f"its decoding process ended with status {exitcode}"


def _failure(job: Job, found: Prepared, reason: str, attempts: int) -> Failure:
    decoder = found.decoder or ("decord" if job.decord else "pyav")
    return Failure(job.id, reason, decoder, attempts + 1, found.content, found.stat.token, found.stat.size)
