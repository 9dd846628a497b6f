"""Stage one: decode processes prepare clips, the device turns them into rows, shards are written, then published in one step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import compress
from pathlib import Path

import numpy as np

from pipeline import machine
from pipeline.cache.index import Entry, Index, build, joined
from pipeline.cache.locking import locked
from pipeline.cache.publishing import publish
from pipeline.cache.shards import Failure
from pipeline.cache.stage import Stage
from pipeline.corpus.intervals import parted
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import States
from pipeline.decoding.decode import Clip, Track
from pipeline.errors import UserError
from pipeline.extraction import _engine
from pipeline.extraction.estimate import refuse_without_room
from pipeline.extraction.inputs import derived_content, derived_stat
from pipeline.extraction.plan import StagePlan, Todo, plan
from pipeline.extraction.preparing.jobs import Job
from pipeline.extraction.progress import Progress
from pipeline.extraction.recognition import Digests, settle, settle_disputes
from pipeline.types import has_forward

SPOOL_PREFIX = ".spool-"


@dataclass(frozen=True)
class Options:
    """How an extraction runs; nothing here is part of a stage's identity."""

    device: str = "auto"
    store: str = "zarr"
    limit: int | None = None
    only: Collection[str] = ()
    retry_failed: bool = False
    rehash: bool = False
    workers: int = 0
    scheduler: str = ""
    """The address or file of a Dask scheduler, whose workers do it."""
    threads: int = 0
    deadline_seconds: float = 60.0
    engine: _engine.Engine | None = None
    """One that stays, in place of one that begins and ends with each pass."""
    digests: Digests = field(default_factory=Digests)
    """Hashes of long files that were read to recognise clips that are parts of them."""


@dataclass
class Outcome:
    """What an extraction did: rows made and new failures by stage."""

    extracted: dict[str, int] = field(default_factory=dict)
    failed: dict[str, list[Failure]] = field(default_factory=dict)
    unpublished: dict[str, int] = field(default_factory=dict)


def extract(
    home: Home,
    table: Manifest,
    stages: Sequence[Stage],
    options: Options,
    progress: Progress,
    states: dict[str, States] | None = None,
) -> Outcome:
    """Do exactly what `plan` says, stages that derive from others after these, and publish each stage that is complete.

    `states` are those of media looked at a moment ago, as `plan` takes them; what was extracted is looked at again.
    Raises UserError for what a user can mend; KeyboardInterrupt leaves every finished clip in the cache.
    """
    outcome = Outcome()
    states = {} if states is None else states
    for depth in range(1, 1 + max((len(stage.chain) for stage in stages), default=0)):
        level = [stage for stage in stages if len(stage.chain) == depth]
        with locked(home, table.name, [stage.name for stage in level]):
            plans = {
                name: _chosen(
                    settle(result, table, options.digests, rehash=options.rehash, retry_failed=options.retry_failed), table, options
                )
                for name, result in plan(home, table, level, retry_failed=options.retry_failed, states=states).items()
            }
            if any(result.todo for result in plans.values()):
                refuse_without_room(home, table, plans)
                _run(home, table, plans, options, progress, outcome)
            for result in plans.values():
                if result.todo:
                    states.pop(result.stage.extractor.source, None)
            for result in plans.values():
                _publish(home, table, result, outcome, states)
    return outcome


def _chosen(result: StagePlan, table: Manifest, options: Options) -> StagePlan:
    """The plan cut down to `--only` and `--limit`, and of a derived stage to clips whose upstream rows are there."""
    for clip in options.only:
        if clip not in table.places:
            raise UserError(f"--only {clip}: no such clip in {result.stage.dataset!r}; ids are in manifests/{result.stage.dataset}.csv")
    todo = [item for item in result.todo if not options.only or item.sample.id in options.only]
    if result.stage.upstream:
        todo = [item for item in todo if item.sample.id in result.inputs]
    return replace(result, todo=todo[: options.limit])


