"""Stages that give the same rows as others which no file can give, imported or kept ones: by them a run labels videos all the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.cache.features import Features
from pipeline.cache.identity import differences, fingerprint
from pipeline.cache.publishing import opened
from pipeline.cache.stage import Stage, as_published, configure, published
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.types import IMPORT_PREFIX, STAGE_PREFIX, Extractor

LONG = 10_000
"""Frames of a clip that gives as many rows as any."""
RATE_HZ = 25.0


def plain(dataset: str, kind: str, fields: Mapping[str, Any]) -> Stage:
    """A stage of media by its own defaults and these fields alone, whatever is published; raises UserError where it reads no media."""
    extractor: Extractor = registry.create("stage", kind, fields)
    if extractor.source.startswith((STAGE_PREFIX, IMPORT_PREFIX)):
        raise UserError(f"stage {kind!r} reads no files but {extractor.source!r}; name the stage whose rows files give, as holistic")
    return Stage(dataset, kind, kind, extractor.model_dump(mode="json"), extractor, fingerprint(extractor), None)


def said_of(stage: Stage) -> dict[str, Any]:
    """What is kept of a stage that gives the same rows: `stage`, its `fields`, `digest` and `identity`."""
    identity = stage.fingerprint
    return {"stage": stage.kind, "fields": dict(stage.settings), "digest": identity.digest, "identity": dict(identity.identity)}


def like_of_stage(home: Home, table: Manifest, name: str, trained: Mapping[str, Any], *, of_videos: bool) -> Mapping[str, Any] | None:
    """What stands in for a stage that a run was `trained` on, or for that which it derives from: of imported rows, and, `of_videos`,
    of kept ones, where what a user names are videos and not what is kept. None where files give the stage, or nothing is known.
    """
    stage = configure(home, table, name)
    root = stage.chain[0]
    if not (root.is_imported or (of_videos and root.extractor.like)):
        return None
    if stage is root and trained.get("like"):
        said: Mapping[str, Any] = trained["like"]
        return said
    is_known = stage.fingerprint.digest == trained["digest"] and published(home, table.name, root.name)
    return like_of(opened(home, table.name, root.name)) if is_known else None


def standing_in(stage: Stage, root: Stage) -> Stage:
    """A stage, or what derives from it, on the rows of another one in place of its own root."""
    if stage.upstream is None:
        return replace(root, name=stage.name)
    upstream = standing_in(stage.upstream, root)
    return replace(stage, upstream=upstream, fingerprint=fingerprint(stage.extractor, upstream.fingerprint.digest))


def stand_in(dataset: str, like: Mapping[str, Any], stale: str, remedy: str) -> Stage:
    """The stage that `said_of` spoke of; raises UserError, with the remedy, where today's gives other rows, unless `stale` is "allow"."""
    stage = plain(dataset, like["stage"], like["fields"])
    if stage.fingerprint.digest != like["digest"] and stale != "allow":
        why = "; ".join(differences(like["identity"], stage.fingerprint.identity)) or "identity"
        raise UserError(f"stage {stage.kind!r} gives other rows today than those that the run's are like ({why}); {remedy}")
    return stage


def like_of(features: Features) -> Mapping[str, Any] | None:
    """What gives the same rows as these from other files: what an import said, else what their stage says; None where nothing does."""
    if features.said.like:
        return features.said.like
    kind = as_published(features.said).like
    if not kind:
        return None
    lengths = features.index.columns["length"][[*features.index.position.values()]]
    stage = plain(features.dataset, kind, fitting(kind, {}, lengths))
    return said_of(stage) if stage.extractor.row_shape == features.row_shape else None


def fitting(kind: str, fields: Mapping[str, Any], lengths: NDArray[np.int64]) -> dict[str, Any]:
    """The fields with which a stage gives clips as many rows as these; where all have the same number, one more field may say it.

    Raises UserError where it gives none so many.
    """
    real = lengths[lengths > 0]
    least, most = (int(real.min()), int(real.max())) if len(real) else (0, 0)
    if not most or _gives(kind, fields, least, most):
        return dict(fields)
    model = registry.find("stage", kind).model_fields
    for field in model if least == most else ():
        tried = {**fields, field: most}
        if field not in fields and isinstance(model[field].default, int) and _gives(kind, tried, most, most, always=True):
            return tried
    said = f"{most} rows" if least == most else f"{least} to {most} rows"
    raise UserError(f"the clips have {said}, and stage {kind!r} gives {_counts(kind, fields)}; set its fields so that it gives as many")


def _gives(kind: str, fields: Mapping[str, Any], least: int, most: int, *, always: bool = False) -> bool:
    """Whether a stage gives clips from `least` to `most` rows; with `always`, a long clip just as many."""
    low, high = _range(kind, fields)
    return low <= least and most <= high and (not always or high == most)


def _range(kind: str, fields: Mapping[str, Any]) -> tuple[int, int]:
    """How many rows a stage gives of a clip of one frame, and of a long one."""
    extractor: Extractor = registry.create("stage", kind, fields)
    low, high = (len(extractor.rows(len(extractor.select(length, RATE_HZ)))) for length in (1, LONG))
    return low, high


def _counts(kind: str, fields: Mapping[str, Any]) -> str:
    low, high = _range(kind, fields)
    return f"{low} of every clip" if low == high else f"{low} to {high} by their length"
