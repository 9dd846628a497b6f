"""The clips that have no features of what their files hold now, each with the reason, before anything is trained on the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.cache.index import COLUMNS, Index
from pipeline.cache.publishing import Features
from pipeline.cache.stage import Stage, configure
from pipeline.corpus import media
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction.plan import CHANGED, StagePlan, plan
from pipeline.extraction.recognition import settle
from pipeline.types import Sample


def without_features(
    home: Home,
    table: Manifest,
    opened: Mapping[str, Features],
    samples: Sequence[Sample],
    stale: str,
    *,
    aids: Mapping[str, Features] | None = None,
) -> dict[str, str]:
    """`{clip: "stage: reason"}` of the clips that have no features of their files as they are now; of `aids`, none that are not.

    A clip that features are `sparing` may have none of these.
    Where no media are there at all (a cache brought from another machine), where today's stage would make other features than those
    opened, and with `stale="allow"`, what is published counts.
    """
    aids = aids or {}
    reasons = _pending(home, table, {**opened, **aids}) if stale == "refuse" else {}
    missing: dict[str, str] = {}
    for name, features in aids.items():
        old = {sample.id: reasons[name, sample.id] for sample in samples if (name, sample.id) in reasons and sample.id in features}
        missing |= {clip: f"{name}: {reason}" for clip, reason in old.items()}
    for name, features in opened.items():
        for sample in samples:
            failure = features.index.failures.get(sample.id)
            has_any = sample.id in features or features.lacks(sample.id)
            unpublished = None if has_any else failure.reason if failure else "not published yet"
            reason = reasons.get((name, sample.id)) or unpublished
            if reason:
                missing.setdefault(sample.id, f"{name}: {reason}")
    return missing


def modalities(home: Home, table: Manifest, names: Iterable[str]) -> dict[str, str]:
    """`{stage: modality}` that its rows go back to."""
    return {name: configure(home, table, name).modality for name in names}


def sparing(table: Manifest, opened: Mapping[str, Features], media: Mapping[str, str]) -> dict[str, Features]:
    """The same features, in which a clip that lacks them as its corpus says it may reads as no rows, unless it lacks those of all.

    `media` are the `modalities` of the stages.
    """
    lacking = {name: table.lacking(media[name]) for name in opened}
    alone = frozenset[str].intersection(*lacking.values())
    return {name: features.sparing(lacking[name] - alone) for name, features in opened.items()}


def _pending(home: Home, table: Manifest, opened: Mapping[str, Features]) -> dict[tuple[str, str], str]:
    """`{(stage, clip): why}` of clips that an extraction would do, publish anew or has failed on, of the stages whose media are there."""
    today = [configure(home, table, name) for name in opened]
    stages = [stage for stage in today if stage.fingerprint.digest == opened[stage.name].digest and _has_media(table, stage)]
    found: dict[tuple[str, str], str] = {}
    for name, planned in plan(home, table, stages).items():
        settled = settle(planned, table)
        found |= {(name, todo.sample.id): todo.reason for todo in settled.todo}
        found |= {(name, failure.id): failure.reason for failure in settled.failed}
        without = [clip for clip in settled.lacking if not opened[name].lacks(clip)]
        found |= dict.fromkeys(((name, clip) for clip in without), f"no {planned.stage.modality} media")
        found |= {(name, clip): CHANGED for clip in _outdated(settled, table, opened[name].index)}
    return found


def _outdated(settled: StagePlan, table: Manifest, opened: Index) -> list[str]:
    """The clips whose opened rows were made from other bytes than they hold now, of which there are finished rows too."""
    now, has_row = np.zeros(len(table.ids), COLUMNS["content"]), settled.numbers >= 0
    now[has_row] = settled.done.rows.columns["content"][settled.numbers[has_row]]
    for clip, entry in settled.found.items():
        now[table.places[clip]] = entry.row.content
    places = table.places_of(opened.text("ids"))
    differs = (places >= 0) & (now[places] != b"") & (now[places] != opened.columns["content"])
    return [table.ids[place] for place in places[differs].tolist()]


def _has_media(table: Manifest, stage: Stage) -> bool:
    source = stage.chain[0].extractor.source
    return any(media.exists(path) for sample in table.samples for path in table.paths(sample, source))


def refuse_missing(
    table: Manifest, missing: Mapping[str, str], clips: int, allowed: int, *, option: str | None = "--allow-missing "
) -> None:
    """Raise UserError where more clips lack features than were allowed, by an `option` that takes how many."""
    if len(missing) <= allowed:
        return
    first, text = next(iter(missing.items()))
    reason = text.partition(": ")[2]
    stages = sorted({text.partition(": ")[0] for text in missing.values()})
    where = " and ".join(f"{table.name}/{stage}" for stage in stages)
    go_on = f", or go on without them: {option}{len(missing)}" if option else ""
    verb = "has" if len(missing) == 1 else "have"
    raise UserError(
        f"{len(missing)} of {clips} clips {verb} no features in {where} (first: {first}: {reason}); "
        f"run: signcache extract {table.name} {' '.join(stages)}{go_on}"
    )
