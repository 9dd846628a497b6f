"""How sure a model must be: its temperature and threshold, calibrated on clips that it did not learn from, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.errors import NewerFormat, UserError
from pipeline.runs.scoring.metrics import answers
from pipeline.types import Array

Unknown: TypeAlias = tuple[Array, Collection[str]]
"""`(N, C)` logits of clips of signs that a model did not learn, and the classes that it did."""
FILE, FORMAT = "thresholds.json", 1
COLDEST, HOTTEST = 1.0, 20.0
"""What logits are divided by, at least and at most. Where every clip is right, ever colder is ever likelier: never below 1."""


@dataclass(frozen=True)
class Thresholds:
    """Probabilities are of logits divided by `temperature`; a label is said where its own is `threshold` or more.

    `accepted`: the share of the `clips` of `split` that are said rightly. `false_accepts`: the share of clips of other signs that would
    be said to be one of these, as the threshold was chosen. `unseen_accepts`: the same as measured on `unseen` clips of classes that were
    never learned; of those that were given, no more than was asked for would be said at `unseen_threshold`. `window_seconds` is the
    median length of the clips that it learned from.
    """

    temperature: float
    threshold: float
    split: str
    clips: int
    accepted: float
    false_accepts: float
    unseen: int = 0
    unseen_accepts: float | None = None
    unseen_threshold: float | None = None
    window_seconds: float | None = None


def calibrated(
    logits: Array, labels: Sequence[str], classes: Sequence[str], learned: Collection[str], *, most: float, unknown: Sequence[Unknown] = ()
) -> Thresholds:
    """Of `(N, C)` logits of labelled clips: the temperature that makes them likeliest, and the lowest threshold at which no more than
    the share `most` of signs that it does not know would be said.

    `unknown` are what models of fewer classes say of signs that these lack; measured is then each part at the threshold that the others
    ask for. Without any, the same clips stand in, their own class left out of what may be said: a sign that looks like a known one is
    taken for it more often than this tells. Raises UserError where no clip is of a learned class.
    """
    known = [number for number, label in enumerate(labels) if label in learned]
    if not known or len(learned) < 2:
        raise UserError("no clip is of one of two or more classes that the model learned: there is nothing to calibrate on")
    own = [labels[number] for number in known]
    names, _, _ = answers(logits[known], classes, learned)
    place = {name: number for number, name in enumerate(names)}
    truth = np.array([place[label] for label in own], np.int64)
    scores = np.asarray(logits, np.float64)[np.ix_(known, [list(classes).index(name) for name in names])]
    temperature = _temperature(scores, truth)
    masked = scores.copy()
    masked[np.arange(len(truth)), truth] = -np.inf
    parts = [tops_of(each, classes, taught, temperature) for each, taught in unknown] or [_softmax(masked / temperature).max(1)]
    tops = np.concatenate(parts)
    threshold = lowest(tops, most)
    shares = _softmax(scores / temperature)
    right = (shares.argmax(1) == truth) & (shares.max(1) >= threshold)
    said = Thresholds(temperature, threshold, "", len(known), float(right.mean()), float((tops >= threshold).mean()))
    return replace(said, unseen=len(tops), unseen_accepts=_crossed(parts, most)) if len(parts) > 1 else said


def _crossed(parts: Sequence[NDArray[np.float64]], most: float) -> float:
    """The share of all that reach the threshold which the other parts ask for."""
    every = [(part, np.concatenate([other for other in parts if other is not part])) for part in parts]
    return float(np.concatenate([part >= lowest(others, most) for part, others in every]).mean())


def tops_of(logits: Array, classes: Sequence[str], learned: Collection[str], temperature: float) -> NDArray[np.float64]:
    """`(N,)` probabilities of what is said."""
    tops: NDArray[np.float64] = answers(np.asarray(logits) / temperature, classes, learned)[1].max(1)
    return tops


def lowest(shares: NDArray[np.float64], most: float) -> float:
    """The lowest threshold that no more than a share `most` of these reach; above 1 where as many are 1."""
    ordered = np.sort(shares)[::-1]
    return float(np.nextafter(ordered[int(most * len(ordered))], 2)) if int(most * len(ordered)) < len(ordered) else 0.0


def measured(said: Thresholds, logits: Array, classes: Sequence[str], learned: Collection[str], *, most: float) -> Thresholds:
    """With what clips of signs that the model does not know say of the threshold."""
    tops = tops_of(logits, classes, learned, said.temperature)
    share = float((tops >= said.threshold).mean())
    return replace(said, unseen=len(logits), unseen_accepts=share, unseen_threshold=lowest(tops, most))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import softmax

    shares: NDArray[np.float64] = softmax(scores, axis=1)
    return shares


def _temperature(scores: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    """Guo et al. 2017: one number, by the likelihood of the true classes."""
    from scipy.optimize import minimize_scalar
    from scipy.special import log_softmax

    def unlikely(log_temperature: float) -> float:
        return -float(log_softmax(scores / np.exp(log_temperature), axis=1)[np.arange(len(truth)), truth].mean())

    found = minimize_scalar(unlikely, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def write(folder: Path, said: Thresholds) -> Path:
    """The file beside the weights, in one step."""
    path = folder / FILE
    atomic.replace(path, json.dumps({"format": FORMAT, **asdict(said)}, indent=1).encode())
    return path


def read(folder: Path) -> Thresholds | None:
    """What was calibrated, None where nothing was; raises UserError where the file is damaged or newer."""
    path = folder / FILE
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") > FORMAT:
            raise NewerFormat(path, json.loads(path.read_bytes())["format"], FORMAT)
        return Thresholds(**content)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); run: signcache calibrate {folder}") from error
