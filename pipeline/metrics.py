"""What a trained model is worth on one fold: accuracies with their uncertainty, beside what chance would give."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Array

RESAMPLES = 2000
LEVEL = 0.95


@dataclass(frozen=True)
class Scores:
    """Fractions over `n` clips; `confusion[i, j]` counts clips of class i taken for class j."""

    n: int
    top1: float
    top5: float
    macro_f1: float
    interval: tuple[float, float]
    """95 % bootstrap percentile interval of top-1."""
    interval_by: str
    """What was resampled: "signer" where several are known, else "clip"."""
    chance_uniform: float
    chance_majority: float
    """The share of the most frequent class among the scored clips."""
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
            "interval": {"low": self.interval[0], "high": self.interval[1], "level": LEVEL, "by": self.interval_by},
            "chance": {"uniform": self.chance_uniform, "majority": self.chance_majority},
        }

    def details(self) -> dict[str, Any]:
        """Per class and the confusions, `[truth, prediction, clips]` by class index, as plain values."""
        truth, guess = np.nonzero(self.confusion)
        counts = self.confusion[truth, guess]
        triples = [list(row) for row in zip(truth.tolist(), guess.tolist(), counts.tolist(), strict=True)]
        return {"classes": list(self.classes), "per_class": list(self.per_class), "confusion": triples}


def score(
    logits: Array,
    labels: Sequence[str],
    classes: Sequence[str],
    *,
    learned: Collection[str] | None = None,
    groups: Sequence[str | None] = (),
    seed: int = 0,
) -> Scores:
    """Scores of `(N, C)` logits against N labels; column i is `classes[i]`, of which training has seen `learned` (None: all).

    A class that was never learned is never predicted, so its clips count as wrong. Macro F1 is over classes in truth or prediction.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    seen = set(classes if learned is None else learned)
    names = (*classes, *sorted(set(labels) - set(classes)))
    index = {name: i for i, name in enumerate(names)}
    truth = np.array([index[label] for label in labels], np.int64)
    ranked = _ranked(logits, np.array([name in seen for name in classes]))
    guess = ranked[:, 0]
    hits = ranked[:, :5] == truth[:, None]
    low, high, by = interval(hits[:, 0], groups, seed)
    return Scores(
        n=len(labels),
        top1=float(hits[:, 0].mean()),
        top5=float(hits.any(1).mean()),
        macro_f1=float(f1_score(truth, guess, average="macro", zero_division=0)),
        interval=(low, high),
        interval_by=by,
        chance_uniform=1 / len(classes),
        chance_majority=float(np.bincount(truth).max() / len(truth)),
        classes=names,
        per_class=_per_class(truth, guess, names),
        confusion=confusion_matrix(truth, guess, labels=np.arange(len(names))).astype(np.int64),
        unlearned=tuple(i for i, label in enumerate(labels) if label not in seen),
    )


def worst(logits: Array, labels: Sequence[str], classes: Sequence[str], most: int = 12) -> list[tuple[int, str, float]]:
    """`(position, taken for, probability given to the truth)` of the clips whose truth was held least likely, the worst first.

    A label that no column stands for has probability zero.
    """
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    index = {name: i for i, name in enumerate(classes)}
    truth = [float(shares[i, index[label]]) if label in index else 0.0 for i, label in enumerate(labels)]
    order = sorted(range(len(labels)), key=lambda i: truth[i])[:most]
    return [(i, classes[int(logits[i].argmax())], truth[i]) for i in order]


def _ranked(logits: Array, allowed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`(N, allowed classes)` class indices, the likeliest first."""
    order = np.argsort(np.where(allowed, -np.asarray(logits, np.float64), np.inf), axis=1, kind="stable")
    return order[:, : int(allowed.sum())]


def _per_class(truth: NDArray[np.int64], guess: NDArray[np.int64], names: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Precision, recall, F1 and clips of every class in truth or prediction."""
    from sklearn.metrics import precision_recall_fscore_support

    present = np.union1d(truth, guess)
    columns = precision_recall_fscore_support(truth, guess, labels=present, zero_division=0)
    return tuple(
        {"label": names[number], "precision": float(p), "recall": float(r), "f1": float(f), "clips": int(n)}
        for number, p, r, f, n in zip(present, *columns, strict=True)
    )


def interval(hits: NDArray[np.bool_], groups: Sequence[str | None] = (), seed: int = 0) -> tuple[float, float, str]:
    """Low, high, and what was resampled: signers (whole, with all their clips) where several are known, else clips."""
    random = np.random.default_rng(seed & 0xFFFF_FFFF)
    if not groups or None in groups or len(set(groups)) < 2:
        shares = random.binomial(len(hits), hits.mean(), RESAMPLES) / len(hits)  # resampling clips draws just this
        by = "clip"
    else:
        _, member = np.unique(np.array(groups, dtype=str), return_inverse=True)
        sizes, right = np.bincount(member), np.bincount(member, hits)
        drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
        shares = (drawn @ right) / (drawn @ sizes)
        by = "signer"
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high), by
