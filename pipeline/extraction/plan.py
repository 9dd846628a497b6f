"""What an extraction would do, and why, before anything runs. Planning never reads media."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.cache import index
from pipeline.cache.index import Entry
from pipeline.cache.publishing import DISPUTED, Finished, finished, has_lengths
from pipeline.cache.shards import Failure
from pipeline.cache.stage import Published, Stage, configure, default_stages, kind_of, of_published, published, published_names, staleness
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import Stat, States
from pipeline.corpus.presets import TUNED, preset_of, refuse_unpublished
from pipeline.errors import UserError
from pipeline.extraction.inputs import Rows, derived_states, inputs_of
from pipeline.types import STAGE_PREFIX, Sample

NEW, CHANGED, FAILED_BEFORE = "new", "changed input", "failed before"
LOST = "lost from the cache"
NOT_IMPORTED = "not among what was imported"


@dataclass(frozen=True, slots=True)
class Todo:
    """A clip to extract: why, the state of its files now, and how often it failed in this state."""

    sample: Sample
    reason: str
    stat: Stat
    attempts: int = 0


@dataclass
class StagePlan:
    """One stage of a plan. Every sample is in exactly one of fresh, todo, failed and lacking."""

    stage: Stage
    done: Finished
    before: Published | None
    states: States
    numbers: NDArray[np.int64]
    """`(clips,)` the row of each clip in `done.rows`, -1 where it has none in its state now, or DISPUTED."""
    fresh: list[str] = field(default_factory=list)
    todo: list[Todo] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    """Clips without media of a modality that the corpus says they may be without."""
    removed: list[str] = field(default_factory=list)
    found: dict[str, Entry] = field(default_factory=dict)
    """Rows found by content for clips that were renamed or touched."""
    changed: frozenset[str] = frozenset()
    """Clips whose bytes are found to be others than those of the row that their state tells."""
    inputs: Mapping[str, Entry] = field(default_factory=dict)
    """Upstream rows that a derived stage reads."""
    has_lengths: bool = True

    @property
    def is_published(self) -> bool:
        """Whether training reads this identity already."""
        return self.before is not None and self.before.digest == self.stage.fingerprint.digest

    @cached_property
    def staleness(self) -> str:
        """Why the published features are not today's, or an empty string."""
        return staleness(self.stage, self.before) if self.before else ""

    @property
    def needs_publishing(self) -> bool:
        """Whether what is published differs from what is finished, though nothing is to be extracted."""
        if self.stage.is_imported:
            return bool(self.done.later.shards) or not self.done.is_whole  # its row index, or some of its shards, were lost
        if self.before is None or self.before.settings != self.stage.settings or not self.has_lengths:
            return True
        stale = not (self.is_published and self.done.is_whole) or bool(self.removed or self.found or self.changed or self.done.later.shards)
        gone = any(clip in self.done.index.position for clip in self.lacking)
        return stale or gone or {failure.id for failure in self.failed} != set(self.done.index.failures)

    @property
    def needs_work(self) -> bool:
        """Whether an extraction would write anything."""
        return bool(self.todo) or self.needs_publishing

    def reasons(self) -> dict[str, int]:
        """How many clips are to do for each reason."""
        return dict(Counter(todo.reason for todo in self.todo))

    def as_json(self) -> dict[str, object]:
        """The stage's part of `plan --json`."""
        counts = {"fresh": len(self.fresh), "todo": len(self.todo), "failed": len(self.failed), "removed": len(self.removed)}
        lacking = {"lacking": len(self.lacking)} if self.lacking else {}
        return {"digest": self.stage.fingerprint.digest, **counts, "reasons": self.reasons(), **lacking}


def wanted_stages(home: Home, table: Manifest, names: Sequence[str], settings: Mapping[str, str], second_name: str = "") -> list[Stage]:
    """The named stages, or the corpus' defaults and whatever is published, each after the stages that it derives from.

    `settings` go to every named stage that has the field, `STAGE.field` to that one; `settings=published` stands for the stages that
    the corpus' published settings read. Raises UserError where no stage takes one.
    """
    if second_name and len(names) != 1:
        raise UserError(f"--as {second_name} names one stage anew; give exactly one stage, not {len(names)}")
    preset, settings = preset_of(settings)
    refuse_unpublished(table, names, preset)
    others = published_names(home, table.name) if preset == TUNED else []
    chosen = list(names) or list(dict.fromkeys([*default_stages(table, preset)[0], *others]))
    kinds = {name: kind_of(home, table, name) for name in chosen}
    if second_name:
        kinds = {second_name: chosen[0]}
    unused = {key for key in settings if not any(_meant_for(key, name, kind, len(kinds)) for name, kind in kinds.items())}
    if unused:
        raise UserError(f"--set {min(unused)}: none of the stages {', '.join(kinds)} has such a field")
    ordered: dict[str, Stage] = {}
    for name, kind in sorted(kinds.items(), key=lambda pair: _is_derived(pair[1])):
        now = {key.rpartition(".")[2]: value for key, value in settings.items() if _meant_for(key, name, kind, len(kinds))}
        stage = configure(home, table, name, now=now, kind=kind, known=ordered)
        for link in stage.chain:
            ordered.setdefault(link.name, link)
    return list(ordered.values())


def _meant_for(key: str, name: str, kind: str, stages: int) -> bool:
    """Whether `--set key=` goes to this stage; a single stage takes every key, so that a misspelt field is named."""
    stage_name, dot, setting = key.rpartition(".")
    has_field = setting in registry.find("stage", kind).model_fields
    return stage_name == name if dot else has_field or stages == 1


