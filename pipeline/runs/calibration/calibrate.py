"""What a run says of clips that it did not learn from -> how sure it must be."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.cache import publishing
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.machine import chosen_device
from pipeline.runs import run_folder
from pipeline.runs.calibration.thresholds import Thresholds, calibrated, measured
from pipeline.runs.calibration.without_classes import left_out
from pipeline.runs.predict import predict_files
from pipeline.runs.run_folder import Run
from pipeline.runs.trained import recipe_of
from pipeline.runs.training import predictor_of, read_again, refuse_learned
from pipeline.types import Array

LEAST = 1e-12
"""What a probability counts as where it is 0, for its logarithm."""


@dataclass(frozen=True)
class Strange:
    """Signs that a run does not know: clips of some in `places`, and in how many parts its own classes are left out."""

    places: Sequence[Path] = ()
    parts: int = 0


def calibrate(home: Home, folder: Path, split: str, strange: Strange, *, most: float, device: str) -> Thresholds:
    """Of the labelled clips of a split; clips of unknown signs, and those of the split whose class the run did not learn, measure it.

    Raises UserError where the run learned from the split, or its features are not those that it was trained on.
    """
    run = run_folder.read(folder)
    recipe = recipe_of(run)
    refuse_learned(run, recipe, split)
    reading, _ = read_again(home, run, recipe, split)
    table = reading.fold(split, 0)
    device = chosen_device(device)
    logits = table.each(predictor_of(run, recipe, table.dims, device).logits)
    labels, learned = [str(sample.label) for sample in reading.of(split)], run.record["learned"]
    unknown = left_out(home, run, recipe, reading, strange.parts, device) if strange.parts else []
    said = calibrated(logits, labels, run.record["classes"], learned, most=most, unknown=unknown)
    never = logits[[place for place, name in enumerate(labels) if name not in learned]]
    if strange.places:
        never = np.concatenate([never, _unseen(home, folder, strange.places, device)])
    if len(never):
        said = measured(said, never, run.record["classes"], learned, most=most)
    return replace(said, split=split, window_seconds=_typical_seconds(home, run, reading.table))


def _unseen(home: Home, folder: Path, places: Sequence[Path], device: str) -> Array:
    """`(N, C)` logits, but for a constant a clip, of clips of signs that a run does not know; those that fail are named."""
    classes: list[str] = run_folder.read(folder).record["classes"]
    said = predict_files(home, folder, places, device=device, top=len(classes))
    found = [dict(each.top) for each in said if each.top]
    if not found:
        raise UserError(f"none of the {len(said)} clips of --unseen could be read, first {said[0].id}: {said[0].reason}")
    for each in said:
        if each.reason:
            print(f"left out: {each.id}: {each.reason}", file=sys.stderr)
    return np.log([[max(LEAST, shares.get(name, 0.0)) for name in classes] for shares in found])


def _typical_seconds(home: Home, run: Run, table: Manifest) -> float | None:
    """The median length of the clips that trained the run, None where their rate is not known."""
    root = configure(home, manifest.read(home, run.dataset, clips=False), next(iter(run.record["stages"]))).chain[0]
    index = publishing.opened(home, run.dataset, root.name).index
    rows = [index.entry(index.position[s.id]).row for s in table.samples if s.split == "train" and s.id in index.position]
    seconds = [row.source_length / row.rate_hz for row in rows if row.rate_hz]
    return float(np.median(seconds)) if seconds else None
