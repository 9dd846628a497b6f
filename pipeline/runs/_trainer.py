"""Runs of recipes on the clips of a reading: each is trained once, goes on where it was killed, and is found again by what made it."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import digest_of
from pipeline.cache.provenance import histories, origins
from pipeline.cache.publishing import Features
from pipeline.cache.stage import published
from pipeline.corpus.folds import kept_together
from pipeline.corpus.manifest import Home
from pipeline.learning import devices, fitting
from pipeline.learning.recipe import Predictor, Recipe
from pipeline.runs import journal, run_folder
from pipeline.runs._cost import Clock
from pipeline.runs._recipe_code import code_of
from pipeline.runs.reading import Reading, count, some
from pipeline.runs.scoring import gain, metrics, predictions
from pipeline.runs.scoring.predictions import Predictions
from pipeline.types import SPLITS, Sample


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
    memory: int | None = None
    """Most bytes that a training may take of its device."""
    clock: Clock = field(default_factory=Clock)
    """Of the training under way."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """Where the settings come from: `{"presets": ["published"], "set": {field: text}}`; empty of the member of another run."""

    def run(self, reading: Reading, model: str, recipe: Recipe, seed: int, *, again: bool = False, is_member: bool = False) -> Path:
        """The folder of the finished run of this recipe on these clips."""
        record = record_of(self.home, reading, model, recipe, seed)
        folder = run_folder.folder_of(self.home, reading.table.name, model, record["id"])
        with run_folder.at_work(folder, again=again) as is_finished:
            if not is_finished:
                evidence = self.evidence(reading.warnings(recipe))
                say([] if is_member else evidence["warnings"])
                run_folder.write_record(folder, {**record, **evidence})
                self._fit(reading, recipe, record, folder)
            devices.once(lambda: journal.finish(run_folder.read(folder)))
        return folder

    def evidence(self, warnings: Iterable[str]) -> dict[str, Any]:
        """What a record says besides what makes the run."""
        doubts = [*self.origin.get("notes", ()), *_dropped_line(self.missing), *warnings]
        environment = run_folder.environment(self.device, torch.get_num_threads())
        origin = {"origin": self.origin} if self.origin else {}
        return {"command": self.command, **origin, "dropped": self.missing, "warnings": doubts, "environment": environment}

    def _fit(self, reading: Reading, recipe: Recipe, record: Mapping[str, Any], folder: Path) -> None:
        """Train, or go on where a kill left it; weights and scores into the run's folder."""
        train, val = reading.fold("train", record["seed"], folder), reading.fold("val", record["seed"])
        clock = Clock(folder)
        train.trainer = replace(self, reading=reading, clock=clock, origin={})
        train.memory = self.memory
        train.story = {"run": record["id"], "seed": record["seed"], **reading.story()}
        predictor = recipe.fit(train, val, self.device)
        devices.once(lambda: predictor.save(folder))
        cost = clock.cost(predictor.parameters)
        write_scores(reading, folder, record, predictor, {"selected_on_scored": reading.scored == "val", **cost})
        devices.once(lambda: (folder / fitting.CHECKPOINT).unlink(missing_ok=True))

    def whole(self, model: str, recipe: Recipe, seed: int) -> Predictor:
        """One trained on all training clips: the run that training this model alone would make, or has made."""
        say([f"member {model}, seed {seed}"])
        return self._trained(self.reading.narrowed(recipe), model, recipe, seed)

    def fold(self, model: str, recipe: Recipe, seed: int, held: Collection[str]) -> Predictor:
        """One trained on all training clips but these, which its run scores."""
        say([f"member {model}, seed {seed}, without {count(len(held), 'clip')}"])
        return self._trained(self.reading.narrowed(recipe).holding(held), model, recipe, seed)

    def _trained(self, reading: Reading, model: str, recipe: Recipe, seed: int) -> Predictor:
        reading.check()
        folder = self.clock.aside(lambda: self.run(reading, model, recipe, seed, is_member=True))
        predictor = recipe.predictor(reading.rows([], reading.table.classes).dims, len(reading.table.classes), self.device)
        predictor.load(folder)
        return predictor


def _dropped_line(missing: Mapping[str, str]) -> list[str]:
    named = [f"{clip} ({reason})" for clip, reason in missing.items()]
    return [f"{count(len(missing), 'clip')} left out for want of features: {some(named)}"] if missing else []


