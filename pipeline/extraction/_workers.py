"""The same engine on local Dask workers: tasks and results are metadata, rows go straight from a worker to its shards."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import dask
from distributed import Client, LocalCluster, as_completed

from pipeline import atomic
from pipeline.cache.shards import SHARD_CLIPS, Failure
from pipeline.extraction._engine import Engine, Report, Work
from pipeline.extraction.preparing.jobs import Job

ALLOWED_FAILURES = 20
"""Workers that may die under one task before it is given up: clips cannot kill a worker, so its deaths are the system's."""


def run_on_workers(work: Work, jobs: Sequence[Job], workers: int, report: Report) -> None:
    """Every job done, a task of up to 64 clips at a time; a worker that dies costs the tasks that it was at."""
    size = max(1, min(SHARD_CLIPS, -(-len(jobs) // workers)))
    chunks = [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]
    with _client(workers) as client:
        futures = [client.submit(extract_chunk, work, chunk, pure=False) for chunk in chunks]
        for _, told in as_completed(futures, with_results=True):
            for name, items, failure in told:
                report(name, items, failure)


@contextmanager
def _client(workers: int) -> Iterator[Client]:
    settings = {
        "distributed.worker.daemon": False,  # workers start decode processes
        "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
        "distributed.scheduler.work-stealing": False,
        "distributed.worker.memory.terminate": False,
        "distributed.scheduler.worker-ttl": None,  # a pause of all is the end of none
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": ":0"},  # any port: another cluster may have the usual one
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


_engines: dict[bytes, Engine] = {}


def extract_chunk(work: Work, jobs: list[Job]) -> list[tuple[str, int, Failure | None]]:
    """What became of each clip of a task. Runs in a worker, whose engine lives as long as the worker.

    The answer is kept beside the spooled items: a worker that dies takes its answers with it, and the scheduler asks again.
    """
    answer = jobs[0].spool / f"answer-{jobs[0].number}.json"
    if answer.exists():
        return [(name, items, Failure(**failure) if failure else None) for name, items, failure in json.loads(answer.read_bytes())]
    key = str((sorted(work.folders.items()), work.device, work.threads, work.store)).encode()
    if key not in _engines:
        _engines[key] = Engine(work)
    told: list[tuple[str, int, Failure | None]] = []
    _engines[key].run(iter(jobs), lambda name, items, failure: told.append((name, items, failure)))
    atomic.replace(answer, json.dumps([(name, items, failure and asdict(failure)) for name, items, failure in told]).encode())
    return told
