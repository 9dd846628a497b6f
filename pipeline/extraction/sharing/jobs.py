"""The clips that a run takes, as jobs for decode processes, and the folder for what these prepare."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

from pipeline.cache.index import Entry
from pipeline.cache.leases import RUN, runs
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home, Manifest
from pipeline.decoding.decode import Clip, Track
from pipeline.extraction.inputs import derived_content, derived_stat
from pipeline.extraction.plan import StagePlan
from pipeline.extraction.preparing.jobs import Job
from pipeline.extraction.sharing.division import Division

SPOOL_PREFIX = ".spool-"


@contextmanager
def spooled(home: Home, dataset: str, tokens: Mapping[str, str]) -> Iterator[Path]:
    """A new folder for items, gone afterwards. What lies in these stages' folders of runs that were killed goes too."""
    folders = [home.cache / dataset / name for name in tokens]
    _clear(folders)
    first, token = next(iter(tokens.items()))
    spool = home.cache / dataset / first / f"{SPOOL_PREFIX}{token}"
    spool.mkdir()
    try:
        yield spool
    finally:
        shutil.rmtree(spool, ignore_errors=True)
        _clear(folders)


def _clear(folders: Sequence[Path]) -> None:
    for folder in folders:
        living = {path.name.removeprefix(RUN) for path, _ in runs(folder, "*/")}
        for leftover in folder.glob(f"{SPOOL_PREFIX}*"):
            if leftover.name.removeprefix(SPOOL_PREFIX) not in living:
                shutil.rmtree(leftover, ignore_errors=True)


class Jobs:
    """One job a clip and modality, for all the stages that want it, of the clips that this run takes, in the order of the manifest."""

    def __init__(
        self, home: Home, table: Manifest, plans: Mapping[str, StagePlan], division: Division, spool: Path, deadline: float
    ) -> None:
        self.home, self.table, self.plans, self.division, self.spool, self.deadline = home, table, plans, division, spool, deadline
        self.todo = {name: {todo.sample.id: todo for todo in result.todo} for name, result in plans.items()}
        self.numbers = itertools.count()

    def taken(self) -> Iterator[Job]:
        """The jobs of all that can be taken now."""
        for unit in self.division.taken():
            for clip in dict.fromkeys(chain.from_iterable(unit.values())):
                by_source: dict[str, list[str]] = {}
                for name in (name for name, clips in unit.items() if clip in clips):
                    by_source.setdefault(self.plans[name].stage.extractor.source, []).append(name)
                for source, names in by_source.items():
                    yield self._job(clip, source, names)

    def _job(self, clip: str, source: str, names: Sequence[str]) -> Job:
        result, todo = self.plans[names[0]], self.todo[names[0]][clip]
        stages = {name: self.plans[name].stage.extractor for name in names}
        fingerprints = {name: self.plans[name].stage.fingerprint for name in names}
        job = Job(next(self.numbers), clip, stages, self.spool, todo.stat, self.deadline, fingerprints=fingerprints)
        if result.stage.upstream is None:
            return replace(job, paths=self.table.paths(todo.sample, source))
        return _derived(self.home, job, result.stage.upstream, result.inputs[clip])


def _derived(home: Home, job: Job, upstream: Stage, entry: Entry) -> Job:
    """The job on an upstream row in place of media; its rate is that of the rows."""
    row, shard = entry
    rate_hz = row.rate_hz * row.length / row.source_length if row.source_length else row.rate_hz
    track = Track(upstream.folder(home) / str(shard.file), row.length, rate_hz, "cache", row.start, shard.store, row.checksum)
    return replace(job, rows=Clip((track,)), stat=derived_stat(upstream, entry), content=derived_content(upstream, entry))
