"""What a run says of clips without labels: of files that a user names, extracted through the cache, or of splits of its corpus."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline import atomic, registry
from pipeline.cache import publishing
from pipeline.cache.features import Features
from pipeline.cache.identity import differences
from pipeline.cache.locking import LOCK, alone
from pipeline.cache.stage import Stage, configure, published
from pipeline.corpus import clip_table, manifest
from pipeline.corpus.manifest import PREDICTED, Binding, Home, Manifest
from pipeline.data.lacking import refuse_missing, without_features
from pipeline.data.table import UNKNOWN, Table
from pipeline.errors import UserError
from pipeline.extraction import plan
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.learning.recipe import Recipe
from pipeline.machine import chosen_device
from pipeline.runs import run_folder
from pipeline.runs._clips import ROOT, clips_at
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring.metrics import answers
from pipeline.runs.training import as_trained, predictor_of
from pipeline.types import Dataset, Sample, Submission


@dataclass(frozen=True)
class Prediction:
    """The likeliest labels of a clip with their probabilities, or the reason why there are none."""

    id: str
    top: tuple[tuple[str, float], ...] = ()
    reason: str = ""

    @property
    def label(self) -> str:
        return self.top[0][0] if self.top else ""

    def line(self) -> str:
        """`clips/a.mp4  HELLO 93.1%  (THANKS 4.0%, ...)`."""
        if self.reason:
            return f"{self.id}  failed: {self.reason}"
        first, *others = (f"{label} {share:.1%}" for label, share in self.top)
        return f"{self.id}  {first}" + (f"  ({', '.join(others)})" if others else "")


def predict_files(home: Home, folder: Path | str, places: Sequence[Path], *, device: str = "auto", top: int = 5) -> list[Prediction]:
    """What a run says of the clips in files and folders; what is not in the cache yet is extracted as its features were.

    Raises UserError where today's stages would make other features than those that it was trained on.
    """
    run, recipe = _finished(folder)
    table, name = manifest.read(home, run.dataset), f"{run.dataset}{PREDICTED}"
    stages = [_moved(_unchanged(home, run, table, stage), name) for stage in recipe.stages]
    chain = list({link.name: link for stage in stages for link in stage.chain}.values())
    modalities = list(dict.fromkeys(link.extractor.source for link in chain if link.upstream is None))
    endings = getattr(table.dataset, "endings", {})
    named = {sample.id: replace(sample, id=os.path.abspath(sample.id)) for sample in clips_at(places, modalities, endings)}
    samples = tuple({sample.id: sample for sample in named.values()}.values())
    listed = Manifest(name, Binding(table.binding.corpus, ROOT, "official", 0), table.classes, samples)
    with _alone(home, name):
        extract(home, listed, chain, Options(device=device), Progress())
        opened, reasons = _opened(home, listed, stages)
    ready = [sample for sample in samples if sample.id not in reasons]
    said = _predicted(run, recipe, opened, ready, device, top) if ready else {}
    return [Prediction(typed, said.get(sample.id, ()), reasons.get(sample.id, "")) for typed, sample in named.items()]


def predict_splits(home: Home, folder: Path | str, splits: Collection[str], *, device: str = "auto", top: int = 5) -> list[Prediction]:
    """What a run says of the clips without label of some splits of its corpus, of all clips of a split where each has one.

    Raises UserError where a clip has no features, or where these are not those that the run was trained on.
    """
    run, recipe = _finished(folder)
    table = manifest.read(home, run.dataset)
    opened = {stage: as_trained(home, run, table, stage) for stage in recipe.stages}
    samples = [sample for split in splits for sample in _unlabelled(table, split)]
    refuse_missing(table, without_features(home, table, opened, samples, "refuse"), len(samples), 0, option=False)
    said = _predicted(run, recipe, opened, samples, device, top)
    return [Prediction(sample.id, said[sample.id]) for sample in samples]


def _finished(folder: Path | str) -> tuple[Run, Recipe]:
    """A run and its recipe; raises UserError where its training has not ended."""
    run = run_folder.read(folder)
    if not run.scores:
        raise UserError(f"the run {run.folder} has no scores; train it again with --again")
    recipe: Recipe = registry.create("model", run.model, run.record["settings"])
    return run, recipe


def _unlabelled(table: Manifest, split: str) -> list[Sample]:
    own = [sample for sample in table.samples if sample.split == split]
    if not own:
        raise UserError(f"{table.name} has no clips in split {split!r}; see: manifests/{table.name}.csv")
    return [sample for sample in own if sample.label is None] or own


def _unchanged(home: Home, run: Run, table: Manifest, name: str) -> Stage:
    """Today's stage, which must make the features that the run was trained on, or others that were adopted from these."""
    stage, trained = configure(home, table, name), run.record["stages"][name]
    if any(link.is_imported for link in stage.chain):
        raise UserError(f"the run reads {run.dataset}/{name}, which was imported: signcache cannot make it from files")
    if stage.fingerprint.digest != trained["digest"] and not _is_adopted(home, run, stage, trained["digest"]):
        said = trained["identity"]
        why = "; ".join(differences(said, stage.fingerprint.identity)) if said else f"{trained['digest']} -> {stage.fingerprint.digest}"
        raise UserError(
            f"the run was trained on other features than {run.dataset}/{name} makes today ({why}); train it anew: {run.record['command']}"
        )
    return stage


