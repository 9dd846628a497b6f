"""How many rows a forward pass takes: tried out on the first rows of a run. Rows do not depend on it, so it is no part of identity."""

from __future__ import annotations

from collections.abc import Mapping

SIZES: Mapping[str, tuple[int, ...]] = {"cpu": (4, 8, 16), "cuda": (32, 64, 128, 256)}
"""What is tried: small batches stay in the caches of a CPU, large ones fill a GPU."""
TRIES = 2
"""Passes of each size, of which the faster counts: the first of a shape also prepares its kernels."""


class BatchSize:
    """`rows` of the next pass: each size of the device in turn, then the one that computed the most rows a second."""

    def __init__(self, device: str) -> None:
        self.untried = [size for size in SIZES[device] for _ in range(TRIES)]
        self.pace: dict[int, float] = {}
        self.rows = self.untried[0]

    def took(self, rows: int, seconds: float) -> None:
        """A pass of so many rows took so long; passes that were not full tell nothing."""
        if self.untried and rows == self.rows:
            self.untried.pop(0)
            self.pace[rows] = max(self.pace.get(rows, 0.0), rows / seconds)
            self._choose()

    def was_too_large(self) -> bool:
        """The device had no memory for a pass of `rows`: never so many again. Returns whether fewer are possible."""
        most = self.rows // 2
        self.untried = [size for size in self.untried if size <= most]
        self.pace = {size: pace for size, pace in self.pace.items() if size <= most} or {most: 0.0}
        self._choose()
        return most > 0

    def _choose(self) -> None:
        self.rows = self.untried[0] if self.untried else max(self.pace, key=lambda size: self.pace[size])
