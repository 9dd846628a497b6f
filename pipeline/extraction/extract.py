"""Stage one: decode processes prepare clips, the device turns them into rows, shards are written, then published in one step."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import compress
from typing import TypeAlias

import numpy as np

from pipeline import machine
from pipeline.cache.index import Index, build, joined
from pipeline.cache.locking import publishing, shared
from pipeline.cache.publishing import publish
from pipeline.cache.shards import Failure
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import States
from pipeline.errors import UserError
from pipeline.extraction import _engine
from pipeline.extraction._stopping import terminable
from pipeline.extraction.estimate import refuse_without_room
from pipeline.extraction.plan import StagePlan, plan
from pipeline.extraction.progress import Progress
from pipeline.extraction.recognition import Digests, settle, settle_disputes
from pipeline.extraction.sharing.division import Division
from pipeline.extraction.sharing.jobs import Jobs, spooled
from pipeline.types import has_forward

_Running: TypeAlias = Callable[[Jobs, _engine.Report, _engine.Sealed], None]


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
    others: dict[str, int] = field(default_factory=dict)
    """Clips that other runs finished meanwhile; those that failed there are among `failed`."""


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
        with shared(home, table.name, [stage.name for stage in level]):
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
                with publishing(home, table.name, result.stage.name) if result.needs_work else nullcontext():
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
        threads=options.threads or machine.threads(share),
        decoders=share,
        store=options.store,
    )

    def told(name: str, items: int, failure: Failure | None) -> None:
        division.advance(name, failure)
        if failure:
            outcome.failed.setdefault(name, []).append(failure)
        else:
            outcome.extracted[name] = outcome.extracted.get(name, 0) + 1
        progress.advance(name, frames=items, failed=failure is not None)
        progress.beside(division.others())

    progress.start({name: len(result.todo) for name, result in todo.items()})
    with Division(table, todo, work.folders) as division, spooled(home, table.name, division.tokens) as spool:
        jobs, rescue = Jobs(home, table, todo, division, spool, options.deadline_seconds), ExitStack()
        rescue.callback(division.close)
        options.digests.leave(spool)
        try:
            with terminable(rescue.close), _running(work, options, progress.say, rescue) as run:
                while division.has_more(progress.beside):
                    run(jobs, told, division.sealed)
        finally:
            progress.stop()
    for name, part in division.parts.items():
        if part.failed:
            outcome.failed.setdefault(name, []).extend(part.failed)
        outcome.others[name] = part.others


@contextmanager
def _running(work: _engine.Work, options: Options, say: Callable[[str], None], rescue: ExitStack) -> Iterator[_Running]:
    """What takes jobs to shards, as often as it is called: this process, or the workers of a cluster."""
    if options.scheduler or options.workers:
        from pipeline.extraction.cluster.dispatch import run_on_cluster

        cluster = options.scheduler or options.workers
        yield lambda jobs, told, sealed: run_on_cluster(work, jobs, cluster, told, sealed, say)
    else:
        with nullcontext(options.engine.taking(work)) if options.engine else _engine.Engine(work) as here:
            rescue.callback(here.rescue)
            yield lambda jobs, told, sealed: here.run(jobs.taken(), told, sealed)


def _device(options: Options) -> str:
    """Where the forward passes run; workers elsewhere say themselves what they have."""
    return options.device if options.scheduler else machine.chosen_device(options.device)


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
