"""What can be told from rows alone: their range, and what is wrong with them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Array


@dataclass
class Sums:
    """Figures over any number of `(T, D)` rows; `rows` and the counts of odd ones, and per dimension what a mean and a deviation need."""

    rows: int = 0
    values: int = 0
    nan: int = 0
    infinite: int = 0
    constant_rows: int = 0
    """All values equal, where a row has several."""
    zero_rows: int = 0
    repeated_rows: int = 0
    """Equal to the row before."""
    zeros: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """`(D,)` how often each value is zero."""

    def add(self, rows: Array) -> None:
        """Count a clip's `(T, *row_shape)` rows."""
        flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
        self.rows += len(flat)
        self.values += flat.size
        self.nan += int(np.isnan(flat).sum())
        self.infinite += int(np.isinf(flat).sum())
        is_zero = flat == 0
        self.zero_rows += int(is_zero.all(1).sum())
        if flat.shape[1] > 1:
            self.constant_rows += int((flat == flat[:, :1]).all(1).sum())
        self.repeated_rows += int((flat[1:] == flat[:-1]).all(1).sum())
        counts = is_zero.sum(0)
        self.zeros = counts if not len(self.zeros) else self.zeros + counts

    def counts(self) -> dict[str, int]:
        """The counts by name."""
        names = ("rows", "values", "nan", "infinite", "constant_rows", "zero_rows", "repeated_rows")
        return {name: int(getattr(self, name)) for name in names}


def by_dimension(rows: Array) -> dict[str, NDArray[np.float64]]:
    """`(D,)` min, mean, max and std of the finite values of `(T, *row_shape)` rows; NaN where there are none."""
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:])).astype(np.float64)
    masked = np.ma.masked_invalid(flat)
    found = {"min": masked.min(0), "mean": masked.mean(0), "max": masked.max(0), "std": masked.std(0)} if len(flat) else {}
    empty = np.full(flat.shape[1], np.nan)
    return {name: np.ma.filled(found.get(name, empty), np.nan) for name in ("min", "mean", "max", "std")}
