"""How well glosses were spotted: errors in their order, and how many of their stretches of time were met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.spotting.glosses import Gloss

OVERLAPS = (0.1, 0.25, 0.5)
"""Of action segmentation's F1@k (Lea et al. 2017): shares that a stretch must have in common with the true one."""


@dataclass(frozen=True)
class Errors:
    """The fewest changes that make the true labels of those that were found."""

    substituted: int
    missed: int
    inserted: int

    @property
    def total(self) -> int:
        return self.substituted + self.missed + self.inserted


def score(found: Sequence[Gloss], truth: Sequence[Gloss]) -> dict[str, object]:
    """`gloss_error_rate`, the share of errors among true glosses, which may be above 1, its kinds, and `f1` at each of OVERLAPS.

    Without a true gloss the rate is the number of glosses found.
    """
    errors = gloss_errors([each.label for each in found], [each.label for each in truth])
    return {
        "gloss_error_rate": errors.total / max(1, len(truth)),
        "glosses": len(truth),
        "found": len(found),
        "substituted": errors.substituted,
        "missed": errors.missed,
        "inserted": errors.inserted,
        "f1": {str(share): segment_f1(found, truth, share) for share in OVERLAPS},
    }


def gloss_errors(found: Sequence[str], truth: Sequence[str]) -> Errors:
    """The word error rate's errors (Levenshtein), those with fewest substitutions where several ways are as short."""
    rows = [[(j, 0, 0, j) for j in range(len(found) + 1)]]
    for i, wanted in enumerate(truth, 1):
        row = [(i, 0, i, 0)]
        for j, said in enumerate(found, 1):
            here, above, left = rows[-1][j - 1], rows[-1][j], row[j - 1]
            differs = int(said != wanted)
            ways = (
                (here[0] + differs, here[1] + differs, here[2], here[3]),
                (above[0] + 1, above[1], above[2] + 1, above[3]),
                (left[0] + 1, left[1], left[2], left[3] + 1),
            )
            row.append(min(ways))
        rows.append(row)
    return Errors(*rows[-1][-1][1:])


def segment_f1(found: Sequence[Gloss], truth: Sequence[Gloss], share: float) -> float:
    """F1 of stretches: a true one is met by one of its label that has `share` of their union in common with it; 1 where there are none."""
    left = list(truth)
    met = 0
    for gloss in sorted(found, key=lambda each: each.start):
        near = max((each for each in left if each.label == gloss.label), key=lambda each: overlap(gloss, each), default=None)
        if near is not None and overlap(gloss, near) >= share:
            left.remove(near)
            met += 1
    return 2 * met / (len(found) + len(truth)) if found or truth else 1.0


def overlap(one: Gloss, other: Gloss) -> float:
    """What two have in common of their union in time, 0 to 1."""
    common = min(one.end, other.end) - max(one.start, other.start)
    union = max(one.end, other.end) - min(one.start, other.start)
    return max(0.0, common) / union if union > 0 else 0.0
