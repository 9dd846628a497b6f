"""The clip that is explained: its rows, and the trained model that is asked about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.cache.publishing import Features
from pipeline.cache.stage import Stage, configure
from pipeline.corpus import manifest
from pipeline.corpus.intervals import parted
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.data.lacking import without_features
from pipeline.errors import UserError, did_you_mean
from pipeline.layouts import Layout
from pipeline.learning.recipe import Predictor, Recipe
from pipeline.runs import run_folder
from pipeline.runs.crossvalidation import fold_folders
from pipeline.runs.packaging.reading import opened, run_at
from pipeline.runs.predict import Tools, clips_in, extracted
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import predictions
from pipeline.runs.trained import recipe_of
from pipeline.runs.training import as_trained, predictor_of
from pipeline.types import Sample


@dataclass(frozen=True)
class Subject:
    """One clip as a batch of its own, and what labels it."""

    name: str
    sample: Sample
    table: Manifest
    run: Run
    recipe: Recipe
    predictor: Predictor
    batch: Batch
    layouts: Mapping[str, Layout | None]
    stages: Mapping[str, Stage]
    """Today's, which may make other rows than those that are read where these were adopted or imported."""

    @property
    def classes(self) -> list[str]:
        return list(self.run.record["classes"])


@contextmanager
def subject_of(home: Home, place: Path, clip: str) -> Iterator[Subject]:
    """A clip of the run's corpus by its id, else a file, or folder of one clip, that is extracted as its features were.

    Raises UserError where it is neither, or cannot be read.
    """
    with run_at(place) as folder:
        run = run_folder.read(folder)
        table = manifest.read(home, run.dataset) if manifest.is_bound(home, run.dataset) else None
        if table is not None and clip in table.places:
            yield of_corpus(home, run, table, clip)
            return
    if not Path(parted(clip)[0]).exists():
        near = did_you_mean(clip, table.ids if table else [])
        raise UserError(f"{clip!r} is no clip of {run.dataset!r}{near} and no file; ids are in {home.manifests / run.dataset}.csv")
    with opened(home, place) as trained:
        named, listed, features, reasons = extracted(home, trained, clips_in(trained, [Path(clip)]), Tools())
        if len(named) > 1:
            raise UserError(f"{clip} holds {len(named)} clips; name one of them, as in {next(iter(named))}")
        (sample,) = listed.samples
        if reasons:
            raise UserError(f"{clip} cannot be explained: {reasons[sample.id]}")
        stages = {stage.name: stage for stage in trained.stages}
        yield _subject(trained.run, Reading(listed, features, (sample,)), sample, clip, stages)


def of_corpus(home: Home, run: Run, table: Manifest, clip: str) -> Subject:
    """A clip of the corpus by the rows that the run was trained on; in a run of folds, by the model that scored it."""
    for folder in fold_folders(run):
        if clip in predictions.read(folder).ids:
            run = run_folder.read(folder)
    recipe, sample = recipe_of(run), table.samples[table.places[clip]]
    features = as_trained(home, run, table, recipe)
    missing = without_features(home, table, features, [sample], "refuse")
    if missing:
        raise UserError(f"{clip} cannot be explained: {missing[clip]}; run: signcache extract {table.name}")
    stages = {stage: configure(home, table, stage) for stage in recipe.stages}
    return _subject(run, Reading(table, features, (sample,)), sample, clip, stages)


def _subject(run: Run, reading: Reading, sample: Sample, name: str, stages: Mapping[str, Stage]) -> Subject:
    recipe, rows = recipe_of(run), reading.rows([sample], tuple(run.record["classes"]))
    batch = rows.gather(np.zeros(1, np.int64))
    features: Mapping[str, Features] = rows.stages
    layouts = {stage: found.layout for stage, found in features.items()}
    return Subject(name, sample, reading.table, run, recipe, predictor_of(run, recipe, rows.dims, "cpu"), batch, layouts, stages)