def say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def record_of(home: Home, reading: Reading, model_name: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What makes a run: equal records are one run, whose id is their digest."""
    stages = {**reading.opened, **reading.aids}
    identity = {
        "dataset": reading.table.name,
        "model": model_name,
        "settings": recipe.model_dump(mode="json"),
        "seed": seed,
        "devices": devices.count(),
        "stages": {name: features.digest for name, features in stages.items()},
        "layouts": {name: digest_of(asdict(features.layout)) for name, features in stages.items() if features.layout},
        "rows": reading.digest(),
        "classes": list(reading.table.classes),
        "code": code_of(recipe),
    }
    counts = {split: len(reading.of(split)) for split in SPLITS}
    return {
        "id": digest_of(identity),
        **identity,
        "stages": {name: _stage_record(home, name, features) for name, features in stages.items()},
        "manifest": {"digest": reading.table.digest, "root": str(reading.table.binding.root), "split": reading.table.binding.split},
        "clips": counts,
        "may_lack": sorted(reading.table.may_lack),
        "lacking": reading.lacking(),
        "learned": reading.learned(recipe),
        "begins": histories(reading.begins),
        "part": reading.part,
    }


def _stage_record(home: Home, name: str, features: Features) -> dict[str, Any]:
    """The fingerprint of a stage as it is read, its name in the cache where that is another, and whose weights it goes back to."""
    said = published(home, features.dataset, features.name)
    identity = said.identity if said and said.digest == features.digest else None
    shape = {"row_shape": list(features.row_shape), "dtype": features.dtype}
    more: dict[str, Any] = {"like": features.said.like} if features.said.like else {}
    more |= {"name": features.name} if features.name != name else {}
    found = origins(features)
    told = {"weights": [f"{origin.stage}: {origin.phrase}" for origin in found], "histories": histories(found)}
    return {"digest": features.digest, **shape, "identity": identity, **told, **more}


def scored(
    reading: Reading, predictor: Predictor, split: str, *, classes: tuple[str, ...], learned: Collection[str]
) -> tuple[Predictions, metrics.Scores]:
    """What a model of these classes says of the clips of a split, in their order, and what that is worth."""
    samples = reading.of(split)
    logits = reading.rows(samples, classes).each(predictor.logits)
    judged = metrics.judge(logits, [str(sample.label) for sample in samples], classes, learned)
    by, groups = kept_together(samples, reading.table)
    said = Predictions(tuple(sample.id for sample in samples), judged, tuple(sample.signer for sample in samples), groups)
    return said, metrics.tally(judged, classes, learned=learned, groups=groups, by=by)


def write_scores(reading: Reading, folder: Path, record: Mapping[str, Any], predictor: Predictor, more: Mapping[str, Any]) -> None:
    """What a trained model says of the fold that scores, and what that is worth, into the folder of its run, which is finished by it."""
    said, scores = scored(reading, predictor, reading.scored, classes=tuple(record["classes"]), learned=record["learned"])
    predictions.write(folder, said)
    gained = {**_gained(reading, predictor, said, record, folder), **_without(reading, said)}
    result = {"run": str(folder), "dataset": record["dataset"], "model": record["model"], "split": reading.part or reading.scored}
    run_folder.write_result(folder, {**result, **result_of(reading.of(reading.scored), said, scores), **gained, **more})


def _gained(reading: Reading, predictor: Predictor, said: Predictions, record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a model is worth beside its members' mean, of which the predictions are written too; nothing where it is not made of any."""
    plain = getattr(predictor, "plain", None)
    if plain is None:
        return {}
    mean, scores = scored(reading, plain, reading.scored, classes=reading.table.classes, learned=record["learned"])
    predictions.write(folder, mean, gain.MEAN)
    return {"plain_mean": gain.over_mean(mean, said, scores.interval.by)}


def _without(reading: Reading, said: Predictions) -> dict[str, Any]:
    """`without`: how many of the scored clips lack a stage, and the share of these that are right; nothing where none do."""
    right = {sample.id: guess == sample.label for sample, guess in zip(reading.of(reading.scored), said.judged.guesses, strict=True)}
    found = {stage: [right[clip] for clip in right if features.lacks(clip)] for stage, features in reading.opened.items()}
    each = {stage: {"n": len(clips), "top1": sum(clips) / len(clips)} for stage, clips in found.items() if clips}
    return {"without": each} if each else {}


def result_of(samples: Sequence[Sample], said: Predictions, scores: metrics.Scores) -> dict[str, Any]:
    """The figures of a result, and its clips of note, as plain values."""
    judged = said.judged
    return {
        **scores.summary(),
        "calibration": metrics.calibration(judged),
        "counted_wrong": {samples[i].id: samples[i].label for i in scores.unlearned},
        **scores.details(),
        "worst": [
            {
                "id": samples[i].id,
                "label": samples[i].label,
                "guess": judged.guesses[i],
                "probability": float(judged.probability[i]),
                "media": dict(samples[i].media),
            }
            for i in judged.worst()
        ],
    }