def _is_derived(kind: str) -> bool:
    return str(registry.find("stage", kind).model_fields["source"].default).startswith(STAGE_PREFIX)


def plan(
    home: Home,
    table: Manifest,
    stages: Iterable[Stage],
    *,
    retry_failed: bool = False,
    states: dict[str, States] | None = None,
) -> dict[str, StagePlan]:
    """What is fresh, to do, failed and removed of each stage, in the order given (upstream first).

    `states` are those of media looked at a moment ago by their source, and take up those looked at now.
    """
    plans: dict[str, StagePlan] = {}
    states = {} if states is None else states
    for stage in stages:
        upstream = plans.get(stage.upstream.name) if stage.upstream else None
        if stage.upstream and upstream is None:
            upstream = plan(home, table, [stage.upstream], states=states)[stage.upstream.name]
        if upstream:
            rows = Rows(table, upstream.done.rows, upstream.numbers)
            known = derived_states(upstream.stage, rows.rows, rows.numbers)
            plans[stage.name] = replace(_stage_plan(home, table, stage, known, upstream, retry_failed), inputs=rows)
            continue
        if stage.extractor.source not in states:
            states[stage.extractor.source] = inputs_of(home, table, stage)
        plans[stage.name] = _stage_plan(home, table, stage, states[stage.extractor.source], None, retry_failed)
    return plans


def _stage_plan(home: Home, table: Manifest, stage: Stage, states: States, upstream: StagePlan | None, retry_failed: bool) -> StagePlan:
    done, before = finished(stage, home), published(home, stage.dataset, stage.name)
    places = done.places(table)
    result = StagePlan(stage, done, before, states, done.current(places, states))
    done.dispute(result.numbers, table, states)
    result.has_lengths = has_lengths(home, stage.dataset, stage.name)
    old, old_places = done.index, places[: len(done.index)]
    if before and not result.is_published:
        old = _old_index(home, stage)
        old_places = table.places_of(old.text("ids"))
    result.removed = _removed(old, old_places)
    has_row = result.numbers >= 0
    result.fresh = list(compress(table.ids, has_row.tolist()))
    lacking = np.flatnonzero(~has_row)
    reasons = _reasons(result, table, lacking, places, old_places)
    pending = {todo.sample.id: todo for todo in upstream.todo} if upstream else {}
    above = {failure.id: failure.reason for failure in upstream.failed} if upstream else {}
    may_lack = table.lacking(stage.modality) if len(lacking) else frozenset[str]()
    for place, reason in zip(lacking.tolist(), reasons, strict=True):
        sample, stat = table.samples[place], states.of(place)
        if sample.id in pending:
            todo = pending[sample.id]
            result.todo.append(Todo(sample, f"after {upstream.stage.name if upstream else ''}: {todo.reason}", todo.stat))
        elif stat is None and sample.id in may_lack:
            result.lacking.append(sample.id)
        elif stat is None:
            result.failed.append(_without_input(sample, stage, above.get(sample.id, "no rows")))
        elif result.numbers[place] == DISPUTED:
            result.todo.append(Todo(sample, CHANGED, stat))
        elif (failure := done.failure(sample.id, stat.token)) and not retry_failed:
            result.failed.append(failure)
        else:
            attempts = failure.attempts if failure else 0
            result.todo.append(Todo(sample, FAILED_BEFORE if attempts else reason, stat, attempts))
    return result


def _removed(old: index.Index, places: NDArray[np.int64]) -> list[str]:
    """Published clips that the manifest has no more; `places` are those of the published rows in it."""
    gone = np.flatnonzero(places < 0).tolist()
    return [clip for clip in map(old.text("ids").__getitem__, gone) if clip != index.ORPHAN] if gone else []


def _old_index(home: Home, stage: Stage) -> index.Index:
    """The published rows; none where their index is lost."""
    folder = home.cache / stage.dataset / stage.name

    def look(said: Published | None) -> index.Index:
        return index.read(folder / said.digest / said.index, whole=False) if said else index.build([])

    with suppress(FileNotFoundError):
        return of_published(home, stage.dataset, stage.name, look)
    return index.build([])


def _reasons(
    result: StagePlan, table: Manifest, lacking: NDArray[np.int64], places: NDArray[np.int64], old_places: NDArray[np.int64]
) -> Iterator[str]:
    """Why each of the lacking clips is to be done; `places` are those of all finished and of all published rows in the manifest."""
    was_published, is_known = np.isin(lacking, old_places).tolist(), np.isin(lacking, places).tolist()
    for place, before, known in zip(lacking.tolist(), was_published, is_known, strict=True):
        if result.staleness and before:
            yield f"stale: {result.staleness}"
        elif table.ids[place] in result.done.lost:
            yield LOST
        else:
            yield CHANGED if known else NEW


def _without_input(sample: Sample, stage: Stage, above: str) -> Failure:
    """Why there is nothing to read; `above` is why the stage that this one derives from has no rows."""
    source = stage.extractor.source
    reason = NOT_IMPORTED if stage.is_imported else f"{source} failed: {above}" if stage.upstream else f"no {source} media"
    return Failure(sample.id, reason, "", 0, "", 0, 0)


def status_json(result: StagePlan) -> dict[str, object]:
    """The stage's part of `status --json`."""
    failures = [{"id": failure.id, "reason": failure.reason} for failure in result.failed]
    return {**result.as_json(), "published": result.before.digest if result.before else None, "failures": failures}
