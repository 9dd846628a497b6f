"""The stages that are read, opened, or what to run where they are not published."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pipeline import registry
from pipeline.cache.publishing import Features, open_stage
from pipeline.cache.stage import published_names, source_of
from pipeline.cache.trained import fold_name
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import second_names
from pipeline.errors import UserError, did_you_mean
from pipeline.types import STAGE_PREFIX, Stale


def open_stages(home: Home, table: Manifest, stages: Sequence[str], stale: str, fold: int = 0) -> dict[str, Features]:
    """The published features of every stage; with a `fold`, from 1, those of `STAGE.foldN` where there are such.

    Raises UserError that lists what is published where one is not.
    """
    known = published_names(home, table.name)
    places = {stage: own if (own := fold_name(stage, fold)) in known else stage for stage in stages}
    for stage in places.values():
        if stage not in known:
            raise UserError(
                f"{table.name} has no features of {stage!r}; published: {', '.join(known) or 'nothing'}; {_remedy(table, stage, known)}"
            )
    folders = {"cache": home.cache, "manifests": home.manifests}
    return {stage: open_stage(table.name, name, **folders, stale=cast(Stale, stale)) for stage, name in places.items()}


def _remedy(table: Manifest, stage: str, known: Sequence[str]) -> str:
    """What to run where a stage is not published."""
    folds = sum(fold_name(stage, number) in known for number in range(1, len(known) + 1))
    if folds:
        return f"its weights were trained in {folds} folds, and are read by a training of as many: --folds {folds}"
    others = f"train on others: --set stages={','.join(known)}"
    kind = second_names(table.dataset).get(stage, stage)
    if kind not in registry.names("stage"):
        every = sorted({*known, *registry.names("stage")})
        return f"there is no stage of that name{did_you_mean(stage, every)} {others if known else f'Stages: {chr(44).join(every)}'}"
    source = source_of(table, stage)
    media = {modality for sample in table.samples for modality in sample.media}
    if not source.startswith(STAGE_PREFIX) and source not in media:
        return f"its clips have no {source} media, which that stage reads; {others}" if known else f"its clips have no {source} media"
    return f"run: signcache extract {table.name} {stage}" + (f", or {others}" if known else "")
