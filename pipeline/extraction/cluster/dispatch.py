"""Hands the clips of an extraction to the workers of a cluster, a task at a time, as they join and leave."""

from __future__ import annotations

import pickle
import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from distributed import Client, Future, wait

from pipeline.errors import UserError
from pipeline.extraction._engine import Report, Sealed, Work
from pipeline.extraction.cluster import connecting, preflight, tasks
from pipeline.extraction.cluster.pace import Queue, Task
from pipeline.extraction.sharing.jobs import Jobs

Found = TypeVar("Found")
LOOK_SECONDS = 0.5
"""Between two looks at which workers there are."""
FETCH_SECONDS = 20.0
"""In which an answer that is ready comes: its worker may have died since."""
DEATHS = 5
"""Workers that may die at a clip that was alone in its task."""
GATHERING_SECONDS = 60.0
"""In which the first workers say what they are, before `--device auto` is decided."""


def run_on_cluster(work: Work, jobs: Jobs, cluster: str | int, report: Report, sealed: Sealed, say: Callable[[str], None]) -> None:
    """All that can be taken done by so many processes of this machine, or by the workers of a scheduler, its address or its file."""
    if isinstance(cluster, int):
        with connecting.local(cluster, work.decoders, jobs.spool) as client:
            _Dispatch(client, work, jobs, report, sealed, say).run()
        return
    with connecting.connected(cluster) as client:
        say(f"dashboard: {client.dashboard_link}")
        dispatch = _Dispatch(client, work, jobs, report, sealed, say)
        try:
            dispatch.run()
        finally:
            dispatch.release()


@dataclass
class _Worker:
    """A worker that is there; `future` is what it is at: first the preflight, then tasks."""

    address: str
    future: Future[Any] | None
    task: Task | None = None
    found: dict[str, Any] | None = None
    """What the preflight found."""
    gpu: int | None = None
    is_refused: bool = False

    @property
    def is_free(self) -> bool:
        return self.found is not None and self.future is None and not self.is_refused


