"""The rows of all frames of a video: what windows select from, where training selected from a clip.

A stage that prepares an item a frame and makes a row of each is run once over the whole video by the engine, with training's fields,
code and weights, and its rows are kept in the cache under an identity of their own; a second look at a video decodes nothing. A stage
without memory makes of a frame the row that it makes of it in a clip, to the bit. One that tracks from frame to frame (holistic) has
seen another past: all frames of the video up to there, where in training it saw those that it selected of a clip. Live is no other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import digest_of
from pipeline.cache.features import Features
from pipeline.cache.identity import Fingerprint
from pipeline.cache.locking import LOCK, alone
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.errors import ClipError
from pipeline.extraction import plan
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.runs.trained import of_today
from pipeline.types import Array, Extractor, Sample

SUFFIX = ".every-frame"
"""Ends the name of a stage under which the cache keeps the rows of all frames."""
ROOT = Path("/")


@dataclass(frozen=True)
class FrameRows:
    """`(N, *row_shape)` rows of the N frames of a video, mapped from the cache, and their rate (0 where unknown)."""

    rows: Array
    rate_hz: float


def is_frame_wise(extractor: Extractor) -> bool:
    """Whether the stage makes a row of each item; whether it prepares an item of each frame, its rows tell."""
    return all(list(extractor.rows(n)) == [slice(i, i + 1) for i in range(n)] for n in (1, 2, 5))


def extracted(home: Home, stages: Sequence[Stage], video: Path, device: str) -> dict[str, FrameRows]:
    """The rows of all frames by stage, from the cache or extracted now; one decode for all. Raises ClipError with the reason."""
    if not stages:
        return {}
    every = [_every_frame(stage) for stage in stages]
    name, source = every[0].dataset, every[0].extractor.source
    clip = str(video.absolute())
    sample = Sample(clip, {source: (Path(clip).relative_to(ROOT).as_posix(),)}, None, "test", None)
    listed = Manifest(name, Binding("folder", ROOT, "official", 0), (), (sample,))
    with alone(home.cache / name / LOCK, f"somebody is filling the cache of {name} already; wait for it, then run this again"):
        extract(home, listed, every, Options(device=device), Progress())
        return {stage.name: _opened(home, listed, whole, clip) for stage, whole in zip(stages, every, strict=True)}


def _opened(home: Home, listed: Manifest, stage: Stage, clip: str) -> FrameRows:
    name = stage.name.removesuffix(SUFFIX)
    failures = {each.id: each.reason for each in plan.plan(home, listed, [stage])[stage.name].failed}
    features: Features | None = of_today(home, listed.name, stage)
    if features is None or clip not in features:
        raise ClipError(f"{name}: {failures.get(clip, 'not extracted')}")
    row = features.index.entry(features.index.position[clip]).row
    if row.length != row.source_length:
        raise ClipError(f"{name} makes {row.length} rows of {row.source_length} frames, so it cannot tell which are of a window")
    return FrameRows(features[clip], row.rate_hz)


def _every_frame(stage: Stage) -> Stage:
    """The stage with every frame of a clip selected, under a name and an identity of its own."""
    identity = {**stage.fingerprint.identity, "selects": "every frame"}
    whole = selecting_all(stage.extractor)
    return replace(stage, name=stage.name + SUFFIX, extractor=whole, fingerprint=Fingerprint(identity, digest_of(identity)))


def selecting_all(extractor: Extractor) -> Extractor:
    """The same extractor, its class' code and fields as they are, but for its choice of frames: it takes all."""
    kind = type(extractor)

    def reduced(_: Extractor) -> tuple[Any, ...]:
        return selecting_all, (extractor,)

    parts = {"__module__": kind.__module__, "select": Extractor.select, "__reduce__": reduced}
    make: Any = type(kind)
    whole = make(kind.__name__, (kind,), parts)
    same: Extractor = whole(**extractor.model_dump())
    return same
