"""The engine: decode processes prepare clips, the device turns them into rows, a thread writes shards, all at the same time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from pebble import ProcessPool

from pipeline import __version__
from pipeline.cache.identity import refuse_changed
from pipeline.cache.shards import Failure
from pipeline.cache.stage import Stage
from pipeline.errors import ClipError
from pipeline.extraction._shard_building import Lane
from pipeline.extraction._stopping import between_clips
from pipeline.extraction.forward_passes import own_mistakes
from pipeline.extraction.preparing.decode_processes import Decoding, Pulse, Ready, start_pool
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.machine import use_float32
from pipeline.types import Forward, has_forward

Report: TypeAlias = Callable[[str, int, Failure | None], None]
"""Is told of each clip of each stage: the stage, how many items it had, and its failure."""
Sealed: TypeAlias = Callable[[str, Collection[str]], None]
"""Is told, in any thread, of clips of a stage that lie in a finished shard, as rows or failures."""


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
    """Takes jobs to shards. Weights load once, decode processes start once, however often it runs; each may take so much memory."""

    def __init__(self, work: Work, *, decoder_bytes: int = 0) -> None:
        self.work, self.start = work, partial(start_pool, work.decoders, decoder_bytes)
        self.writer = ThreadPoolExecutor(1, "shard-writer")
        self.pool = self.start()
        self.ready: Ready = {}
        self.pulse = Pulse()
        self.forwards: dict[str, Forward | None] = {}
        self.lanes: dict[str, Lane] = {}

    def taking(self, work: Work) -> Engine:
        """The same with other work; a stage's name is to stand for the same stage in all of it."""
        self.work = work
        return self

    def whole_pool(self) -> ProcessPool:
        """The decode processes; new ones where they all ended, as when one died that was at nothing."""
        if not self.pool.active:
            self.pool.stop()  # type: ignore[no-untyped-call]
            self.pool.join()
            self.pool = self.start()
        return self.pool

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.pulse.ended.set()
        self.pool.stop()  # type: ignore[no-untyped-call]
        self.pool.join()
        self.writer.shutdown()

    def run(self, jobs: Iterator[Job], report: Report, sealed: Sealed) -> None:
        """Every clip of `jobs` lies in a finished shard or is a recorded failure when this returns.

        An exception, Ctrl-C too, leaves the clips that were whole in finished shards.
        """
        decoding = Decoding(self.pool, self.pulse, jobs, ahead=2 * self.work.decoders + 2, ready=self.ready)
        lanes = self.lanes = dict[str, Lane]()
        try:
            with between_clips(decoding.stop):
                lanes = self.lanes = {name: self._lane(name, sealed) for name in self.work.stages}
                for ready in decoding:
                    if ready:
                        self._take(*ready, lanes, report)
                    for lane in lanes.values():
                        lane.close_if_full()
                for lane in lanes.values():
                    lane.close()
        except BaseException:
            for lane in lanes.values():
                lane.salvage()
            for lane in lanes.values():
                lane.settle()
            raise
        for lane in lanes.values():
            lane.finish()

    def rescue(self) -> None:
        """Write what is whole while the main thread is at something that no signal interrupts, just before this process ends."""
        for lane in self.lanes.values():
            lane.rescue()

    def _lane(self, name: str, sealed: Sealed) -> Lane:
        work, stage = self.work, self.work.stages[name]
        if name not in self.forwards:
            if has_forward(stage.extractor):
                use_threads(work.threads)
            with own_mistakes(stage, "be loaded"):
                self.forwards[name] = stage.extractor.load(work.device)
            refuse_changed(name, stage.extractor, stage.fingerprint, has_weights=self.forwards[name] is not None)
        made = {"device": work.device, "threads": work.threads, "signcache": __version__}
        made |= {"stage": stage.kind, "settings": stage.settings}
        tell = partial(sealed, name)
        return Lane(stage, work.folders[name], self.forwards[name], work.device, work.store, made, self.writer, tell)

    def _take(self, job: Job, found: Prepared, lanes: Mapping[str, Lane], report: Report) -> None:
        """One prepared clip: rows or a failure for each of its stages."""
        for name in job.stages:
            reason = found.failures.get(name)
            try:
                if reason is None:
                    lanes[name].add(job.number, job.id, found)
            except ClipError as error:
                reason = str(error)
            if reason is None:
                report(name, len(found.items[name]), None)
                continue
            job.items_path(name).unlink(missing_ok=True)
            failure = _failure(job, found, reason, self.work.attempts.get((name, job.id), 0))
            lanes[name].fail(failure)
            report(name, 0, failure)


def use_threads(threads: int) -> None:
    """The engine sets torch's threads itself, so that rows repeat byte for byte; float32 means float32."""
    import torch

    torch.set_num_threads(threads)
    use_float32()


def _failure(job: Job, found: Prepared, reason: str, attempts: int) -> Failure:
    decoder = found.decoder or ("decord" if job.decord else "pyav")
    return Failure(job.id, reason, decoder, attempts + 1, found.content, found.stat.token, found.stat.size)
