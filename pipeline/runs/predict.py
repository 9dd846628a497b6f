"""What a run says of clips without labels: of files that a user names, extracted through the cache, or of splits of its corpus."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline import atomic
from pipeline.cache.features import Features
from pipeline.cache.locking import LOCK, alone
from pipeline.corpus import clip_table, manifest
from pipeline.corpus.manifest import Binding, Home, Manifest, without_lacked
from pipeline.data.lacking import refuse_missing, sparing, without_features
from pipeline.data.table import UNKNOWN, Table
from pipeline.datasets.folder import VIDEO_SUFFIXES, videos
from pipeline.errors import UserError
from pipeline.extraction import plan
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.learning.recipe import Predictor
from pipeline.machine import chosen_device
from pipeline.runs import run_folder
from pipeline.runs._clips import ROOT, clips_at
from pipeline.runs._trainer import say
from pipeline.runs.packaging.reading import opened, run_at
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring.metrics import answers
from pipeline.runs.trained import Trained, of_today, recipe_of
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

    def as_json(self) -> dict[str, object]:
        """`{"clip", "label", "probability", "top": [[label, probability], ...]}`; of one that failed also its `reason`."""
        first = self.top[0] if self.top else (None, None)
        said: dict[str, object] = {"clip": self.id, "label": first[0], "probability": first[1], "top": [list(each) for each in self.top]}
        return {**said, "reason": self.reason} if self.reason else said

    def line(self) -> str:
        """`clips/a.mp4  HELLO 93.1%  (THANKS 4.0%, ...)`."""
        if self.reason:
            return f"{self.id}  failed: {self.reason}"
        first, *others = (f"{label} {share:.1%}" for label, share in self.top)
        return f"{self.id}  {first}" + (f"  ({', '.join(others)})" if others else "")


def predict_files(
    home: Home, place: Path | str, places: Sequence[Path], *, device: str = "auto", top: int = 5, stale: str = "refuse"
) -> list[Prediction]:
    """What a run or package says of the clips in files and folders; what is not in the cache yet is extracted as its features were.

    Raises UserError where today's stages would make other features than those that it was trained on, unless `stale` is "allow".
    """
    of_videos = any(each.suffix.lower() in VIDEO_SUFFIXES or (each.is_dir() and any(videos(each))) for each in places)
    with opened(home, place, stale=stale, of_videos=of_videos) as trained:
        tools = Tools(Options(device=device))
        return label(home, trained, clips_in(trained, places), tools=tools, top=top)


def clips_in(trained: Trained, places: Sequence[Path]) -> tuple[Sample, ...]:
    """The clips in files and folders, called by their paths as typed; their media are relative to ROOT."""
    return clips_at(places, trained.modalities, trained.endings)


@dataclass(frozen=True)
class Tools:
    """What a labelling works with: for one alone made anew, for many kept."""

    options: Options = field(default_factory=Options)
    progress: Progress = field(default_factory=Progress)
    predictor: Predictor | None = None
    patience_seconds: float = 0.0
    """In which another prediction may end that fills the same cache."""


def label(home: Home, trained: Trained, clips: Sequence[Sample], *, tools: Tools, top: int = 5) -> list[Prediction]:
    """What is said of clips, whose media are relative to ROOT, in their order; two of one absolute name are extracted once."""
    named, listed, features, reasons = extracted(home, trained, clips, tools)
    ready = [sample for sample in listed.samples if sample.id not in reasons]
    say(Reading(listed, features, tuple(ready)).lacking_lines())
    predictor = tools.predictor or (predictor_for(trained, tools.options.device) if ready else None)
    said = _predicted(trained.run, predictor, features, ready, top) if predictor and ready else {}
    return [Prediction(typed, said.get(sample.id, ()), reasons.get(sample.id, "")) for typed, sample in named.items()]


def extracted(
    home: Home, trained: Trained, clips: Sequence[Sample], tools: Tools
) -> tuple[dict[str, Sample], Manifest, dict[str, Features], dict[str, str]]:
    """The clips by the names that were typed, as a manifest, their features, and `{clip: "stage: reason"}` of those that lack some."""
    named = {sample.id: replace(sample, id=os.path.abspath(sample.id)) for sample in clips}
    may_lack = tuple(trained.run.record.get("may_lack", ()))
    samples = tuple(without_lacked({sample.id: sample for sample in named.values()}.values(), ROOT, may_lack))
    listed = Manifest(trained.name, Binding("folder", ROOT, "official", 0, may_lack), tuple(trained.run.record["classes"]), samples)
    with _alone(home, trained.name, tools.patience_seconds):
        extract(home, listed, trained.chain, tools.options, tools.progress)
        features, reasons = _opened(home, listed, trained)
    return named, listed, features, reasons


def predict_splits(home: Home, place: Path | str, splits: Collection[str], *, device: str = "auto", top: int = 5) -> list[Prediction]:
    """What a run or package says of the clips without label of some splits of its corpus, of all clips of a split where each has one.

    Raises UserError where a clip has no features, or where these are not those that the run was trained on.
    """
    with run_at(place) as folder:
        run = run_folder.read(folder)
        recipe, table = recipe_of(run), manifest.read(home, run.dataset)
        features = as_trained(home, run, table, recipe)
        samples = [sample for split in splits for sample in _unlabelled(table, split)]
        refuse_missing(table, without_features(home, table, features, samples, "refuse"), len(samples), 0, option=None)
        say(Reading(table, features, tuple(samples)).lacking_lines())
        dims = {stage: math.prod(each.row_shape) for stage, each in features.items()}
        said = _predicted(run, predictor_of(run, recipe, dims, chosen_device(device)), features, samples, top)
    return [Prediction(sample.id, said[sample.id]) for sample in samples]


def corpus_of(home: Home, place: Path | str) -> Dataset:
    """The corpus of a run or package."""
    with run_at(place) as folder:
        return manifest.read(home, run_folder.read(folder).dataset, clips=False).dataset


def _unlabelled(table: Manifest, split: str) -> list[Sample]:
    own = [sample for sample in table.samples if sample.split == split]
    if not own:
        raise UserError(f"{table.name} has no clips in split {split!r}; see: manifests/{table.name}.csv")
    return [sample for sample in own if sample.label is None] or own


def _alone(home: Home, name: str, seconds: float = 0.0) -> AbstractContextManager[None]:
    """One prediction at a time from extraction until its rows are opened: each publishes its own clips."""
    busy = f"a prediction is filling the cache of {name} already; wait for it, then run this again"
    return alone(home.cache / name / LOCK, busy, seconds=seconds)


def _opened(home: Home, listed: Manifest, trained: Trained) -> tuple[dict[str, Features], dict[str, str]]:
    """The features of every stage, and `{clip: "stage: reason"}` of the clips that lack some."""
    found = {stage.name: features for stage in trained.stages if (features := of_today(home, listed.name, stage)) is not None}
    if trained.recipe.does_without and len(found) == len(trained.stages):
        found = sparing(listed, found, {stage.name: stage.modality for stage in trained.stages})
    reasons: dict[str, str] = {}
    for stage in trained.stages:
        said, features = plan.plan(home, listed, [stage])[stage.name], found.get(stage.name)
        why = {failure.id: failure.reason for failure in said.failed} | dict.fromkeys(said.lacking, f"no {stage.modality} media")
        for sample in listed.samples:
            if features is None or not (sample.id in features or features.lacks(sample.id)):
                reasons.setdefault(sample.id, f"{stage.name}: {why.get(sample.id, 'not extracted')}")
    return found, reasons


def predictor_for(trained: Trained, device: str) -> Predictor:
    """The model, for rows of its stages."""
    dims = {stage.name: math.prod(stage.extractor.row_shape) for stage in trained.stages}
    return predictor_of(trained.run, trained.recipe, dims, chosen_device(device))


def _predicted(
    run: Run, predictor: Predictor, opened: Mapping[str, Features], samples: Sequence[Sample], top: int
) -> dict[str, tuple[tuple[str, float], ...]]:
    """`{clip: ((label, probability), ...)}`, the likeliest of the classes that were learned first."""
    classes: Sequence[str] = run.record["classes"]
    table = Table(tuple(sample.id for sample in samples), np.full(len(samples), UNKNOWN, np.int64), tuple(classes), opened)
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
