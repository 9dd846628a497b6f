"""Attention over time: how much each step of a few scored clips counts in a run's model, read again from the published features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from pipeline import registry
from pipeline.cache.publishing import Features
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.lacking import without_features
from pipeline.errors import UserError
from pipeline.learning.recipe import Recipe
from pipeline.runs import run_folder
from pipeline.runs.crossvalidation import fold_folders
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import predictions
from pipeline.runs.training import as_trained
from pipeline.types import Array, Sample

CLIPS = 4


@dataclass(frozen=True)
class Attention:
    """`clips[id]`: `(T,)` shares of the steps of a clip, which sum to 1; `reason` says why there are none."""

    clips: Mapping[str, Array] = field(default_factory=dict)
    reason: str = ""


def attentions(home: Home, together: Sequence[Run]) -> list[Attention]:
    """That of each run in the same few clips, evenly spread over those that all have scored."""
    try:
        every = [predictions.read(run.folder).ids for run in together]
    except UserError as error:
        return [Attention(reason=str(error)) for _ in together]
    common = sorted(set(every[0]).intersection(*every[1:]))
    if not common:
        return [Attention(reason="no clip was scored by all of these runs") for _ in together]
    places = np.unique(np.linspace(0, len(common) - 1, CLIPS).round().astype(np.int64))
    return [over_time(home, run, [common[place] for place in places]) for run in together]


def over_time(home: Home, run: Run, clips: Sequence[str]) -> Attention:
    """What a run's model attends to in clips that it has scored; in a run of folds, the model that scored each."""
    recipe: Recipe = registry.create("model", run.model, run.record["settings"])
    if recipe.parts or not recipe.stages:
        return Attention(reason=f"{run.model} is made of other models; see the reports of these")
    try:
        table = manifest.read(home, run.dataset)
        opened = as_trained(home, run, table, recipe)
        reading = Reading(table, opened, _present(home, table, opened, clips))
        found: dict[str, Array] = {}
        for folder in fold_folders(run) or [run.folder]:
            own = [clip for clip in predictions.read(folder).ids if clip in clips] if fold_folders(run) else clips
            found |= _of_model(reading, recipe, run_folder.read(folder), own)
    except UserError as error:
        return Attention(reason=str(error))
    if not found:
        return Attention(reason=f"{run.model} attends to no steps in particular")
    if all(np.ptp(shares) < 1e-6 for shares in found.values()):
        return Attention(reason="every step counts the same in this model: it takes their mean")
    return Attention({clip: found[clip] for clip in clips})


def _present(home: Home, table: Manifest, opened: Mapping[str, Features], clips: Sequence[str]) -> tuple[Sample, ...]:
    samples = [sample for sample in table.samples if sample.id in clips]
    missing = without_features(home, table, opened, samples, "refuse")
    gone = [clip for clip in clips if clip in missing or clip not in {sample.id for sample in samples}]
    if gone:
        raise UserError(f"the features of {gone[0]} are gone ({missing.get(gone[0], 'no clip of that name')})")
    return tuple(samples)


def _of_model(reading: Reading, recipe: Recipe, run: Run, clips: Sequence[str]) -> dict[str, Array]:
    """`{clip: (T,)}`; empty where the model has no attention."""
    classes = tuple(run.record["classes"])
    predictor = recipe.predictor(reading.rows([], classes).dims, len(classes))
    attention = getattr(getattr(predictor, "module", None), "attention", None)
    if attention is None or not clips:
        return {}
    predictor.load(run.folder)
    table = reading.rows(reading.samples, classes)
    found = {}
    for clip in clips:
        with torch.inference_mode():
            shares = attention(table.gather(np.array([table.ids.index(clip)])))
        found[clip] = shares[0].float().numpy()
    return found
