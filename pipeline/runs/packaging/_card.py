"""The card of a package for people: what it labels, what it learned from, what it scored, and what its licence is."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.cache import weights
from pipeline.runs.packaging._lead import PackedStage
from pipeline.runs.run_folder import Run

CARD = "MODEL_CARD.md"
UNKNOWN_LICENCE = "not stated; ask who trained it"


def card(run: Run, stages: list[PackedStage], licence: str) -> str:
    """Markdown."""
    scores, record = run.scores, run.record
    interval = scores.get("interval") or {}
    within = f" (95 % interval {interval['low']:.1%} to {interval['high']:.1%})" if {"low", "high"} <= interval.keys() else ""
    lines = [
        f"# {run.model} on {run.dataset}",
        f"Labels a clip as one of {len(record['learned'])} classes: {', '.join(record['learned'])}.",
        "## Learned from",
        f"`{run.dataset}`, seed {record['seed']}, clips by split: {_counts(record['clips'])}.",
        "## Scores",
        f"Top-1 {scores['top1']:.1%}{within}, top-5 {scores['top5']:.1%}, macro F1 {scores['macro_f1']:.3f} "
        f"on {scores['n']} clips of {scores['split']}.",
        *[f"- {warning}" for warning in record.get("warnings", ())],
        "## Reads",
        *[_stage_line(stage) for stage in stages],
        "## Limits",
        "It knows no other signs than these classes and says one of them of any clip. How it does on signers, cameras and rooms "
        "unlike those that it was scored on is not known.",
        "## Licence",
        f"Of the trained weights: {licence}. Weights of a stage that are named above have the licence of who publishes them.",
    ]
    return "\n\n".join(lines) + "\n"


def _counts(clips: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count}" for split, count in clips.items() if count)


def _stage_line(stage: PackedStage) -> str:
    said = stage.identity.weights
    of = f", weights {weights.phrase(said)}" if said else ""
    return f"- `{stage.name}`: stage `{stage.kind}` of {stage.fields['source']}{of}; identity {stage.digest}"
