"""What a run said of every clip that it scored, as a table in its folder: what runs are compared by."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import atomic
from pipeline.errors import UserError
from pipeline.learning import devices
from pipeline.runs.scoring.metrics import Judged

PREDICTIONS = "predictions.csv"
COLUMNS = ("id", "label", "guess", "confidence", "probability", "rank", "signer", "group")


@dataclass(frozen=True)
class Predictions:
    """The scored clips in their order, what was said of each, who signs, and what the interval of the scores counts as one."""

    ids: tuple[str, ...]
    judged: Judged
    signers: tuple[str | None, ...]
    groups: tuple[str, ...]


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Those of several folds as one."""
    said = [part.judged for part in parts]
    judged = Judged(
        labels=tuple(label for each in said for label in each.labels),
        guesses=tuple(guess for each in said for guess in each.guesses),
        confidence=np.concatenate([each.confidence for each in said]),
        probability=np.concatenate([each.probability for each in said]),
        rank=np.concatenate([each.rank for each in said]),
    )
    return Predictions(
        ids=tuple(i for part in parts for i in part.ids),
        judged=judged,
        signers=tuple(signer for part in parts for signer in part.signers),
        groups=tuple(group for part in parts for group in part.groups),
    )


def write(folder: Path, said: Predictions, name: str = PREDICTIONS) -> None:
    """`predictions.csv`, or a file of that form: a row a clip; numbers are written whole, so that reading gives them back."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(COLUMNS)
    judged = said.judged
    numbers = (judged.confidence.tolist(), judged.probability.tolist(), judged.rank.tolist())
    signers = ("" if signer is None else signer for signer in said.signers)
    table.writerows(zip(said.ids, judged.labels, judged.guesses, *numbers, signers, said.groups, strict=True))
    content = out.getvalue().encode("utf-8", errors="surrogateescape")
    devices.once(lambda: atomic.replace(folder / name, content))


def read(folder: Path, name: str = PREDICTIONS) -> Predictions:
    """The predictions of a finished run; raises UserError where there are none or they are damaged."""
    path = folder / name
    try:
        with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.DictReader(file))
        of_old = {"group": "signer"}  # older runs told no other groups
        columns = {name: [row[name] if name in row else row[of_old[name]] for row in rows] for name in COLUMNS}
        confidence, probability = (np.array(columns[name], np.float64) for name in ("confidence", "probability"))
        judged = Judged(tuple(columns["label"]), tuple(columns["guess"]), confidence, probability, np.array(columns["rank"], np.int64))
    except FileNotFoundError:
        raise UserError(f"{folder} holds no {name}: an older signcache trained it; train it again with --again") from None
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); train the run again with --again") from error
    signers = tuple(signer or None for signer in columns["signer"])
    return Predictions(tuple(columns["id"]), judged, signers, tuple(columns["group"]))
