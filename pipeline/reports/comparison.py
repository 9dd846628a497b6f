"""Runs of one corpus side by side: figures, what they differ in, and the paired differences on the clips that both scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import atomic
from pipeline.atomic import digest_of
from pipeline.corpus.manifest import Home
from pipeline.corpus.presets import PUBLISHED
from pipeline.errors import UserError
from pipeline.machine import shown_size, shown_time
from pipeline.reports._pictures import draw_attention, draw_reliability, picture
from pipeline.reports.report import percent
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import predictions
from pipeline.runs.scoring.intervals import difference
from pipeline.runs.scoring.predictions import Predictions

if TYPE_CHECKING:
    from pipeline.reports.attention import Attention

TEMPLATE = Path(__file__).with_suffix(".html")


@dataclass(frozen=True)
class Compared:
    """One run beside the first: `paired` is their `difference` on the clips of both, None where there are none."""

    name: str
    run: Run
    said: Predictions
    differing: str
    """Its settings that are not those of all."""
    paired: Mapping[str, Any] | None

    @property
    def f1(self) -> dict[str, float]:
        """`{class: F1}` of the classes in truth or prediction."""
        return {row["label"]: row["f1"] for row in self.run.scores["per_class"]}

    def figures(self) -> dict[str, str]:
        """A cell a column, in words."""
        scores, record = self.run.scores, self.run.record
        spread, calibration = scores["interval"], scores["calibration"]
        return {
            "run": self.name,
            "model": self.run.model,
            "id": str(record["id"]),
            "seed": str(record["seed"]),
            "scored on": str(scores["split"]),
            "clips": str(scores["n"]),
            "top-1": f"{percent(scores['top1'])} ({_span(spread, '.1f')})",
            "beside 1": _in_words(self.paired) if self.name != "1" else "",
            "top-5": percent(scores["top5"]),
            "macro F1": percent(scores["macro_f1"]),
            "ECE": percent(calibration["error"]),
            "parameters": f"{scores['parameters']:,}",
            "training": shown_time(scores["seconds"]) if "seconds" in scores else "elsewhere",
            "memory": shown_size(scores["peak_memory_bytes"]) if "seconds" in scores else "elsewhere",
        }


def _in_words(paired: Mapping[str, Any] | None) -> str:
    """`+2.1 (-0.4 to 4.6 by clip; 7 gained, 3 lost of 188)`."""
    if paired is None:
        return "no clip in common"
    words = f"{_span(paired, '+.1f')}; {paired['gained']} gained, {paired['lost']} lost of {paired['clips']}"
    return f"{100 * paired['top1']:+.1f} ({words})"


def _span(found: Mapping[str, Any], form: str) -> str:
    """`80.1 to 91.2 by clip`."""
    if found["low"] is None:
        return f"too few {found['by']}s for an interval"
    return f"{100 * found['low']:{form}} to {100 * found['high']:{form}} by {found['by']}"


def compare(runs: Sequence[Run]) -> list[Compared]:
    """Each run with its name `1`, `2`, ...; raises UserError where they are of different corpora, unfinished or too old."""
    first = runs[0]
    for run in runs[1:]:
        if run.dataset != first.dataset:
            raise UserError(f"{run.folder} is of {run.dataset}, and {first.folder} of {first.dataset}; compare runs of one corpus")
    for run in runs:
        if "imported" in run.record and "top1" not in run.scores:
            raise UserError(f"{run.folder} was imported and is not scored; extract what it reads, then: {run.record['command']}")
        if "calibration" not in run.scores:
            raise UserError(f"{run.folder} has no calibration: an older signcache trained it; do it again: {run.record['command']} --again")
    said = [predictions.read(run.folder) for run in runs]
    words = _differing(runs)
    kept = [str(run.scores["interval"]["by"]) for run in runs]
    return [Compared(str(i + 1), run, said[i], words[i], _paired(said[0], said[i], kept[0], kept[i])) for i, run in enumerate(runs)]


def _paired(first: Predictions, second: Predictions, first_by: str, second_by: str) -> dict[str, Any] | None:
    """The difference on the clips that both scored, where they agree on the label."""
    places = {(clip, label): place for place, (clip, label) in enumerate(zip(first.ids, first.judged.labels, strict=True))}
    pairs = [(places[key], place) for place, key in enumerate(zip(second.ids, second.judged.labels, strict=True)) if key in places]
    if not pairs:
        return None
    own, other = (np.array(column) for column in zip(*pairs, strict=True))
    by, groups = first_by, [first.groups[i] for i in own]
    if by == "clip":  # an older run may have counted each clip, where a newer one knows what belongs together
        by, groups = second_by, [second.groups[i] for i in other]
    return difference(first.judged.hits[own], second.judged.hits[other], groups, by)


def _differing(runs: Sequence[Run]) -> list[str]:
    """The stages of each run, `settings=published` where these are, and its settings that another run of the same model has otherwise."""
    found = []
    for run in runs:
        alike = [other.record["settings"] for other in runs if other.model == run.model]
        settings = run.record["settings"]
        keys = [key for key in settings if key == "stages" or any(other.get(key) != settings[key] for other in alike)]
        words = [f"{key}={_value(settings[key])}" for key in keys]
        found.append(" ".join([*(["settings=published"] if PUBLISHED in run.record.get("origin", {}).get("presets", ()) else []), *words]))
    return found


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def classes(compared: Sequence[Compared]) -> list[tuple[str, list[float | None]]]:
    """`(class, F1 of each run)`, those that differ most first; None where a run has no such class in truth or prediction."""
    tables = [run.f1 for run in compared]
    labels = list(dict.fromkeys(label for table in tables for label in table))
    rows = [(label, [table.get(label) for table in tables]) for label in labels]
    return sorted(rows, key=lambda row: min(known := [f1 for f1 in row[1] if f1 is not None]) - max(known))


def write(home: Home, compared: Sequence[Compared], attentions: Sequence[Attention]) -> Path:
    """`cache/runs/DATASET/comparison-DIGEST.html`, whole in itself; the same runs in the same order have the same page."""
    from jinja2 import Environment, StrictUndefined

    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(TEMPLATE.read_text("utf-8"))
    first = compared[0].run
    text = page.render(
        dataset=first.dataset,
        rows=[{"figures": run.figures(), "differing": run.differing, "folder": str(run.run.folder)} for run in compared],
        doubts=[(run.name, line) for run in compared for line in run.run.record["warnings"]],
        same_clips=len({run.said.ids for run in compared}) == 1,
        classes=classes(compared),
        names=[f"{run.name} {run.run.model}" for run in compared],
        commands=[run.run.record["command"] for run in compared],
        reasons=[(run.name, attention.reason) for run, attention in zip(compared, attentions, strict=True) if attention.reason],
        pictures=_pictures(compared, attentions),
        percent=percent,
    )
    digest = digest_of([run.run.record["id"] for run in compared])
    path = (home.cache / "runs" / first.dataset / f"comparison-{digest}.html").absolute()
    atomic.replace(path, text.encode("utf-8", errors="backslashreplace"))
    return path


def _pictures(compared: Sequence[Compared], attentions: Sequence[Attention]) -> dict[str, str]:
    curves = [(f"{run.name} {run.run.model}", run.run.scores["calibration"]) for run in compared]
    seen = {clip: None for attention in attentions for clip in attention.clips}
    lines = {
        clip: [(f"{run.name} {run.run.model}", found.clips[clip]) for run, found in zip(compared, attentions, strict=True) if found.clips]
        for clip in seen
    }
    return {
        "reliability": picture((5.5, 4.5), partial(draw_reliability, runs=curves)),
        "attention": picture((9.5, 2.6), partial(draw_attention, clips=lines)) if lines else "",
    }
