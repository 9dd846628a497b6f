"""A training from its settings to its scores: what is read, what is refused, what is recorded."""

from __future__ import annotations

import ast
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import data, fitting, losses, manifest, metrics, network, registry, runs, schedule
from pipeline.cache import Features
from pipeline.configured import published
from pipeline.errors import UserError
from pipeline.fingerprint import canonical, code_hashes, digest_of
from pipeline.manifest import Home, Manifest
from pipeline.network import Network as Network
from pipeline.reading import Reading, count, labelled_splits, open_stages, refuse_missing, some, without_features
from pipeline.runs import Run
from pipeline.types import SPLITS, Array, Predictor, Recipe, Sample

SCORING_BATCH = 64


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
) -> Run:
    """The finished run of these settings: trained, resumed where it was killed, or found finished before.

    Settings are the recipe's defaults < the corpus' `training` < `settings`. Raises UserError for what a user can mend.
    """
    recipe = configured(table, model_name, settings)
    opened = open_stages(home, table, recipe.stages, stale)
    labelled = [sample for sample in table.samples if sample.label is not None]
    missing = without_features(home, table, opened, labelled, stale)
    refuse_missing(table, missing, len(labelled), allow_missing)
    reading = Reading(table, opened, tuple(sample for sample in labelled if sample.id not in missing))
    reading.check()
    record = _record(home, reading, recipe, model_name, settings, seed)
    folder = runs.folder_of(home, table.name, model_name, record["id"])
    with runs.locked(folder):
        runs.sweep(folder)
        if again:
            runs.clear(folder)
        if (folder / runs.RESULT).exists():
            _say([f"finished before: {folder}; --again trains it anew"])
        else:
            device = chosen_device(device)
            warnings = [*_dropped_line(missing), *reading.warnings()]
            _say(warnings)
            evidence = {"dropped": missing, "warnings": warnings, "environment": runs.environment(device, torch.get_num_threads())}
            runs.write_record(folder, {**record, **evidence})
            _fit(recipe, reading, folder, record, device)
    return runs.read(folder)


def _fit(recipe: Recipe, reading: Reading, folder: Path, record: Mapping[str, Any], device: str) -> None:
    """Train, or go on where a kill left it; weights and scores into the run's folder."""
    predictor = recipe.fit(reading.fold("train", record["seed"], folder), reading.fold("val", record["seed"]), device)
    predictor.save(folder)
    runs.write_result(folder, _result(folder, reading, predictor, record))
    (folder / fitting.CHECKPOINT).unlink(missing_ok=True)


def evaluate(home: Home, folder: Path | str, split: str | None = None, *, device: str = "auto") -> dict[str, Any]:
    """Scores of a finished run on a split (default: the one it was scored on), from its weights and the features published now.

    Raises UserError where the features are not those that it was trained on.
    """
    run = runs.read(folder)
    scored = run.scores["split"]
    split = split or str(scored)
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; use {', '.join(SPLITS)}")
    recipe: Recipe = registry.create("model", run.model, run.record["settings"])
    reading, dropped = _read_again(home, run, recipe, split)
    classes = tuple(run.record["classes"])
    predictor = recipe.predictor(reading.fold("test", 0).dims, len(classes), chosen_device(device))
    predictor.load(run.folder)
    scores = _scores(*_logits(reading, predictor, split, classes), classes, run.record["learned"])
    found = {"run": str(run.folder), "dataset": run.dataset, "model": run.model, "split": split, **scores.summary()}
    return {**found, "dropped": dropped} if dropped else found


def _read_again(home: Home, run: Run, recipe: Recipe, split: str) -> tuple[Reading, int]:
    """The labelled clips of a split as they are now, and how many of them the run left out already."""
    table = manifest.read(home, run.dataset)
    opened = {stage: _as_trained(home, run, table, stage) for stage in recipe.stages}
    labelled = [sample for sample in table.samples if sample.split == split and sample.label is not None]
    if not labelled:
        raise UserError(f"{run.dataset} has no labelled clips in split {split!r}; it has: {labelled_splits(table)}")
    missing = without_features(home, table, opened, labelled, "allow")
    unheard = {clip: reason for clip, reason in missing.items() if clip not in run.record["dropped"]}
    refuse_missing(table, unheard, len(labelled), 0, option=False)
    reading = Reading(table, opened, tuple(sample for sample in labelled if sample.id not in missing))
    if not reading.samples:
        raise UserError(f"no labelled {split} clip of {run.dataset} has features; run: signcache extract {run.dataset}")
    return reading, len(missing)


