"""A row of the bench: what was measured of ours and of its rival in turns, and what it is held to."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One promise. `ours` and `rival` are a figure a round, in `unit`; `values`, a figure a round too, are held to `floor`.

    With `at_most` the values are to stay below the floor and the aim, else above. `absent` says why there is no rival.
    """

    part: str
    what: str
    unit: str
    ours: tuple[float, ...] = ()
    rival: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    floor: float | None = None
    aim: float | None = None
    at_most: bool = False
    absent: str = ""

    @property
    def value(self) -> float:
        """The median of what is held to the floor."""
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        """`ok`, `below`, `absent`, or nothing where no floor is given."""
        if self.absent:
            return "absent"
        if self.floor is None:
            return ""
        return "ok" if (self.value <= self.floor if self.at_most else self.value >= self.floor) else "below"


def faster(
    part: str, what: str, ours: Sequence[float], rival: Sequence[float], *, count: int, unit: str, floor: float | None, aim: float | None
) -> Row:
    """How many times as fast as the rival, round by round: both give the seconds that `count` of `unit` took."""
    ratios = tuple(theirs / own for own, theirs in zip(ours, rival, strict=True))
    own_rates, their_rates = (tuple(count / seconds for seconds in found) for found in (ours, rival))
    return Row(part, what, f"{unit}/s", own_rates, their_rates, ratios, floor, aim)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; of few values the extremes."""
    if len(values) < 4:
        return min(values), statistics.median(values), max(values)
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
