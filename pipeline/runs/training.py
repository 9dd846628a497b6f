"""A training from its settings to its scores: what is read, what is refused, what is recorded."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.cache.publishing import Features
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import PRESETS, TUNED, WORD, models_of, preset_of, stand_in_line, training_settings
from pipeline.data.lacking import modalities, refuse_missing, sparing, without_features
from pipeline.data.opening import open_stages
from pipeline.errors import UserError
from pipeline.learning.recipe import Predictor, Recipe
from pipeline.machine import chosen_device
from pipeline.runs import run_folder
from pipeline.runs._recipe_code import code_of
from pipeline.runs._trainer import RunTrainer, scored
from pipeline.runs.crossvalidation import Mean, fold_folders, refuse_by_fold, train_folds
from pipeline.runs.reading import Reading, by_name, labelled_splits, read_for
from pipeline.runs.run_folder import Run
from pipeline.types import SPLITS, Sample


def train(
    home: Home,
    table: Manifest,
    model_name: str,
    settings: Mapping[str, str],
    *,
    seed: int = 0,
    device: str = "auto",
    stale: str = "refuse",
    allow_missing: int = 0,
    again: bool = False,
    folds: int | None = None,
) -> Run:
    """The finished run of these settings: trained, resumed where it was killed, or found finished before.

    With `folds`, that of as many folds of the train and val clips; the clips of test are then not read. Settings are the recipe's
    defaults < the corpus' `training`, or its `published` with `settings=published` < `settings`. Raises UserError for what a user can
    mend.
    """
    recipe = configured(table, model_name, settings)
    clips, fold = labelled(table, folds), 0 if folds is None else 1
    reading, missing = read_for(home, table, recipe, clips, stale=stale, allow_missing=allow_missing, fold=fold)
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words += ["--seed", str(seed), *([] if folds is None else ["--folds", str(folds)])]
    command = shlex.join(["signcache", "train", table.name, model_name, *words])
    trainer = RunTrainer(home, reading, chosen_device(device), command, missing, origin=origin_of(table, model_name, settings, recipe))
    return trained(trainer, model_name, recipe, seed, folds=folds, again=again)


def labelled(table: Manifest, folds: int | None) -> list[Sample]:
    """The clips that a training learns from or scores: those of test where it has no folds."""
    splits = SPLITS if folds is None else ("train", "val")
    return [sample for sample in table.samples if sample.label is not None and sample.split in splits]


def trained(trainer: RunTrainer, model: str, recipe: Recipe, seed: int, *, folds: int | None, again: bool) -> Run:
    """The finished run of a recipe on what the trainer reads, or that of all its folds."""
    if folds is not None:
        return run_folder.read(train_folds(trainer, model, recipe, seed, asked=folds, again=again))
    trainer.reading.check()
    return run_folder.read(trainer.run(trainer.reading, model, recipe, seed, again=again))


def evaluate(home: Home, folder: Path | str, split: str | None = None, *, device: str = "auto") -> dict[str, Any]:
    """Scores of a finished run on a split (default: the one it was scored on), from its weights and the features published now.

    Raises UserError where the features are not those that it was trained on.
    """
    run = run_folder.read(folder)
    scored_on = str(run.scores["split"])
    split = split or scored_on
    recipe: Recipe = registry.create("model", run.model, run.record["settings"])
    refuse_learned(run, recipe, split)
    reading, dropped = read_again(home, run, recipe, split)
    classes = tuple(run.record["classes"])
    predictor = predictor_of(run, recipe, reading.fold("test", 0).dims, chosen_device(device))
    _, scores = scored(reading, predictor, split, classes=classes, learned=run.record["learned"])
    found = {"run": str(run.folder), "dataset": run.dataset, "model": run.model, "split": split, **scores.summary()}
    apart = {"dropped": dropped, "lacking": reading.lacking(), "warnings": reading.leak_lines(split)}
    return {**found, **{word: clips for word, clips in apart.items() if clips}}


def refuse_learned(run: Run, recipe: Recipe, split: str) -> None:
    """Raise UserError where a run learned clips of a split, or chose its weights by folds of them."""
    if bool(run.record.get("part") or fold_folders(run)) and split != "test":
        raise UserError(f"{run.folder} learned and scored clips of train and val ({run.scores['split']}); score others: --split test")
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; use {', '.join(SPLITS)}")
    if split == "val" and recipe.learns_validation:
        raise UserError(f"{run.folder} learned the clips of val (learn=all); score others: --split test")


def predictor_of(run: Run, recipe: Recipe, dims: Mapping[str, int], device: str) -> Predictor:
    """The trained model of a run; of a run of folds, the mean of theirs."""
    one = partial(recipe.predictor, dims, len(run.record["classes"]), device)
    predictor: Predictor = Mean([one() for _ in fold_folders(run)]) if fold_folders(run) else one()
    predictor.load(run.folder)
    return predictor


def read_again(home: Home, run: Run, recipe: Recipe, split: str) -> tuple[Reading, int]:
    """The labelled clips of a split as they are now, and how many of them the run left out already."""
    table = manifest.read(home, run.dataset)
    opened = as_trained(home, run, table, recipe)
    labelled = [sample for sample in table.samples if sample.split == split and sample.label is not None]
    if not labelled:
        raise UserError(f"{run.dataset} has no labelled clips in split {split!r}; it has: {labelled_splits(table)}")
    missing = without_features(home, table, by_name(opened), labelled, "refuse")
    unheard = {clip: reason for clip, reason in missing.items() if clip not in run.record["dropped"]}
    refuse_missing(table, unheard, len(labelled), 0, option=None)
    reading = Reading(table, opened, tuple(sample for sample in labelled if sample.id not in missing))
    if not reading.samples:
        raise UserError(f"no labelled {split} clip of {run.dataset} has features; run: signcache extract {run.dataset}")
    return reading, len(missing)


def configured(
    table: Manifest, model_name: str, settings: Mapping[str, str], *, training: Mapping[str, Mapping[str, Any]] | None = None
) -> Recipe:
    """The recipe with its settings: its defaults < the corpus' < those given, of which an empty one goes back.

    `training` stands for the settings that the corpus has: tuned, or published where `settings=published` is given.
    """
    registry.find("model", model_name)
    preset, settings = preset_of(settings)
    given = {key: value for key, value in settings.items() if value != ""}
    training = training_settings(table, model_name, preset) if training is None else training
    recipe: Recipe = registry.create("model", model_name, {**training.get(model_name, {}), **given})
    recipe = recipe.adapted(training)
    if not recipe.stages:
        raise UserError(f"model {model_name!r} reads no stages; name one or more: --set stages=a,b")
    if len(set(recipe.stages)) < len(recipe.stages):
        raise UserError(f"model {model_name!r}: stages={','.join(recipe.stages)} names a stage twice")
    code_of(recipe)  # hashed now, as it was loaded
    return recipe


def origin_of(
    table: Manifest, model_name: str, settings: Mapping[str, str], recipe: Recipe, made: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Where the settings of a recipe come from: the presets that give just these with those `made`, and what was set beside them."""
    given = preset_of(settings)[1]
    known = [preset for preset in PRESETS if preset == TUNED or model_name in models_of(table.dataset, preset)]
    alike = [preset for preset in known if configured(table, model_name, {**given, **(made or {}), WORD: preset}) == recipe]
    notes = stand_in_line(table, model_name, recipe.stages) if TUNED in alike else []
    return {"presets": alike, "set": given, **({"notes": notes} if notes else {})}


def as_trained(home: Home, run: Run, table: Manifest, recipe: Recipe) -> dict[str, Features]:
    """The published features of every stage, which must be those that the run was trained on, or have been adopted from them."""
    names = {stage: run.record["stages"][stage].get("name", stage) for stage in recipe.stages}
    refuse_by_fold(run)
    found = open_stages(home, table, [*names.values()], "allow")
    opened = {stage: found[name] for stage, name in names.items()}
    for stage, features in opened.items():
        trained = run.record["stages"][stage]["digest"]
        if trained not in (features.digest, (features.said.like or {}).get("digest")) and trained not in features.adopted_from():
            again = "import it again where its rows are published" if "imported" in run.record else "train it anew"
            raise UserError(
                f"the run was trained on features {trained} of {run.dataset}/{stage}, and {features.digest} are published now; "
                f"{again}: {run.record['command']}"
            )
    spares = recipe.does_without and table.may_lack
    return sparing(table, opened, modalities(home, table, opened)) if spares else opened