def _is_adopted(home: Home, run: Run, stage: Stage, digest: str) -> bool:
    """Whether today's features of the run's corpus were once those of this identity."""
    features = _of_today(home, run.dataset, stage)
    return features is not None and digest in features.adopted_from()


def _of_today(home: Home, dataset: str, stage: Stage) -> Features | None:
    """What is published of a stage, where it is what the stage makes today."""
    if published(home, dataset, stage.name) is None:
        return None
    features = publishing.opened(home, dataset, stage.name)
    return features if features.digest == stage.fingerprint.digest else None


def _moved(stage: Stage, name: str) -> Stage:
    """The same stage under another name of clips."""
    return replace(stage, dataset=name, upstream=_moved(stage.upstream, name) if stage.upstream else None)


def _alone(home: Home, name: str) -> AbstractContextManager[None]:
    """One prediction at a time from extraction until its rows are opened: each publishes its own clips."""
    return alone(home.cache / name / LOCK, f"a prediction is filling the cache of {name} already; wait for it, then run this again")


def _opened(home: Home, listed: Manifest, stages: Sequence[Stage]) -> tuple[dict[str, Features], dict[str, str]]:
    """The features of every stage, and `{clip: "stage: reason"}` of the clips that lack some."""
    opened, reasons = dict[str, Features](), dict[str, str]()
    for stage in stages:
        failed = {failure.id: failure.reason for failure in plan.plan(home, listed, [stage])[stage.name].failed}
        features = _of_today(home, listed.name, stage)
        if features is not None:
            opened[stage.name] = features
        for sample in listed.samples:
            if sample.id not in opened.get(stage.name, ()):
                reasons.setdefault(sample.id, f"{stage.name}: {failed.get(sample.id, 'not extracted')}")
    return opened, reasons


def _predicted(
    run: Run, recipe: Recipe, opened: Mapping[str, Features], samples: Sequence[Sample], device: str, top: int
) -> dict[str, tuple[tuple[str, float], ...]]:
    """`{clip: ((label, probability), ...)}`, the likeliest of the classes that were learned first."""
    classes: Sequence[str] = run.record["classes"]
    table = Table(tuple(sample.id for sample in samples), np.full(len(samples), UNKNOWN, np.int64), tuple(classes), opened)
    predictor = predictor_of(run, recipe, table.dims, chosen_device(device))
    names, shares, order = answers(table.each(predictor.logits), classes, run.record["learned"])
    return {
        clip: tuple((names[i], float(row[i])) for i in places[:top]) for clip, row, places in zip(table.ids, shares, order, strict=True)
    }


def write_table(out: Path, predictions: Sequence[Prediction]) -> None:
    """`id,label,probability`, the next likeliest as `label_2,probability_2,...`, and the reason where there is none; all or nothing."""
    most = max((len(prediction.top) for prediction in predictions), default=0)
    more = [f"{column}_{place}" for place in range(2, most + 1) for column in ("label", "probability")]
    rows: list[Sequence[object]] = [["id", "label", "probability", *more, "reason"]]
    for prediction in predictions:
        cells = [cell for label, share in prediction.top for cell in (label, f"{share:.6f}")]
        rows.append([prediction.id, *cells, *[""] * (2 + len(more) - len(cells)), prediction.reason])
    _write(out, rows)


def write_submission(out: Path, dataset: Dataset, predictions: Sequence[Prediction]) -> None:
    """The file as the corpus declares it, else `id,label`."""
    labels = {prediction.id: prediction.label for prediction in predictions}
    submission: Submission | None = getattr(dataset, "submission", None)
    _write(out, list(submission(labels)) if submission else [("id", "label"), *labels.items()])


def _write(out: Path, rows: Sequence[Sequence[object]]) -> None:
    try:
        atomic.replace(out, b"".join(clip_table.text(rows)))
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; name another file with --out") from error
