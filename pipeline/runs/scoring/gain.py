"""What learning over members is worth: a model made of others beside the plain mean of the same members, clip by clip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.runs.scoring.intervals import difference
from pipeline.runs.scoring.predictions import Predictions

MEAN = "predictions_of_mean.csv"
"""Beside a run's predictions, those of its members' mean."""


def over_mean(mean: Predictions, said: Predictions, by: str) -> dict[str, Any]:
    """Top-1 of the mean, on how many clips the model guesses otherwise, and by how much more it hits, with the paired interval."""
    changed = sum(one != other for one, other in zip(mean.judged.guesses, said.judged.guesses, strict=True))
    gained = difference(mean.judged.hits, said.judged.hits, said.groups, by)
    return {"top1": float(mean.judged.hits.mean()), "changed": changed, "difference": gained}


def in_words(found: Mapping[str, Any]) -> str:
    """`the plain mean of its members: top-1 88.2%, so learning over them +0.4 (-0.8 to 1.6 by clip; it changed 7 of 729 guesses: ...)`."""
    gained = found["difference"]
    span = f"too few {gained['by']}s for an interval"
    if gained["low"] is not None:
        span = f"95% interval {100 * gained['low']:+.1f} to {100 * gained['high']:+.1f} by {gained['by']}"
    return (
        f"the plain mean of its members: top-1 {found['top1']:.1%}, so learning over them is worth {100 * gained['top1']:+.1f} ({span}); "
        f"it changed {found['changed']} of {gained['clips']} guesses, {gained['gained']} for the better and {gained['lost']} for the worse"
    )
