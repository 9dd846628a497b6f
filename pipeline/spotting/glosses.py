"""The nouns of spotting: what a window is taken for, and a sign that was found in time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

NA = "NA"
"""What is said where nothing is believed."""
PAUSE_SECONDS = 3.0
"""Without a gloss: a sentence is over."""


@dataclass(frozen=True, slots=True)
class Guess:
    """The likeliest label of some frames; without a label where they give no rows."""

    label: str
    probability: float


NOTHING = Guess("", 0.0)


@dataclass(frozen=True, slots=True)
class Gloss:
    """A sign from `start` up to `end`, in seconds."""

    label: str
    start: float
    end: float
    probability: float

    def line(self) -> str:
        """`   1.20 s to    2.96 s  HELLO 93.1%`."""
        return f"{self.start:7.2f} s to {self.end:7.2f} s  {self.label} {self.probability:.1%}"


def merged(glosses: Iterable[Gloss], gap: float) -> list[Gloss]:
    """The glosses in the order of time, neighbours of one label made one where no more than `gap` seconds lie between them.

    The probability of two is their mean, each counting by its length.
    """
    found: list[Gloss] = []
    for gloss in sorted(glosses, key=lambda each: (each.start, each.end)):
        if found and found[-1].label == gloss.label and gloss.start - found[-1].end <= gap:
            found[-1] = _joined(found[-1], gloss)
        else:
            found.append(gloss)
    return found


def _joined(first: Gloss, second: Gloss) -> Gloss:
    lengths = [each.end - each.start for each in (first, second)]
    share = lengths[0] / sum(lengths) if sum(lengths) else 0.5
    probability = share * first.probability + (1 - share) * second.probability
    return replace(first, end=max(first.end, second.end), probability=probability)


def document(glosses: Sequence[Gloss]) -> list[dict[str, str | float]]:
    """The glosses as the values of a JSON document, times to the millisecond."""
    return [
        {"label": each.label, "start": round(each.start, 3), "end": round(each.end, 3), "probability": round(each.probability, 6)}
        for each in glosses
    ]


def sentences_of(glosses: Sequence[Gloss]) -> list[list[str]]:
    """The labels of each sentence: glosses with a pause of no more than PAUSE_SECONDS between."""
    found: list[list[str]] = []
    for number, gloss in enumerate(glosses):
        if not number or gloss.start - glosses[number - 1].end > PAUSE_SECONDS:
            found.append([])
        found[-1].append(gloss.label)
    return found


def words_of(label: str) -> str:
    """A label as it is said: `1. loud` and `101_SI` without number, `THANK_YOU` with a space, `she (formal)` without the note."""
    text = re.sub(r"^\d+[._ ]+", "", label)
    return re.sub(r"\s+", " ", re.sub(r"\([^)]*\)|_", " ", text)).strip()