def _run(home: Home, table: Manifest, plans: Mapping[str, StagePlan], options: Options, progress: Progress, outcome: Outcome) -> None:
    """One pass over the clips: a decode for all stages of a modality, here or on local workers."""
    todo = {name: result for name, result in plans.items() if result.todo}
    stages = {name: result.stage for name, result in todo.items()}
    needs_device = any(has_forward(stage.extractor) for stage in stages.values())
    share = 0 if options.scheduler else max(1, machine.cores() // max(1, options.workers))
    work = _engine.Work(
        stages=stages,
        folders={name: stage.folder(home) for name, stage in stages.items()},
        attempts={(name, item.sample.id): item.attempts for name, result in todo.items() for item in result.todo if item.attempts},
        device=_device(options) if needs_device else "cpu",
        threads=options.threads or share,
        decoders=share,
        store=options.store,
    )

    def report(name: str, items: int, failure: Failure | None) -> None:
        if failure:
            outcome.failed.setdefault(name, []).append(failure)
        else:
            outcome.extracted[name] = outcome.extracted.get(name, 0) + 1
        progress.advance(name, frames=items, failed=failure is not None)

    spool = _spool([home.cache / table.name / name for name in plans])
    options.digests.leave(spool)
    jobs = _jobs(home, table, todo, spool, options)
    progress.start({name: len(result.todo) for name, result in todo.items()})
    try:
        if options.scheduler or options.workers:
            from pipeline.extraction.cluster.dispatch import run_on_cluster

            run_on_cluster(work, list(jobs), options.scheduler or options.workers, report, progress.say)
        else:
            with nullcontext(options.engine.taking(work)) if options.engine else _engine.Engine(work) as here:
                here.run(jobs, report)
    finally:
        progress.stop()
        shutil.rmtree(spool, ignore_errors=True)


def _device(options: Options) -> str:
    """Where the forward passes run; workers elsewhere say themselves what they have."""
    return options.device if options.scheduler else machine.chosen_device(options.device)


def _spool(folders: Sequence[Path]) -> Path:
    """A new folder for items. What lies in these locked stages' folders from before belongs to runs that were killed."""
    for folder in folders:
        for leftover in folder.glob(f"{SPOOL_PREFIX}*"):
            shutil.rmtree(leftover, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=SPOOL_PREFIX, dir=folders[0]))


def _jobs(home: Home, table: Manifest, plans: Mapping[str, StagePlan], spool: Path, options: Options) -> Iterator[Job]:
    """One job a clip and modality, for all the stages that want it, in the order of the manifest, parts of one file together."""
    wanted: dict[tuple[str, str], dict[str, tuple[StagePlan, Todo]]] = {}
    for name, result in plans.items():
        for todo in result.todo:
            wanted.setdefault((todo.sample.id, result.stage.extractor.source), {})[name] = (result, todo)
    rows = {result.stage.upstream.name: result.inputs for result in plans.values() if result.stage.upstream}
    for number, (clip, source) in enumerate(_together(table, wanted)):
        stages = {name: result.stage.extractor for name, (result, _) in wanted[clip, source].items()}
        result, todo = next(iter(wanted[clip, source].values()))
        fingerprints = {name: result.stage.fingerprint for name, (result, _) in wanted[clip, source].items()}
        job = Job(number, clip, stages, spool, todo.stat, options.deadline_seconds, fingerprints=fingerprints)
        upstream = result.stage.upstream
        if upstream is None:
            yield replace(job, paths=table.paths(todo.sample, source))
        else:
            yield _derived(home, job, upstream, rows[upstream.name][clip])


def _together(table: Manifest, wanted: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Clips with the modality that is read of each, in the order of the manifest, those that are parts of one file beside its first."""
    places, first = dict[tuple[str, str], tuple[int, int]](), dict[str, int]()
    for clip, source in sorted(wanted, key=lambda pair: table.places[pair[0]]):
        place = table.places[clip]
        file, part = parted(table.samples[place].media.get(source, ("",))[0])
        places[clip, source] = (first.setdefault(file, place) if part else place, place)
    return sorted(places, key=places.__getitem__)


def _derived(home: Home, job: Job, upstream: Stage, entry: Entry) -> Job:
    """The job on an upstream row in place of media; its rate is that of the rows."""
    row, shard = entry
    rate_hz = row.rate_hz * row.length / row.source_length if row.source_length else row.rate_hz
    track = Track(upstream.folder(home) / str(shard.file), row.length, rate_hz, "cache", row.start, shard.store, row.checksum)
    return replace(job, rows=Clip((track,)), stat=derived_stat(upstream, entry), content=derived_content(upstream, entry))


def _publish(home: Home, table: Manifest, result: StagePlan, outcome: Outcome, states: dict[str, States]) -> None:
    """Publish what is finished, unless clips are still to do of an identity that would replace a published one."""
    fresh = plan(home, table, [result.stage], states=states)[result.stage.name]
    pending = [todo for todo in fresh.todo if todo.sample.id not in result.found]
    after = settle_disputes(replace(fresh, found=result.found, todo=pending), table, result.changed - set(result.found))
    if after.todo and after.before and not after.is_published:
        outcome.unpublished[result.stage.name] = len(after.todo)
    elif after.needs_publishing:
        publish(home, result.stage, after.done, _bound(table, after), after.failed)


def _bound(table: Manifest, result: StagePlan) -> Index:
    """The finished row of every clip that has one, under the clip's id; those found by content come first."""
    rows, numbers = result.done.rows, result.numbers.copy()
    if result.found:
        numbers[[table.places[clip] for clip in result.found]] = len(rows) + np.arange(len(result.found))
        rows = joined([rows, build(list(result.found.values()))])
    has_row = numbers >= 0
    return rows.taken(numbers[has_row], list(compress(table.ids, has_row.tolist())))
