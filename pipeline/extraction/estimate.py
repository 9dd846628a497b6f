"""What a plan costs in time and disk, from what earlier extractions of the stage took and how long their clips were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.cache import index, shards
from pipeline.cache.shards import MARKER_SUFFIX
from pipeline.cache.stage import Stage, published, published_names
from pipeline.corpus.manifest import Home, Manifest
from pipeline.decoding.decode import expected_length
from pipeline.errors import ClipError, UserError
from pipeline.extraction.plan import StagePlan
from pipeline.machine import free_bytes, shown_size, shown_time

MARKERS, CLIPS, PROBED = 8, 64, 5
"""Markers whose times, clips whose lengths, and files whose headers tell enough."""
FOREVER = 1_000_000
"""Frames of a clip that no stage takes whole unless it takes every clip whole."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds and bytes, None where nothing tells; `is_bound` where the bytes are the most that the stage takes of clips so many."""

    seconds: float | None
    size: int | None
    is_bound: bool = False

    def __str__(self) -> str:
        time = f"about {shown_time(self.seconds)}" if self.seconds is not None else "time unknown"
        if self.size is None:
            return f"{time}, disk unknown"
        return f"{time}, {'up to' if self.is_bound else 'about'} {shown_size(self.size)}"

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return {"seconds": seconds, "bytes": self.size, "is_bound": self.is_bound}


def estimates(home: Home, table: Manifest, plans: Mapping[str, StagePlan], *, probe: bool = False) -> dict[str, Estimate]:
    """The cost of each stage that has clips to do; `probe` reads the headers of a few clips where no length is known."""
    return {name: _estimate(home, table, result, probe) for name, result in plans.items() if result.todo}


def refuse_without_room(home: Home, table: Manifest, plans: Mapping[str, StagePlan]) -> None:
    """Raise UserError where the disk of the cache cannot hold what is to be extracted."""
    found = estimates(home, table, plans, probe=True)
    needed = sum(each.size for each in found.values() if each.size is not None and not each.is_bound)
    free = free_bytes(home.cache)
    if needed > free:
        raise UserError(
            f"the cache {home.cache} has {shown_size(free)} free and this needs about {shown_size(needed)}; "
            f"make room (signcache gc), take another place (--cache DIR), or fewer clips (--limit N)"
        )


def _estimate(home: Home, table: Manifest, result: StagePlan, probe: bool) -> Estimate:
    clips, stage = len(result.todo), result.stage
    seconds = _clip_seconds(home, result)
    rows, is_bound = _clip_rows(home, table, result, probe), False
    if rows is None:
        most = _rows_of(stage, FOREVER, 25.0)
        rows, is_bound = (most, True) if most is not None and most < FOREVER else (None, False)
    row_bytes = math.prod(stage.extractor.row_shape) * np.dtype(stage.extractor.dtype).itemsize
    size = None if rows is None else round(clips * rows * row_bytes)
    return Estimate(None if seconds is None else clips * seconds, size, is_bound)


def _clip_seconds(home: Home, result: StagePlan) -> float | None:
    """Seconds a clip in the latest markers of today's identity, else of the published one."""
    folders = [result.stage.folder(home)]
    if result.before:
        folders.append(folders[0].with_name(result.before.digest))
    for folder in folders:
        seconds, clips = 0.0, 0
        for name in shards.marker_names(folder)[-MARKERS:]:
            try:
                record = shards.read_record(folder / (name + MARKER_SUFFIX))
            except (UserError, OSError):
                continue
            if "seconds" in record.made:
                seconds += float(record.made["seconds"])
                clips += len(record.marker.rows) + len(record.marker.failures)
        if clips:
            return seconds / clips
    return None


def _clip_rows(home: Home, table: Manifest, result: StagePlan, probe: bool) -> float | None:
    """Mean rows a clip: of finished ones, else what the stage would take of clips as long as those known, or probed."""
    done = [*result.done.index.columns["length"][:CLIPS].tolist(), *result.done.later.columns["length"][:CLIPS].tolist()]
    if done:
        return float(np.mean(done))
    lengths = list(_known_lengths(home, result)) or (list(_probed(table, result)) if probe else [])
    rows = [_rows_of(result.stage, length, rate_hz) for length, rate_hz in lengths]
    return None if not rows or None in rows else float(np.mean([n for n in rows if n is not None]))


def _known_lengths(home: Home, result: StagePlan) -> Iterator[tuple[int, float]]:
    """(length, rate) of what the stage reads, as other identities and stages of the same source found it."""
    stage = result.stage
    if stage.upstream:
        for row, _ in islice(result.inputs.values(), CLIPS):
            yield row.length, row.rate_hz * row.length / row.source_length if row.source_length else row.rate_hz
        return
    for name in [stage.name, *published_names(home, stage.dataset)]:
        said = published(home, stage.dataset, name)
        if said is None or said.identity["fields"].get("source") != stage.extractor.source:
            continue
        path = home.cache / stage.dataset / name / said.digest / said.index
        try:
            columns = index.read(path, whole=False).columns
        except FileNotFoundError:  # lost, or another one is published by now
            continue
        pairs = list(zip(columns["source_length"][:CLIPS].tolist(), columns["rate_hz"][:CLIPS].tolist(), strict=True))
        if pairs:
            yield from pairs
            return


def _probed(table: Manifest, result: StagePlan) -> Iterator[tuple[int, float]]:
    """(length, rate) as the headers of a few clips to do say it."""
    source, count = result.stage.extractor.source, len(result.todo)
    if result.stage.upstream or result.stage.is_imported:
        return
    for number in sorted({round(place) for place in np.linspace(0, count - 1, min(count, PROBED))}):
        paths: Sequence[Path] = table.paths(result.todo[number].sample, source)
        try:
            yield expected_length(paths[0])
        except (ClipError, OSError, IndexError):
            continue


def _rows_of(stage: Stage, length: int, rate_hz: float) -> float | None:
    """Rows that a stage makes of a clip, as far as its selection tells."""
    try:
        return len(stage.extractor.rows(len(stage.extractor.select(length, rate_hz))))
    except (Exception, SystemExit):  # a stage's own code may do anything with a length that no clip has
        return None
