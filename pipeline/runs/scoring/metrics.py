"""What a trained model is worth on one fold: accuracies with their uncertainty, beside what chance would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from pipeline.runs.scoring.intervals import LEVEL, Interval, interval
from pipeline.types import Array

BINS = 15
"""Of confidence, equally wide."""


@dataclass(frozen=True)
class Scores:
    """Fractions over `n` clips; `confusion[i, j]` counts clips of class i taken for class j."""

    n: int
    top1: float
    top5: float
    macro_f1: float
    interval: Interval
    """Of top-1."""
    chance_uniform: float
    chance_majority: float
    """The share, among the scored clips, of the class that is the most frequent of those that were learned; guessing is among these."""
    classes: tuple[str, ...]
    per_class: tuple[dict[str, Any], ...]
    confusion: NDArray[np.int64]
    unlearned: tuple[int, ...]
    """Positions of clips whose label the model never learned: they count as wrong."""

    def summary(self) -> dict[str, Any]:
        """The figures of one line, as plain values."""
        return {
            "n": self.n,
            "top1": self.top1,
            "top5": self.top5,
            "macro_f1": self.macro_f1,
            "interval": {**self.interval._asdict(), "level": LEVEL},
            "chance": {"uniform": self.chance_uniform, "majority": self.chance_majority},
        }

    def details(self) -> dict[str, Any]:
        """Per class and the confusions, `[truth, prediction, clips]` by class index, as plain values."""
        truth, guess = np.nonzero(self.confusion)
        counts = self.confusion[truth, guess]
        triples = [list(row) for row in zip(truth.tolist(), guess.tolist(), counts.tolist(), strict=True)]
        return {"classes": list(self.classes), "per_class": list(self.per_class), "confusion": triples}


@dataclass(frozen=True)
class Judged:
    """What was said of N clips: each array's and tuple's i-th is that of clip i."""

    labels: tuple[str, ...]
    guesses: tuple[str, ...]
    confidence: NDArray[np.float64]
    """`(N,)`: the probability given to the guess, among the classes that were learned."""
    probability: NDArray[np.float64]
    """`(N,)`: that given to the truth; 0 where training lacked its label."""
    rank: NDArray[np.int64]
    """`(N,)`: the place of the truth among the learned classes, from 1; 0 where training lacked it, which counts as wrong."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def hits(self) -> NDArray[np.bool_]:
        """`(N,)`: whether the guess is right."""
        found: NDArray[np.bool_] = self.rank == 1
        return found

    def worst(self, most: int = 12) -> list[int]:
        """Positions of the clips whose truth was held least likely, the worst first."""
        return [int(i) for i in np.argsort(self.probability, kind="stable")[:most]]


def answers(
    logits: Array, classes: Sequence[str], learned: Collection[str] | None = None
) -> tuple[tuple[str, ...], NDArray[np.float64], NDArray[np.int64]]:
    """The K classes that may be said, their `(N, K)` probabilities, and their places, the likeliest first.

    Column i of `(N, C)` logits is `classes[i]`; a class outside of `learned` (None: all) is never said.
    """
    columns = [i for i, name in enumerate(classes) if learned is None or name in learned]
    said = np.asarray(logits, np.float64)[:, columns]
    return tuple(classes[i] for i in columns), softmax(said, 1), np.argsort(-said, 1, kind="stable")


def judge(logits: Array, labels: Sequence[str], classes: Sequence[str], learned: Collection[str] | None = None) -> Judged:
    """What `(N, C)` logits say of N clips among the `answers`."""
    names, shares, order = answers(logits, classes, learned)
    place = {name: number for number, name in enumerate(names)}
    truth = np.array([place.get(label, -1) for label in labels], np.int64)
    rows = np.arange(len(labels))
    return Judged(
        labels=tuple(labels),
        guesses=tuple(names[number] for number in order[:, 0]),
        confidence=shares[rows, order[:, 0]],
        probability=np.where(truth >= 0, shares[rows, truth], 0.0),
        rank=np.where(truth >= 0, (order == truth[:, None]).argmax(1) + 1, 0),
    )


def score(
    logits: Array,
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    learned: Collection[str] | None = None,
    groups: Sequence[str | None] = (),
) -> Scores:
    """Scores of `(N, C)` logits against N labels; column i is `classes[i]`, of which training has seen `learned` (None: all)."""
    return tally(judge(logits, labels, classes, learned), classes, learned=learned, groups=groups)


def tally(
    judged: Judged,
    classes: Sequence[str],
    *,
    learned: Collection[str] | None = None,
    groups: Sequence[str | None] = (),
    by: str = "signer",
) -> Scores:
    """Scores of what was said of the clips, among the `learned` classes (None: all). Macro F1 is over classes in truth or prediction."""
    from sklearn.metrics import confusion_matrix, f1_score

    names = (*classes, *sorted(set(judged.labels) - set(classes)))
    index = {name: i for i, name in enumerate(names)}
    truth, guess = (np.array([index[name] for name in said], np.int64) for said in (judged.labels, judged.guesses))
    known = set(classes if learned is None else learned)
    return Scores(
        n=len(judged),
        top1=float(judged.hits.mean()),
        top5=float(((judged.rank > 0) & (judged.rank <= 5)).mean()),
        macro_f1=float(f1_score(truth, guess, average="macro", zero_division=0)),
        interval=interval(judged.hits, groups, by),
        chance_uniform=1 / len(known),
        chance_majority=max(Counter(label for label in judged.labels if label in known).values(), default=0) / len(judged),
        classes=names,
        per_class=_per_class(truth, guess, names),
        confusion=confusion_matrix(truth, guess, labels=np.arange(len(names))).astype(np.int64),
        unlearned=tuple(np.flatnonzero(judged.rank == 0).tolist()),
    )


def calibration(judged: Judged) -> dict[str, Any]:
    """Expected calibration error (Guo et al., 2017), and the clips, mean confidence and fraction right of each filled bin."""
    number = np.minimum((judged.confidence * BINS).astype(np.int64), BINS - 1)
    bins = []
    for filled in np.unique(number):
        own = number == filled
        sure, right = float(judged.confidence[own].mean()), float(judged.hits[own].mean())
        bins.append({"clips": int(own.sum()), "confidence": sure, "right": right})
    error = sum(row["clips"] * abs(row["confidence"] - row["right"]) for row in bins) / len(judged)
    return {"error": error, "of": BINS, "bins": bins}


def _per_class(truth: NDArray[np.int64], guess: NDArray[np.int64], names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Precision, recall, F1 and clips of every class in truth or prediction."""
    from sklearn.metrics import precision_recall_fscore_support

    present = np.union1d(truth, guess)
    columns = precision_recall_fscore_support(truth, guess, labels=present, zero_division=0)
    return tuple(
        {"label": names[number], "precision": float(p), "recall": float(r), "f1": float(f), "clips": int(n)}
        for number, p, r, f, n in zip(present, *columns, strict=True)
    )
