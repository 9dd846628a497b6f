"""What goes to a decode process, and what comes back."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.cache.identity import Fingerprint
from pipeline.corpus.media import Stat
from pipeline.decoding.decode import Clip
from pipeline.types import Array, Extractor


@dataclass(frozen=True, slots=True)
class Job:
    """One clip's media, in the state that was planned, for the stages that need them; `spool` is the folder for the items.

    A derived stage's clip is given as `rows` of the stage that it derives from, with their key as `content`.
    """

    number: int
    id: str
    stages: Mapping[str, Extractor]
    spool: Path
    stat: Stat
    deadline_seconds: float
    paths: tuple[Path, ...] = ()
    decord: bool = True
    rows: Clip | None = None
    content: str = ""
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)
    """What its stages are: no other code makes its items."""
    max_pixels: int = 0
    """Of a frame; 0 where any are read."""

    def items_path(self, stage: str) -> Path:
        """The spool file of a stage's items."""
        return self.spool / f"{self.number}-{stage}"

    def moved(self) -> None:
        """From now on the clip has its whole deadline again."""
        signal.setitimer(signal.ITIMER_REAL, self.deadline_seconds)


@dataclass(frozen=True, slots=True)
class Items:
    """The `(n, *item_shape)` items of one stage in a spool file."""

    path: Path
    shape: tuple[int, ...]
    dtype: str

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> Array:
        """`(len(part), *item_shape)`, read now, so a long clip costs no memory; a map of the file would be counted as ours."""
        start, stop, _ = part.indices(len(self))
        size = math.prod(self.shape[1:])
        values = np.fromfile(self.path, self.dtype, (stop - start) * size, offset=start * size * np.dtype(self.dtype).itemsize)
        return values.reshape(stop - start, *self.shape[1:])


@dataclass(slots=True)
class Prepared:
    """What a decode process found: the items of each stage, or why there are none."""

    content: str
    stat: Stat
    source_length: int = 0
    rate_hz: float = 0.0
    decoder: str = ""
    tracks: tuple[int, ...] = ()
    items: dict[str, Items] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
