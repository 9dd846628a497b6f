"""Runs of recipes on the clips of a reading: each is trained once, goes on where it was killed, and is found again by what made it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import augment, data, fitting, layouts, losses, metrics, network, runs, schedule
from pipeline.cache import Features
from pipeline.configured import published
from pipeline.fingerprint import canonical, code_hashes, digest_of
from pipeline.manifest import Home
from pipeline.reading import Reading, count, some
from pipeline.types import SPLITS, Array, Predictor, Recipe, Sample

SCORING_BATCH = 64


@dataclass(frozen=True)
class RunTrainer:
    """Trains in run folders; to a recipe made of others it is the `Trainer` of its parts."""

    home: Home
    reading: Reading
    device: str
    command: str
    """The line that made all this."""
    missing: Mapping[str, str]
    """Clips left out, with their reasons."""

    def run(self, reading: Reading, model: str, recipe: Recipe, seed: int, *, again: bool = False, is_member: bool = False) -> Path:
        """The folder of the finished run of this recipe on these clips."""
        record = _record(self.home, reading, model, recipe, seed)
        folder = runs.folder_of(self.home, reading.table.name, model, record["id"])
        with runs.locked(folder):
            runs.sweep(folder)
            if again:
                runs.clear(folder)
            if (folder / runs.RESULT).exists():
                _say([f"finished before: {folder}; --again trains it anew"])
            else:
                warnings = [*_dropped_line(self.missing), *reading.warnings()]
                _say([] if is_member else warnings)
                environment = runs.environment(self.device, torch.get_num_threads())
                evidence = {"command": self.command, "dropped": self.missing, "warnings": warnings, "environment": environment}
                runs.write_record(folder, {**record, **evidence})
                self._fit(reading, recipe, record, folder)
        return folder

    def _fit(self, reading: Reading, recipe: Recipe, record: Mapping[str, Any], folder: Path) -> None:
        """Train, or go on where a kill left it; weights and scores into the run's folder."""
        train, val = reading.fold("train", record["seed"], folder), reading.fold("val", record["seed"])
        train.trainer = replace(self, reading=reading)
        predictor = recipe.fit(train, val, self.device)
        predictor.save(folder)
        runs.write_result(folder, _result(folder, reading, predictor, record))
        (folder / fitting.CHECKPOINT).unlink(missing_ok=True)

    def whole(self, model: str, recipe: Recipe, seed: int) -> Predictor:
        """One trained on all training clips: the run that training this model alone would make, or has made."""
        _say([f"member {model}, seed {seed}"])
        return self._trained(self.reading.narrowed(recipe), model, recipe, seed)

    def fold(self, model: str, recipe: Recipe, seed: int, held: Collection[str]) -> Predictor:
        """One trained on all training clips but these, which its run scores."""
        _say([f"member {model}, seed {seed}, without {count(len(held), 'clip')}"])
        return self._trained(self.reading.narrowed(recipe).holding(held), model, recipe, seed)

    def _trained(self, reading: Reading, model: str, recipe: Recipe, seed: int) -> Predictor:
        reading.check()
        folder = self.run(reading, model, recipe, seed, is_member=True)
        predictor = recipe.predictor(reading.rows([], reading.table.classes).dims, len(reading.table.classes), self.device)
        predictor.load(folder)
        return predictor


def _dropped_line(missing: Mapping[str, str]) -> list[str]:
    named = [f"{clip} ({reason})" for clip, reason in missing.items()]
    return [f"{count(len(missing), 'clip')} left out for want of features: {some(named)}"] if missing else []


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _record(home: Home, reading: Reading, model_name: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What makes a run: equal records are one run, whose id is their digest."""
    stages = {**reading.opened, **reading.aids}
    loop = [
        canonical(ast.parse(Path(str(module.__file__)).read_bytes()))
        for module in (data, network, fitting, losses, schedule, augment, layouts)
    ]
    identity = {
        "dataset": reading.table.name,
        "model": model_name,
        "settings": recipe.model_dump(mode="json"),
        "seed": seed,
        "stages": {name: features.digest for name, features in stages.items()},
        "rows": reading.digest(),
        "classes": list(reading.table.classes),
        "code": {**_code(recipe), "pipeline": digest_of(loop)},
    }
    counts = {split: len(reading.of(split)) for split in SPLITS}
    return {
        "id": digest_of(identity),
        **identity,
        "stages": {name: _stage_record(home, features) for name, features in stages.items()},
        "manifest": {"digest": reading.table.digest, "root": str(reading.table.binding.root), "split": reading.table.binding.split},
        "clips": counts,
        "learned": reading.learned(),
    }


def _code(recipe: Recipe) -> dict[str, str]:
    """Hashes of the files of a recipe and of those that it is made of."""
    found = code_hashes(str(sys.modules[type(recipe).__module__].__file__))
    for part in recipe.parts:
        found |= _code(part)
    return found


def _stage_record(home: Home, features: Features) -> dict[str, Any]:
    """The fingerprint of a stage as it is read."""
    said = published(home, features.dataset, features.name)
    identity = said.identity if said and said.digest == features.digest else None
    return {"digest": features.digest, "row_shape": list(features.row_shape), "dtype": features.dtype, "identity": identity}


def _result(folder: Path, reading: Reading, predictor: Predictor, record: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of the fold that neither trained nor selected, where there is one."""
    split = reading.scored
    classes = reading.table.classes
    samples, logits = logits_of(reading, predictor, split, classes)
    scores = scores_of(samples, logits, classes, record["learned"])
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


def logits_of(reading: Reading, predictor: Predictor, split: str, classes: tuple[str, ...]) -> tuple[list[Sample], Array]:
    """The clips of a split and their `(N, C)` scores."""
    samples = reading.of(split)
    batches = reading.rows(samples, classes).batches(SCORING_BATCH, shuffle=False)
    return samples, np.concatenate([predictor.logits(batch) for batch in batches])


def scores_of(samples: Sequence[Sample], logits: Array, classes: tuple[str, ...], learned: Sequence[str]) -> metrics.Scores:
    labels = [str(sample.label) for sample in samples]
    return metrics.score(logits, labels, classes, learned=learned, groups=[sample.signer for sample in samples])
