"""A run that is adapted to a few labelled clips of one signer, with what that was worth on clips left out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import digest_of
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.extraction.extract import Options
from pipeline.learning.network import NetworkPredictor
from pipeline.runs import run_folder
from pipeline.runs._cost import Clock
from pipeline.runs._trainer import result_of, say
from pipeline.runs.personal.adapting import adapt, head_of, left_out, seen_by
from pipeline.runs.predict import Tools, clips_in, extracted, predictor_for
from pipeline.runs.reading import Reading, some
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import metrics, predictions
from pipeline.runs.scoring.intervals import difference
from pipeline.runs.trained import Trained, of_run
from pipeline.types import Sample


@dataclass(frozen=True)
class Personal:
    """The adapted run, and the clips that could not be read, with the reason."""

    run: Run
    failed: dict[str, str]


def personalise(home: Home, folder: Path, places: Sequence[Path], *, strength: float = 1.0, device: str = "auto") -> Personal:
    """The run adapted to clips in folders that are called by their labels; the same clips and run give the same one.

    Raises UserError for a label that the run did not learn, and for fewer than two clips.
    """
    base = run_folder.read(folder)
    trained = of_run(home, base)
    predictor = predictor_for(trained, device)
    if not isinstance(predictor, NetworkPredictor):
        raise UserError(f"personalise adapts the last layer of one network, and {base.folder} is a run of several; name one of theirs")
    reading, failed = _read(home, trained, places, device)
    record = _record(base, reading, strength, places)
    own = run_folder.folder_of(home, base.dataset, base.model, record["id"])
    with run_folder.at_work(own, again=True):
        run_folder.write_record(own, record)
        clock = Clock(own)
        result = _adapted(own, record, reading, predictor)
        run_folder.write_result(own, {**result, **clock.cost(predictor.parameters)})
    return Personal(run_folder.read(own), failed)


def _read(home: Home, trained: Trained, places: Sequence[Path], device: str) -> tuple[Reading, dict[str, str]]:
    """The labelled clips with their features, and why others have none."""
    learned = set(trained.run.record["learned"])
    clips = clips_in(trained, places)
    label = {clip.id: Path(clip.id).absolute().parent.name for clip in clips}
    strange = [clip for clip, word in label.items() if word not in learned]
    if strange:
        raise UserError(
            f"{strange[0]}: the run did not learn {label[strange[0]]!r}; clips are to lie in folders called by their labels: "
            f"{some(sorted(learned))}"
        )
    named, listed, features, reasons = extracted(home, trained, clips, Tools(Options(device=device)))
    ready = [replace(sample, label=label[typed]) for typed, sample in named.items() if sample.id not in reasons]
    failed = {typed: reasons[sample.id] for typed, sample in named.items() if sample.id in reasons}
    if len(ready) < 2:
        why = f"; {next(iter(failed))} failed: {next(iter(failed.values()))}" if failed else ""
        raise UserError(f"{len(ready)} clips could be read, and each is scored by what the others teach: give two or more{why}")
    return Reading(listed, features, tuple(ready)), failed


def _record(base: Run, reading: Reading, strength: float, places: Sequence[Path]) -> dict[str, Any]:
    """That of the run, with what it was adapted to."""
    clips = [{"id": sample.id, "label": sample.label, "content": reading.contents(sample)} for sample in reading.samples]
    personal = {"run": base.record["id"], "strength": strength, "clips": clips}
    command = shlex.join(["signcache", "personalise", str(base.folder), *map(str, places), "--strength", f"{strength:g}"])
    said = f"the last layer of {base.record['id']} adapted to {len(clips)} clips, of which each is scored by what the others taught"
    warnings = [*base.record.get("warnings", ()), said]
    return {**base.record, "id": digest_of(personal), "personal": personal, "command": command, "warnings": warnings}


def _adapted(folder: Path, record: dict[str, Any], reading: Reading, predictor: NetworkPredictor) -> dict[str, Any]:
    """Adapt and save the network; what each clip is scored by those that learned from the others, beside what the run said of it."""
    samples, classes, learned = reading.samples, tuple(record["classes"]), record["learned"]
    table, strength = reading.rows(samples, classes), record["personal"]["strength"]
    seen = seen_by(predictor, table)
    before, after = (_said(samples, logits, classes, learned) for logits in (seen.logits, left_out(seen, table.labels, strength)))
    adapt(head_of(predictor.module, len(classes)), seen, table.labels, strength)
    predictor.save(folder)
    predictions.write(folder, after)
    scores = metrics.tally(after.judged, classes, learned=learned, by="clip")
    gain = difference(before.judged.hits, after.judged.hits)
    more: dict[str, Any] = {"before": float(before.judged.hits.mean()), "gain": gain, "selected_on_scored": False}
    names = {"run": str(folder), "dataset": record["dataset"], "model": record["model"], "split": "personal clips, each left out"}
    say([in_words(more["before"], scores.top1, gain)])
    return {**names, **result_of(samples, after, scores), **more}


def _said(samples: Sequence[Sample], logits: Any, classes: tuple[str, ...], learned: Sequence[str]) -> predictions.Predictions:
    judged = metrics.judge(logits, [str(sample.label) for sample in samples], classes, learned)
    ids = tuple(sample.id for sample in samples)
    return predictions.Predictions(ids, judged, (None,) * len(ids), ids)


def in_words(before: float, after: float, gain: dict[str, Any]) -> str:
    """`12 clips, each left out: top-1 50.0% -> 75.0%, +25.0 (95% interval -2.1 to 47.3 by clip)`."""
    span = f"95% interval {100 * gain['low']:+.1f} to {100 * gain['high']:+.1f} by clip"
    return f"{gain['clips']} clips, each left out: top-1 {before:.1%} -> {after:.1%}, {100 * gain['top1']:+.1f} ({span})"
