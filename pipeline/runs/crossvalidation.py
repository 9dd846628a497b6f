"""A training in K folds: each a run of its own, and a run of the whole in which every clip is scored once, by the one that never saw it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, cast

import numpy as np

from pipeline.atomic import digest_of
from pipeline.cache.trained import fold_name
from pipeline.corpus.folds import folds_of, kept_together
from pipeline.data.lacking import refuse_missing, without_features
from pipeline.data.opening import open_stages
from pipeline.errors import UserError
from pipeline.learning.mixing import Mixture
from pipeline.learning.recipe import Predictor, Recipe
from pipeline.runs import run_folder
from pipeline.runs._trainer import RunTrainer, record_of, result_of, say
from pipeline.runs.reading import Reading, count, some
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import gain, metrics, predictions
from pipeline.types import Sample, Split

FIGURES = ("n", "top1", "top5", "macro_f1", "seconds")


def folded(reading: Reading, asked: int, seed: int) -> list[Reading]:
    """What each fold reads: the clips that it holds back score, a tenth of the others is validation, and test is not read."""
    name, own = reading.table.name, [sample for sample in reading.samples if sample.split != "test"]
    if asked < 2:
        raise UserError(f"--folds {asked}: a clip is scored by a model of the other folds, so these are 2 or more")
    if not own:
        raise UserError(f"{name} has no labelled train or val clips to fold; see: manifests/{name}.csv")
    _, groups = kept_together(own, reading.table)
    parts = folds_of([sample.label for sample in own], groups, asked, seed)
    if len(parts) < asked:
        say([f"note: --folds {asked}: {name} has {count(len(set(groups)), 'group')} of clips that stay together, so {len(parts)} folds"])
    found = [
        _on_its_own(reading.folded({own[i].id for i in held}, seed, f"fold {number} of {len(parts)}"), number)
        for number, held in enumerate(parts, start=1)
    ]
    for stage in (stage for stage, features in found[0].opened.items() if features.name != stage):
        drop = f"signcache drop {name} {fold_name(stage, 1)}"
        say([f"note: {stage} is read by the weights of each fold, as {fold_name(stage, 1)} and so on; to read {stage} itself: {drop}"])
    for part in found:
        if not part.of("val"):
            left = count(len(part.of("train")), "clip")
            raise UserError(f"{part.part} leaves {left} of {name} to train on, too few to cut a validation from")
        part.check()
        _refuse_leaks(part, len(parts), seed)
    return found


def _on_its_own(reading: Reading, number: int) -> Reading:
    """The reading of a fold on the rows of that fold, of stages whose weights were trained fold by fold."""
    stages = [stage for stage, features in reading.opened.items() if features.name == fold_name(stage, 1)]
    if not stages or number == 1:
        return reading
    home = reading.opened[stages[0]].home
    found = open_stages(home, reading.table, stages, "refuse", number)
    own = {stage: features.sparing(reading.opened[stage].spared) for stage, features in found.items() if features.name != stage}
    if len(own) < len(stages):
        return reading  # of the first fold's weights, which have seen these clips
    missing = without_features(home, reading.table, {each.name: each for each in own.values()}, reading.samples, "refuse")
    refuse_missing(reading.table, missing, len(reading.samples), 0, option=None)
    return replace(reading, opened={**reading.opened, **own})


def _refuse_leaks(reading: Reading, folds: int, seed: int) -> None:
    """Raise UserError where weights behind a stage have seen what a fold scores, or are those of another cut into folds."""
    by, _ = kept_together(reading.samples, reading.table)
    for leak in (leak for leak in reading.leaks("test") if leak.seen or by == "signer"):
        kind, story = leak.features.said.stage, leak.origin.story or {}
        said = f"{reading.part}: {leak.line('scored', len(reading.of('test')))}"
        if leak.origin in reading.begins:
            raise UserError(f"{said}; begin with other weights: --set {leak.origin.stage}.weights=")
        again = f"signcache finetune {reading.table.name} {kind} --folds {folds} --seed {seed}"
        use = f"signcache extract {reading.table.name} {kind} --set weights=run:RUN"
        if str(story["part"]).startswith("fold "):
            cut = f"they are of another cut ({story['part']}, seed {story['seed']}) than this one ({folds} folds, seed {seed})"
            raise UserError(f"{said}; {cut}: fold alike, or train them again by this cut: {again}, and then: {use}")
        raise UserError(f"{said}; train them fold by fold, which gives each fold a backbone: {again}, and then: {use}")


def train_folds(trainer: RunTrainer, model: str, recipe: Recipe, seed: int, *, asked: int, again: bool = False) -> Path:
    """The folder of the finished run of all folds; a fold that is finished is found again, a killed one goes on."""
    readings = folded(trainer.reading, asked, seed)
    record = _record(trainer, readings, model, recipe, seed)
    folder = run_folder.folder_of(trainer.home, record["dataset"], model, record["id"])
    with run_folder.at_work(folder, again=again) as is_finished:
        if is_finished:
            return folder
        say(record["warnings"])
        run_folder.write_record(folder, record)
        done = []
        for reading in readings:
            say([f"{reading.part}: train {len(reading.of('train'))}, val {len(reading.of('val'))}, scores {_scored(reading)}"])
            done.append(run_folder.read(trainer.run(reading, model, recipe, seed, again=again, is_member=True)))
            say([f"{reading.part}: top-1 {done[-1].scores['top1']:.1%}"])
        by, groups = kept_together(_scored_by(readings), trainer.reading.table)
        said = replace(predictions.joined([predictions.read(run.folder) for run in done]), groups=groups)
        predictions.write(folder, said)
        scores = metrics.tally(said.judged, trainer.reading.table.classes, learned=record["learned"], groups=groups, by=by)
        gained = _gained(folder, done, said, by)
        run_folder.write_result(folder, {"run": str(folder), **_result(readings, done, said, scores), **gained})
    return folder


def _gained(folder: Path, done: Sequence[Run], said: predictions.Predictions, by: str) -> dict[str, Any]:
    """What the models of all folds are worth beside their members' means, where they are made of any."""
    if not all("plain_mean" in run.scores for run in done):
        return {}
    mean = replace(predictions.joined([predictions.read(run.folder, gain.MEAN) for run in done]), groups=said.groups)
    predictions.write(folder, mean, gain.MEAN)
    return {"plain_mean": gain.over_mean(mean, said, by)}


