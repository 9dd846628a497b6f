"""Fetched rows held against rows that are extracted here, with today's code, from the same clips."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.cache import shards
from pipeline.cache.index import Entry
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction.adopt import difference, largest, made_again
from pipeline.extraction.progress import Progress
from pipeline.types import Array

STAGING = ".pulled"
"""In the folder of an identity."""
SAMPLE = 4
TOLERANCE = 1e-4
"""Of the largest value: what is promised between two machines."""


@dataclass(frozen=True)
class Trust:
    """How rows of others are tried: how many of each shard are extracted again, none with 0, and how far they may be off."""

    sample: int = SAMPLE
    tolerance: float = TOLERANCE
    device: str = "auto"

    @classmethod
    def of(cls, sample: int | None, *, is_trusted: bool, device: str = "auto") -> Trust:
        """What was asked for; raises UserError where that is both to try and to trust."""
        if is_trusted and sample is not None:
            raise UserError(f"--trust tries no rows, and --sample {sample} tries some; use one of the two")
        return cls(0 if is_trusted else sample or SAMPLE, device=device)

    def drawn(self, names: Iterable[str], found: Mapping[str, Entry], away: Container[str]) -> dict[str, list[str]]:
        """`{shard: clips}` to try of each of these shards, none of those away, by a chance that who pushed cannot foresee."""
        clips: dict[str, list[str]] = {name: [] for name in names}
        for clip, entry in found.items():
            if entry.shard.name in clips and clip not in away:
                clips[entry.shard.name].append(clip)
        chance = random.SystemRandom()
        return {name: sorted(chance.sample(of, min(self.sample, len(of)))) for name, of in clips.items()}


@dataclass(frozen=True)
class Evidence:
    """Why a shard is believed: the clips that were tried, and the largest difference as a fraction of the largest value."""

    sample: Sequence[str]
    largest_difference: float
    equal_bytes: bool
    tolerance: float

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "sample": list(self.sample), "trusted": not self.sample}


@dataclass(frozen=True)
class Here:
    """The stage of a name that rows are taken for, and where their progress is shown."""

    home: Home
    table: Manifest
    stage: Stage
    progress: Progress

    @property
    def staging(self) -> Path:
        """Where shards lie that are fetched, and not believed yet."""
        return self.stage.folder(self.home) / STAGING


def tried(
    here: Here, trust: Trust, names: Iterable[str], found: Mapping[str, Entry], away: Container[str] = ()
) -> dict[str, Evidence | str]:
    """Of each of these shards the evidence, or why it is not believed; clips that are `away` cannot be tried."""
    drawn = trust.drawn(names, found, away)
    clips = [clip for sample in drawn.values() for clip in sample]
    now, failures = made_again(here.home, here.table, here.stage, {(trust.device, 0): clips}, here.progress)
    failed = {failure.id: failure.reason for failure in failures}
    result: dict[str, Evidence | str] = {}
    for name, sample in drawn.items():
        if trust.sample and not sample:
            result[name] = "the files of none of its clips are here to try it; --trust takes it as it is"
            continue
        lacking = [clip for clip in sample if clip not in now]
        if lacking:
            result[name] = f"{lacking[0]!r} cannot be extracted here to try it: {failed.get(lacking[0], 'no rows')}"
            continue
        before = {clip: _rows(here.staging, found[clip]) for clip in sample}
        result[name] = _compared(before, {clip: now[clip] for clip in sample}, trust)
    return result


def _rows(staging: Path, entry: Entry) -> Array:
    values = shards.open_shard(staging, entry.shard.store, str(entry.shard.file))
    rows: Array = values[entry.row.start : entry.row.start + entry.row.length]
    return rows


def _compared(before: Mapping[str, Array], now: Mapping[str, Array], trust: Trust) -> Evidence | str:
    scale, worst = max(map(largest, now.values()), default=0.0) or 1.0, 0.0
    for clip, rows in now.items():
        if before[clip].shape != rows.shape:
            return f"{clip!r} has {len(before[clip])} rows there, and {len(rows)} where it is extracted here"
        found = difference(before[clip], rows) / scale
        if not found <= trust.tolerance:
            return f"{clip!r} has other rows there than where it is extracted here: off by {found:.3g} of the largest value"
        worst = max(worst, found)
    equal = all(before[clip].tobytes() == rows.tobytes() for clip, rows in now.items())
    return Evidence(tuple(now), worst, equal, trust.tolerance)
