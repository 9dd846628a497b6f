"""Clips like those of LIS: made from a seed, so that every reader's process can write or check them by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Array

CLASSES = 126


@dataclass(frozen=True)
class Clips:
    """`count` clips of `shortest` to `longest` rows of `width` values."""

    count: int
    width: int = 2144
    shortest: int = 12
    longest: int = 30
    dtype: str = "float32"
    batch: int = 64

    @property
    def lengths(self) -> NDArray[np.int64]:
        """`(count,)` rows of each clip."""
        return np.random.default_rng(0).integers(self.shortest, self.longest + 1, self.count)

    def rows(self) -> Iterator[Array]:
        """`(T, width)` of each clip."""
        random = np.random.default_rng(1)
        for length in self.lengths.tolist():
            yield random.standard_normal((length, self.width), np.float32).astype(self.dtype)

    def id(self, number: int) -> str:
        return f"{number % CLASSES}/clip{number}"


def number_of(clip: object) -> int:
    """The number of a clip, from that or its id."""
    return int(str(clip).rpartition("clip")[2])


def forget(folder: Path) -> None:
    """Have the kernel drop what it keeps in memory of the files below a folder; they must be on disk, and mapped by nobody."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