def _scored(reading: Reading) -> str:
    """`12 clips of 2 groups: anna, bert`; the clips alone where each is a group."""
    groups = list(dict.fromkeys(kept_together(reading.of("test"), reading.table)[1]))
    clips = count(len(reading.of("test")), "clip")
    return clips if len(groups) == len(reading.of("test")) else f"{clips} of {count(len(groups), 'group')}: {some(groups, 3)}"


def _record(trainer: RunTrainer, readings: Sequence[Reading], model: str, recipe: Recipe, seed: int) -> dict[str, Any]:
    """What makes the run of all folds: the runs of each, in their order."""
    parts = [record_of(trainer.home, reading, model, recipe, seed) for reading in readings]
    identity = {"dataset": parts[0]["dataset"], "model": model, "seed": seed, "folds": [part["id"] for part in parts]}
    learned = [set(part["learned"]) for part in parts]
    splits = {sample.id: cast(Split, reading.part) for reading in readings for sample in reading.of("test")}
    whole = replace(readings[0], samples=tuple(replace(s, split=splits[s.id]) for s in readings[0].samples), part="")
    return {
        **parts[0],
        **identity,
        "id": digest_of(identity),
        "rows": whole.digest(),
        "clips": {reading.part: len(reading.of("test")) for reading in readings},
        "lacking": whole.lacking(),
        "learned": sorted(set.union(*learned)),
        **trainer.evidence([*whole.lacking_lines(), *whole.crossings("fold"), *_parted(readings, recipe), *_unlearned(readings, learned)]),
    }


def _parted(readings: Iterable[Reading], recipe: Recipe) -> Iterable[str]:
    """A line for each fold whose validation had to be cut clip by clip, of too few groups."""
    return (f"{reading.part}: {line}" for reading in readings for line in reading.parted(recipe))


def _unlearned(readings: Iterable[Reading], learned: Iterable[Collection[str]]) -> Iterable[str]:
    """A line for the clips whose label no clip that their fold trains on has."""
    strange = [s for reading, known in zip(readings, learned, strict=True) for s in reading.of("test") if s.label not in known]
    if strange:
        named = [f"{sample.id} ({sample.label})" for sample in strange]
        yield f"{count(len(strange), 'clip')} of labels that the other folds lack, counted as wrong: {some(named)}"


def _scored_by(readings: Iterable[Reading]) -> list[Sample]:
    return [sample for reading in readings for sample in reading.of("test")]


def _result(readings: Sequence[Reading], done: Sequence[Run], said: predictions.Predictions, scores: metrics.Scores) -> dict[str, Any]:
    """Scores of all clips together, and those of each fold."""
    each = [{"run": str(run.folder), **{key: run.scores[key] for key in FIGURES}} for run in done]
    top1 = [run.scores["top1"] for run in done]
    return {
        "dataset": readings[0].table.name,
        "model": done[0].model,
        "split": f"{len(done)} folds",
        **result_of(_scored_by(readings), said, scores),
        "selected_on_scored": False,
        "folds": each,
        "over_folds": {"mean": mean(top1), "sd": stdev(top1)},
        "parameters": done[0].scores["parameters"],
        "seconds": round(sum(run.scores["seconds"] for run in done), 3),
        **{key: max(run.scores[key] for run in done) for key in ("peak_memory_bytes", "peak_device_bytes") if key in done[0].scores},
    }


class Mean(Mixture):
    """The models of all folds as one; each counts the same."""

    def __init__(self, models: Sequence[Predictor]) -> None:
        super().__init__(models, np.full(len(models), 1 / len(models)))

    def save(self, folder: Path) -> None:
        raise RuntimeError("each fold's model lies in the folder of its run")

    def load(self, folder: Path) -> None:
        """Those of the folds of a finished run."""
        for model, fold in zip(self.models, fold_folders(run_folder.read(folder)), strict=True):
            model.load(fold)


def fold_folders(run: Run) -> list[Path]:
    """The folders of the runs of each fold, beside that of the whole; none where a run has no folds."""
    return [run.folder.parent / digest for digest in run.record.get("folds", ())]


def refuse_by_fold(run: Run) -> None:
    """Raise UserError where the models of a run's folds each read rows of weights of their own, as no other clips have them."""
    apart = [stage for stage, said in run.record["stages"].items() if said.get("name", stage) != stage]
    if apart and fold_folders(run):
        raise UserError(
            f"{run.folder} reads {some(apart)} by the weights of each fold, so its models score their own folds only; for other clips "
            f"train one on all: signcache finetune {run.dataset} {apart[0]}, and then without --folds on what its weights make"
        )
