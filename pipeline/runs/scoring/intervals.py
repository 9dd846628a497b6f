"""How sure a fraction right is of clips that were not scored: the clips of one signer, or of one recording, go right and wrong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from pipeline.types import Array

LEVEL = 0.95
FEWEST = 3
"""Groups that an interval needs; of two, Student's t spans nearly all fractions."""


class Interval(NamedTuple):
    """Limits of level LEVEL, None where there are too few groups; `by` says what counts as one: "signer", a word of the corpus, "clip"."""

    low: float | None
    high: float | None
    by: str


def interval(hits: NDArray[np.bool_], groups: Sequence[str | None] = (), by: str = "signer") -> Interval:
    """Wilson's interval of the fraction of `(N,)` hits, at as many clips as those of the groups are worth; groups not known: each clip."""
    by = by if _are_known(groups) else "clip"
    found = _worth(hits, groups, by)
    if found is None:
        return Interval(None, None, by)
    worth, errors = found
    share, more = float(hits.mean()), errors**2 / worth
    centre = (share + more / 2) / (1 + more)
    reach = (more * share * (1 - share) + more**2 / 4) ** 0.5 / (1 + more)
    return Interval(max(centre - reach, 0.0), min(centre + reach, 1.0), by)


def difference(
    first: NDArray[np.bool_], second: NDArray[np.bool_], groups: Sequence[str | None] = (), by: str = "signer"
) -> dict[str, Any]:
    """By how much more of the same clips the second hits, with the interval of that; and who alone was right how often.

    The interval of paired fractions is Bonett's and Price's (2012), at as many clips as those of the groups are worth.
    """
    gained, lost = second & ~first, first & ~second
    clips, counts = len(first), (int(gained.sum()), int(lost.sum()))
    by = by if _are_known(groups) else "clip"
    low, high = None, None
    if found := _worth(gained.astype(np.int64) - lost, groups, by):
        worth, errors = found
        more = errors**2 / 4
        won, given = ((number / clips * worth + more) / (worth + 2 * more) for number in counts)
        reach = errors * ((won + given - (won - given) ** 2) / (worth + 2 * more)) ** 0.5
        low, high = max(won - given - reach, -1.0), min(won - given + reach, 1.0)
    found_top1 = {"top1": (counts[0] - counts[1]) / clips, "low": low, "high": high}
    return {**found_top1, "by": by, "clips": clips, "gained": counts[0], "lost": counts[1]}


def _are_known(groups: Sequence[str | None]) -> bool:
    return bool(groups) and None not in groups


def _worth(values: Array, groups: Sequence[str | None], by: str) -> tuple[float, float] | None:
    """As many independent clips as say as much of the mean of `(N,)` values, and how many standard errors make an interval.

    The error is that of the jackknife, which leaves out one group at a time, and Student's t has groups - 1 degrees of freedom;
    less where sizes differ, half way to those of as many even groups as they are worth, which covers best in simulations.
    None of too few groups. Where the groups do not differ at all, a clip counts as one.
    """
    if by == "clip":
        return len(values), float(norm.ppf((1 + LEVEL) / 2))
    _, member = np.unique(np.array(groups, dtype=str), return_inverse=True)
    sizes = np.bincount(member)
    if len(sizes) < FEWEST:
        return None
    shares = sizes / len(values)
    without = (np.bincount(member, values) - sizes * values.mean()) / (len(values) - sizes)
    variance = (len(sizes) - 1) / len(sizes) * float((without**2).sum())
    worth = float(values.var()) / variance if variance > 1e-12 else len(values)
    freedom = (len(sizes) + 1 / float((shares**2).sum())) / 2 - 1
    return worth, float(t.ppf((1 + LEVEL) / 2, freedom))