def configured(table: Manifest, model_name: str, settings: Mapping[str, str]) -> Recipe:
    """The recipe with its settings: its defaults < the corpus' < those given, of which an empty one goes back."""
    registry.find("model", model_name)
    given = {key: value for key, value in settings.items() if value != ""}
    recipe: Recipe = registry.create("model", model_name, {**table.dataset.training.get(model_name, {}), **given})
    if not recipe.stages:
        raise UserError(f"model {model_name!r} reads no stages; name one or more: --set stages=a,b")
    if len(set(recipe.stages)) < len(recipe.stages):
        raise UserError(f"model {model_name!r}: stages={','.join(recipe.stages)} names a stage twice")
    return recipe


def chosen_device(asked: str) -> str:
    """`cpu` or `cuda`; raises UserError where it is not there."""
    if asked not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {asked}: no such device; use auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def _dropped_line(missing: Mapping[str, str]) -> list[str]:
    named = [f"{clip} ({reason})" for clip, reason in missing.items()]
    return [f"{count(len(missing), 'clip')} left out for want of features: {some(named)}"] if missing else []


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _record(home: Home, reading: Reading, recipe: Recipe, model_name: str, settings: Mapping[str, str], seed: int) -> dict[str, Any]:
    """What makes a run: equal records are one run, whose id is their digest."""
    loop = [canonical(ast.parse(Path(str(module.__file__)).read_bytes())) for module in (data, network, fitting, losses, schedule)]
    identity = {
        "dataset": reading.table.name,
        "model": model_name,
        "settings": recipe.model_dump(mode="json"),
        "seed": seed,
        "stages": {name: features.digest for name, features in reading.opened.items()},
        "rows": reading.digest(),
        "classes": list(reading.table.classes),
        "code": {**code_hashes(str(sys.modules[type(recipe).__module__].__file__)), "pipeline": digest_of(loop)},
    }
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    counts = {split: len(reading.of(split)) for split in SPLITS}
    return {
        "id": digest_of(identity),
        **identity,
        "stages": {name: _stage_record(home, features) for name, features in reading.opened.items()},
        "manifest": {"digest": reading.table.digest, "root": str(reading.table.binding.root), "split": reading.table.binding.split},
        "clips": counts,
        "learned": reading.learned(),
        "command": shlex.join(["signcache", "train", reading.table.name, model_name, *words, "--seed", str(seed)]),
    }


def _stage_record(home: Home, features: Features) -> dict[str, Any]:
    """The fingerprint of a stage as it is read."""
    said = published(home, features.dataset, features.name)
    identity = said.identity if said and said.digest == features.digest else None
    return {"digest": features.digest, "row_shape": list(features.row_shape), "dtype": features.dtype, "identity": identity}


def _result(folder: Path, reading: Reading, predictor: Predictor, record: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of the fold that neither trained nor selected, where there is one."""
    split = reading.scored
    classes = reading.table.classes
    samples, logits = _logits(reading, predictor, split, classes)
    scores = _scores(samples, logits, classes, record["learned"])
    worst = metrics.worst(logits, [str(sample.label) for sample in samples], classes)
    return {
        "run": str(folder),
        "dataset": reading.table.name,
        "model": record["model"],
        "split": split,
        **scores.summary(),
        "selected_on_scored": split == "val",
        "counted_wrong": {samples[i].id: samples[i].label for i in scores.unlearned},
        **scores.details(),
        "worst": [
            {"id": samples[i].id, "label": samples[i].label, "guess": guess, "probability": share, "media": dict(samples[i].media)}
            for i, guess, share in worst
        ],
    }


def _logits(reading: Reading, predictor: Predictor, split: str, classes: tuple[str, ...]) -> tuple[list[Sample], Array]:
    """The clips of a split and their `(N, C)` scores."""
    samples = reading.of(split)
    batches = reading.rows(samples, classes).batches(SCORING_BATCH, shuffle=False)
    return samples, np.concatenate([predictor.logits(batch) for batch in batches])


def _scores(samples: Sequence[Sample], logits: Array, classes: tuple[str, ...], learned: Sequence[str]) -> metrics.Scores:
    labels = [str(sample.label) for sample in samples]
    return metrics.score(logits, labels, classes, learned=learned, groups=[sample.signer for sample in samples])


def _as_trained(home: Home, run: Run, table: Manifest, stage: str) -> Features:
    """The published features of a stage, which must be those that the run was trained on."""
    features = open_stages(home, table, [stage], "allow")[stage]
    trained = run.record["stages"][stage]["digest"]
    if features.digest != trained:
        raise UserError(
            f"the run was trained on features {trained} of {run.dataset}/{stage}, and {features.digest} are published now; "
            f"train it anew: {run.record['command']}"
        )
    return features