class _Dispatch:
    """One run on one cluster: an event is a future that ended."""

    def __init__(self, client: Client, work: Work, jobs: Jobs, report: Report, sealed: Sealed, say: Callable[[str], None]) -> None:
        self.client, self.report, self.sealed, self.say = client, report, sealed, say
        self.work = replace(work, decoders=0)
        self.queue, self.count = Queue(jobs.taken(), jobs.division.left), 0
        self.asked = preflight.question(work, jobs.spool, self.queue.first())
        self.device = "" if work.device == "auto" else work.device
        self.workers: dict[str, _Worker] = {}
        self.ended: queue.SimpleQueue[tuple[str, Future[Any]]] = queue.SimpleQueue()
        self.hopeless: list[str] = []
        self.began, self.looked, self.said = time.monotonic(), 0.0, ""

    def run(self) -> None:
        """Returns when every clip is reported; raises UserError where none can work, or workers died at a clip again and again."""
        try:
            while self.queue or any(worker.task for worker in self.workers.values()):
                self._look()
                self._hand_out()
                self._settle()
        finally:
            self._leave()
        if self.hopeless:
            raise UserError(
                f"{DEATHS} workers died at {', '.join(self.hopeless)}, each time alone in its task; all else is in the cache: look at what "
                f"the workers said (out of memory?), then run the same line again"
            )

    def _look(self) -> None:
        """Ask who joined, and take back the tasks of who left."""
        if time.monotonic() - self.looked < LOOK_SECONDS:
            return
        there = self._answer(self.client.nthreads)
        self.looked = time.monotonic()
        for address in self.workers.keys() - there.keys():
            self._lost(self.workers.pop(address))
        for address in sorted(there.keys() - self.workers.keys()):
            self.workers[address] = _Worker(address, None)
            self._submit(self.workers[address], preflight.look, self.asked)
        self._tell_who_is_missing()

    def _answer(self, question: Callable[..., Found], *about: str) -> Found:
        """What the scheduler answers; raises UserError where it is gone."""
        try:
            return question(*about)
        except Exception as error:  # of a connection that ended, whatever it was at
            raise UserError(f"lost the scheduler ({error}); finished clips are kept, run the same line again once it is back") from error

    def _tell_who_is_missing(self) -> None:
        if not self.workers:
            self._say_once("no worker is there: this waits for some (dask worker --scheduler-file FILE, or its ADDRESS)")
        elif all(worker.is_refused for worker in self.workers.values()):
            if not self.count:
                raise UserError(f"none of the {len(self.workers)} workers can take part, as said above")
            self._say_once("no worker is left that can take part: this waits for others")
        else:
            self.said = ""

    def _say_once(self, line: str) -> None:
        if line != self.said:
            self.said = line
            self.say(line)

    def _submit(self, worker: _Worker, function: Callable[..., Any], *arguments: object) -> None:
        """Run there and nowhere else: what a worker died at is no other's to die at without a word."""
        self.count += worker.task is not None
        key = f"signcache-{function.__name__}-{self.asked['probe'].split('/')[-2]}-{worker.address}-{self.count}"
        worker.future = self.client.submit(function, *arguments, workers=[worker.address], allow_other_workers=False, pure=False, key=key)
        worker.future.add_done_callback(lambda future, address=worker.address: self.ended.put((address, future)))

    def _hand_out(self) -> None:
        """A task to every worker that is free."""
        free = [worker for worker in self.workers.values() if worker.is_free]
        if not free or not self._device_is_known():
            return
        able = [worker for worker in free if self._has_device(worker)]
        for worker in able:
            if not self.queue:
                return
            worker.task = self.queue.take(worker.address, sum(not each.is_refused for each in self.workers.values()))
            clips = {job.id for job in worker.task.jobs}
            attempts = {pair: number for pair, number in self.work.attempts.items() if pair[1] in clips}
            work = replace(self.work, device=self.device, attempts=attempts)
            self._submit(worker, tasks.extract_task, pickle.dumps((work, worker.task.jobs)), worker.gpu)

    def _device_is_known(self) -> bool:
        """Whether it is, of `--device auto` once the first workers have said what they have: a GPU where one has one."""
        waits = any(worker.found is None for worker in self.workers.values()) and time.monotonic() - self.began < GATHERING_SECONDS
        if not self.device and not waits:
            self.device = "cuda" if any(worker.found and worker.found["gpus"] for worker in self.workers.values()) else "cpu"
        return bool(self.device)

    def _has_device(self, worker: _Worker) -> bool:
        """Whether a worker may work: on `cuda` it has a GPU that no other process of this run has, now its own."""
        if self.device != "cuda" or not self.asked["needs_device"] or worker.gpu is not None:
            return True
        mine: list[str] = worker.found["gpus"] if worker.found else []
        taken = {each.found["gpus"][each.gpu]: each.address for each in self.workers.values() if each.found and each.gpu is not None}
        worker.gpu = next((number for number, uuid in enumerate(mine) if uuid not in taken), None)
        if worker.gpu is None:
            others = ", ".join(sorted({taken[uuid] for uuid in mine}))
            reason = f"its GPU is that of {others}: one process a GPU (CUDA_VISIBLE_DEVICES)" if mine else "it has no GPU, as others have"
            self._refuse(worker, [f"{reason}; --device cpu uses all"] if not mine else [reason])
        return worker.gpu is not None

    def _settle(self) -> None:
        """Take what the next future brought, if one ends soon."""
        try:
            address, future = self.ended.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            return
        worker = self.workers.get(address)
        if worker is None or worker.future is not future:
            return
        worker.future = None
        try:
            answer = future.result(timeout=FETCH_SECONDS)
        except UserError as error:
            raise UserError(f"{error} (on worker {address})") from error
        except Exception as error:
            self._failed(worker, future, error)
            return
        if worker.task is None:
            self._admit(worker, answer)
            return
        task, worker.task = worker.task, None
        told, seconds = answer
        self.queue.learn(address, task, seconds)
        for clip in told:
            self.report(*clip)
        for name in self.work.stages:
            self.sealed(name, [job.id for job in task.jobs if name in job.stages])

    def _admit(self, worker: _Worker, found: dict[str, Any]) -> None:
        worker.found = found
        reasons = list(preflight.reasons(self.asked, found))
        if reasons:
            self._refuse(worker, reasons)

    def _refuse(self, worker: _Worker, reasons: Sequence[str]) -> None:
        worker.is_refused, worker.found = True, worker.found or {"gpus": []}
        self.say(f"worker {worker.address} gets no work: {'; '.join(reasons)}")

    def _failed(self, worker: _Worker, future: Future[Any], error: Exception) -> None:
        """A preflight that cannot even run, an answer that was lost with its worker, or a mistake of ours."""
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        if future.status == "error" and worker.task is not None:
            raise error
        if future.status != "error":
            self._lost(self.workers.pop(worker.address))
        elif "deserialization of the task graph" in str(error):
            raise UserError("the scheduler cannot import signcache: start it in this environment and folder, or with PYTHONPATH") from error
        else:
            self._refuse(worker, [f"it cannot run signcache ({said}): start it in this environment and folder, or with PYTHONPATH"])

    def _lost(self, worker: _Worker) -> None:
        """A worker that left; its task goes to another, in two where it died at it before."""
        if worker.future is not None:
            worker.future.cancel()
        task = worker.task
        if task is None:
            return
        task.deaths += not self._was_expected(worker.address)
        if task.deaths >= DEATHS and len(task.jobs) == 1:
            self.hopeless.append(repr(task.jobs[0].id))
        else:
            self.queue.back.extend(task.halves() if task.deaths > 1 and len(task.jobs) > 1 else [task])

    def _was_expected(self, address: str) -> bool:
        """Whether a worker said that it leaves, as at the end of its `--lifetime`."""
        events = self._answer(self.client.get_events, address)
        return any(isinstance(event, dict) and event.get("action") == "remove-worker" and event.get("expected") for _, event in events)

    def _leave(self) -> None:
        """Tasks that are begun end with their clip, for the folder of their run will be gone; the others are never begun."""
        if self.client.status == "running":
            self.client.cancel([worker.future for worker in self.workers.values() if worker.future is not None])

    def release(self) -> None:
        """End the engines of this run: the workers are others' too. One that is busy or gone keeps its own till the next."""
        idle = [worker for worker in self.workers.values() if worker.found and not worker.is_refused and worker.future is None]
        with suppress(TimeoutError, OSError):
            for worker in idle:
                self._submit(worker, tasks.release)
            wait([worker.future for worker in idle if worker.future], timeout=FETCH_SECONDS)
