"""What `show` prints of a clip."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.provenance import day, origins, taken_over, tale
from pipeline.corpus.media import exists, stat_of
from pipeline.machine import shown_size
from pipeline.reports.looking._statistics import Sums, by_dimension
from pipeline.reports.looking.clip import Seen

DIMENSIONS, INDICES = 12, 64


def lines(seen: Seen) -> Iterator[str]:
    """Source, frames, rows, and their figures, a line each; the first dimensions where there are many."""
    sample, (row, shard) = seen.sample, seen.entry
    yield f"{seen.features.dataset}/{seen.features.name}  {sample.id!r}"
    yield f"  clip      label {sample.label or 'withheld'}, split {sample.split}, signer {sample.signer or 'unknown'}"
    for path in seen.files:
        yield f"  file      {path} ({shown_size(stat_of([path]).size) if exists(path) else 'missing'})"
    rate = f" at {row.rate_hz:g} Hz ({row.source_length / row.rate_hz:.2f} s)" if row.rate_hz else ""
    tracks = f", tracks of {', '.join(map(str, row.tracks))}" if len(row.tracks) > 1 else ""
    source = "rows" if row.decoder == "cache" else "frames"
    yield f"  source    {row.source_length} {source}{rate}{tracks}, read by {row.decoder}"
    yield f"  chosen    {len(seen.chosen)} of them: {indices(seen.chosen)}"
    if len(seen.frames) != len(seen.chosen) or row.decoder == "cache":
        yield f"  media     {len(seen.frames)} of {seen.length} frames by stage {seen.root}: {indices(seen.frames)}"
    yield f"  rows      {tuple(seen.rows.shape)} {seen.features.dtype}"
    yield f"  shard     {seen.features.folder / str(shard.file)} ({shard.store}), rows {row.start} to {row.start + row.length}"
    for origin in origins(seen.features):
        for line in tale(seen.features.home, origin):
            yield f"  weights   {origin.stage}: {line}"
    if seen.pulled:
        tried = f"{len(seen.pulled['sample'])} clips of its shard tried" if seen.pulled["sample"] else "trusted"
        pushed = f"pushed by {seen.pulled['by']} on {day(seen.pulled['pushed_at'])}"
        yield f"  pulled    from {seen.pulled['from']}, {pushed}, taken on {day(seen.pulled['at'])}, {tried}"
    if seen.adopted:
        yield f"  adopted   {taken_over(seen.adopted).removeprefix('adopted ')}"
    if seen.stale:
        yield f"  stale     {seen.stale}; run: signcache extract {seen.features.dataset} {seen.features.name}"
    yield from _figures(seen)


def _figures(seen: Seen) -> Iterator[str]:
    sums = Sums()
    sums.add(seen.rows)
    counts = sums.counts()
    yield (
        f"  odd       {counts['nan']} NaN, {counts['infinite']} infinite; rows: {counts['constant_rows']} constant, "
        f"{counts['zero_rows']} all zero, {counts['repeated_rows']} like the one before"
    )
    found = by_dimension(seen.rows)
    width = len(found["min"])
    yield f"  {'value':>9} {'min':>11} {'mean':>11} {'max':>11} {'std':>11}"
    if seen.rows.size:
        flat = seen.rows.astype(np.float64)
        finite = flat[np.isfinite(flat)]
        every = (finite.min(), finite.mean(), finite.max(), finite.std()) if len(finite) else (np.nan,) * 4
        yield _figure_line("all", *map(float, every))
    for number in range(min(width, DIMENSIONS)):
        yield _figure_line(str(number), *(float(found[name][number]) for name in ("min", "mean", "max", "std")))
    if width > DIMENSIONS:
        yield f"  all {width} values of a row with --json"


def _figure_line(name: str, low: float, mean: float, high: float, deviation: float) -> str:
    return f"  {name:>9} {low:>11.4g} {mean:>11.4g} {high:>11.4g} {deviation:>11.4g}"


def indices(numbers: NDArray[np.int64]) -> str:
    """`0 3 6 9`; of many the first and the last."""
    words = [str(number) for number in numbers.tolist()]
    if len(words) > INDICES:
        words = [*words[: INDICES // 2], "...", *words[-4:]]
    return " ".join(words)
