"""What runs in a worker: an engine a process, which takes the clips of a task to shards."""

from __future__ import annotations

import json
import pickle
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from distributed import get_worker

from pipeline import atomic
from pipeline.cache.shards import Failure
from pipeline.extraction._engine import Engine, Work
from pipeline.extraction.preparing.jobs import Job
from pipeline.machine import wait_briefly

Told: TypeAlias = tuple[str, int, Failure | None]
"""Of a clip: the stage, how many items it had, and its failure."""
_engines: dict[str, Engine] = {}
"""The one of this process: weights load once."""
_turn = threading.Lock()
wait_briefly()  # this process was started by another's command line


def extract_task(sent: bytes, gpu: int | None) -> tuple[list[Told], float]:
    """What became of each clip of a task, and the seconds that it took.

    The answer is kept in the run's folder: a worker that dies takes its answers with it, and is asked again elsewhere. Items wait on the
    worker's own disk. Where that folder is gone so is the run, and no more clips are begun.
    """
    work, jobs = pickle.loads(sent)  # noqa: S301  # from the process that this worker works for
    folder: Path = jobs[0].spool
    answer = folder / f"answer-{jobs[0].number}-{jobs[-1].number}.json"
    with _turn:
        if answer.exists():
            kept = json.loads(answer.read_bytes())
            return [(name, items, Failure(**failure) if failure else None) for name, items, failure in kept], 0.0
        began = time.monotonic()
        told: list[Told] = []
        spool = Path(tempfile.mkdtemp(prefix="signcache-", dir=get_worker().local_directory))
        wanted: Iterator[Job] = (replace(job, spool=spool) for job in jobs)
        try:
            _use_gpu(gpu)
            _engine(work).run(takewhile(lambda _: folder.exists(), wanted), lambda *clip: told.append(clip), lambda *_: None)
        finally:
            shutil.rmtree(spool, ignore_errors=True)
        if folder.exists():
            atomic.replace(answer, json.dumps([(name, items, failure and asdict(failure)) for name, items, failure in told]).encode())
        return told, time.monotonic() - began


def _engine(work: Work) -> Engine:
    """This process' engine, with as many threads and decode processes as the worker has threads, unless told."""
    share = int(get_worker().state.nthreads)
    here = replace(work, threads=work.threads or share, decoders=work.decoders or share)
    key = str((sorted(here.folders.items()), here.device, here.threads, here.store))
    if key not in _engines:
        _ended()
        _engines[key] = Engine(here)
    return _engines[key].taking(here)


def _use_gpu(gpu: int | None) -> None:
    """The one of those that this process may see that is its own; a thread starts with the first."""
    if gpu is not None:
        import torch

        torch.cuda.set_device(gpu)


def release() -> None:
    """End the engine of this process, and with it its decode processes; its weights go."""
    with _turn:
        _ended()


def _ended() -> None:
    while _engines:
        _engines.popitem()[1].__exit__(None, None, None)
