"""What a format reads and writes: clips on their way into the cache, and published features on their way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.publishing import Features
from pipeline.corpus.manifest import Manifest
from pipeline.errors import UserError
from pipeline.types import SPLITS, Array, Sample, Split

GROUP_BYTES = 64 << 20
"""Of a dense array, gathered before it is written."""


@dataclass(frozen=True)
class Incoming:
    """One clip as another program left it: `(T, ...)` rows without padding. `source_length` is the clip's before any cap.

    `ids` are what it may be called in a manifest, the likeliest first.
    """

    ids: tuple[str, ...]
    rows: Array
    label: str | None
    split: Split
    source_length: int
    signer: str | None = None


@dataclass(frozen=True)
class Outgoing:
    """Clips that have features, in the order of the manifest."""

    table: Manifest
    features: Features
    samples: Sequence[Sample]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([self.features.length(sample.id) for sample in self.samples], np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, T, *row_shape)` of the dense array."""
        return (len(self.samples), int(self.lengths.max(initial=0)), *self.features.row_shape)

    def texts(self) -> dict[str, list[str]]:
        """Ids, labels (empty where withheld) and splits."""
        found = {"ids": [s.id for s in self.samples], "labels": [s.label or "" for s in self.samples]}
        return {**found, "splits": [s.split for s in self.samples]}

    def attributes(self) -> dict[str, Any]:
        """Where the numbers come from."""
        said = {"dataset": self.table.name, "stage": self.features.name, "digest": self.features.digest}
        return {**said, "classes": list(self.table.classes)}

    def dense(self) -> Iterator[tuple[slice, Array]]:
        """`(n, T, *row_shape)` of some clips at a time, zero beyond their lengths."""
        clips, steps, *_ = self.shape
        group = max(1, GROUP_BYTES // max(1, steps * self.features.row_bytes))
        for first in range(0, clips, group):
            part = self.samples[first : first + group]
            values = np.zeros((len(part), *self.shape[1:]), self.features.dtype)
            for sample, rows in zip(part, values, strict=True):
                rows[: self.features.length(sample.id)] = self.features[sample.id]
            yield slice(first, first + len(part)), values


def encodable(word: str) -> str:
    """Bytes that are no UTF-8 as `\\xff`."""
    return word.encode(errors="surrogateescape").decode(errors="backslashreplace")


Read: TypeAlias = Callable[[Path], Iterator[Incoming]]
"""A file or folder -> its clips, in a stable order; raises UserError, one line, where it is not of this format."""
Write: TypeAlias = Callable[[Outgoing, Path], None]
"""Published features -> a file or folder that does not exist."""


@dataclass(frozen=True)
class Format:
    """A format of other programs, that `signcache import` reads, `signcache export` writes, or both."""

    read: Read | None = None
    write: Write | None = None


def count(said: Any) -> int:
    """How many rows something says; raises ValueError where it is no such number."""
    with suppress(ValueError, TypeError):
        number = float(said)
        if number >= 0 and number.is_integer():
            return int(number)
    raise ValueError(f"the length {said!r}; expected a whole number, 0 or more")


def split_of(word: str) -> Split:
    if word and word not in (*SPLITS, "unassigned"):
        raise UserError(f"split {word!r} is none of {', '.join(SPLITS)}")
    return word or "unassigned"
