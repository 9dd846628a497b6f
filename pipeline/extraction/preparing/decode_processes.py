"""Decode processes: jobs go in, prepared clips come out as they get ready. A crash or a hang costs its clip, a pause nothing."""

from __future__ import annotations

import pickle
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from pebble import ProcessExpired, ProcessPool

from pipeline.errors import UserError
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_sent, start_decoder

SPOOL_BYTES = 2 << 30
"""Prepared items that may wait on disk for the device before decoding pauses."""
BEAT, LATE = 0.25, 1.0
"""Seconds between two beats of a pulse, and those by which one is later where the process stood still."""
ENDED = 256
"""In place of the exit status 0, which pebble takes for an orderly end, whatever the process was at."""
PATIENCE = 10.0
"""Seconds without a clip after which whoever takes them is given a turn."""
PAUSED = 0.25
"""Share of a deadline that a process must have stood still for it to count no more."""


Ready: TypeAlias = Mapping[tuple[Path, ...], Prepared]
"""What was prepared before, by the clip's files."""


class _Process(ForkServerProcess):
    @property
    def exitcode(self) -> int | None:
        code = super().exitcode
        return ENDED if code == 0 else code


class _Context(ForkServerContext):
    Process = _Process


def start_pool(decoders: int, most_bytes: int = 0) -> ProcessPool:
    """Decode processes, forked from a server that never sees Ctrl-C: while it imports it would print its traceback.

    Each may take `most_bytes` of memory for itself, or any where that is 0.
    """
    context = _Context()
    context.set_forkserver_preload(
        ["pipeline.extraction.preparing._decoder_start", "pipeline.extraction.preparing.decode_processes", "PIL.Image"]
    )
    resource_tracker.ensure_running()  # first, because starting it unblocks the signal
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return ProcessPool(max_workers=decoders, initializer=start_decoder, initargs=(most_bytes,), context=context)


class Pulse(threading.Thread):
    """Notices that this process stood still, as after Ctrl-Z or in a paused container: its children's deadlines fell meanwhile."""

    def __init__(self) -> None:
        super().__init__(name="pulse", daemon=True)
        self.ended = threading.Event()
        self.beat = time.monotonic()
        self.lost = 0.0
        self.start()

    def run(self) -> None:
        while not self.ended.wait(BEAT):
            self.lost, self.beat = self.lost_seconds(), time.monotonic()

    def lost_seconds(self) -> float:
        """Seconds in which this process stood still since it began, those of now too."""
        late = time.monotonic() - self.beat - BEAT
        return self.lost + (late if late > LATE else 0.0)


@dataclass(frozen=True)
class _Done:
    """A job that has ended, the bytes of its items, and what the pulse had lost when it was started."""

    job: Job
    future: Future[Prepared]
    size: int
    lost: float


class Decoding:
    """Prepared clips as they get ready, never more than `ahead` of the device nor, once it has work, SPOOL_BYTES on disk.

    None is given in the place of a clip where there was none for PATIENCE seconds. Clips that were prepared before are `ready`, by paths.
    """

    def __init__(self, pool: ProcessPool, pulse: Pulse, jobs: Iterator[Job], *, ahead: int, ready: Ready = MappingProxyType({})) -> None:
        self.pool, self.pulse, self.jobs, self.ahead, self.ready = pool, pulse, jobs, ahead, ready
        self.done: queue.SimpleQueue[_Done | None] = queue.SimpleQueue()
        self.stopped: type[KeyboardInterrupt] | None = None
        self.running = 0
        self.spooled = 0
        self.lock = threading.Lock()
        self._fill()

    def __iter__(self) -> Iterator[tuple[Job, Prepared] | None]:
        while self.running:
            try:
                ready = self.done.get(timeout=PATIENCE)
            except queue.Empty:
                yield None
                continue
            if ready is None or self.stopped:
                raise self.stopped or KeyboardInterrupt
            self.running -= 1
            found = self._found(ready)
            if found is not None:
                yield ready.job, found
            with self.lock:
                self.spooled -= ready.size
            self._fill()

    def stop(self, how: type[KeyboardInterrupt]) -> None:
        """Ends the iteration before the next clip, by this exception; may be called by a signal handler."""
        self.stopped = how
        self.done.put(None)

    def _fill(self) -> None:
        while self.running < self.ahead and (self.spooled < SPOOL_BYTES or not self.running):
            job = next(self.jobs, None)
            if job is None:
                return
            self._start(job)

    def _start(self, job: Job) -> None:
        self.running += 1
        lost = self.pulse.lost_seconds()
        if job.paths in self.ready:
            self.done.put(_Done(job, _given(self.ready[job.paths]), 0, lost))
            return
        self.pool.schedule(prepare_sent, args=(pickle.dumps(job),)).add_done_callback(lambda future: self._ready(job, future, lost))

    def _ready(self, job: Job, future: Future[Prepared], lost: float) -> None:
        files = [job.items_path(name) for name in job.stages]
        size = sum(file.stat().st_size for file in files if file.exists())
        with self.lock:
            self.spooled += size
        self.done.put(_Done(job, future, size, lost))

    def _found(self, done: _Done) -> Prepared | None:
        """What became of a clip; None where it is tried again."""
        try:
            return done.future.result()
        except BrokenProcessPool as error:
            raise UserError(f"decode processes die as they start ({error}); what they said is above; mend it") from error
        except ProcessExpired as error:
            return self._crashed(done, error.exitcode)

    def _crashed(self, done: _Done, status: int | None) -> Prepared | None:
        """After a crash each stage of the clip is tried alone once, without decord; after that it has failed."""
        job = done.job
        if status == -signal.SIGALRM and self.pulse.lost_seconds() - done.lost > PAUSED * job.deadline_seconds:
            self._start(job)
            return None
        if job.decord:
            for name, extractor in job.stages.items():
                self._start(replace(job, stages={name: extractor}, decord=False))
            return None
        return Prepared(job.content, job.stat, failures=dict.fromkeys(job.stages, death(status, job.deadline_seconds)))


def _given(prepared: Prepared) -> Future[Prepared]:
    future = Future[Prepared]()
    future.set_result(prepared)
    return future


def death(status: int | None, deadline_seconds: float) -> str:
    """Why a decode process is gone, by its exit status."""
    if status == -signal.SIGALRM:
        return f"its decoding made no progress for {deadline_seconds:g} s"
    if status is not None and status < 0:
        return f"its decoding process was killed by {signal.Signals(-status).name}"
    return f"its decoding process ended with status {0 if status == ENDED else status}"
