"""The health of published features: NaN, rows that hold one value, clips that stand still, parts that are often empty."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.cache.publishing import Features, opened
from pipeline.cache.stage import Published, published
from pipeline.corpus.manifest import Home
from pipeline.reports.looking._statistics import Sums

NAMED, RUN = 20, 3
"""Clips that are named of each kind; neighbouring values that count as a part where the stage names none."""
FORMAT = 2
WORDS = {
    "nan": "with NaN",
    "infinite": "with infinities",
    "no_rows": "without rows",
    "all_zero": "all zero",
    "still": "of one row repeated",
}


def health(home: Home, dataset: str, stage: str) -> dict[str, Any] | None:
    """Counts over all published rows, the odd clips by id, and the share of rows in which a part is missing; None if unpublished.

    Computed once for each publication, and kept beside its row index.
    """
    said = published(home, dataset, stage)
    if said is None:
        return None
    path = home.cache / dataset / stage / said.digest / _kept(said)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known: dict[str, Any] = json.loads(path.read_bytes())
        if known["format"] == FORMAT:
            return known
    features = opened(home, dataset, stage)
    found = _computed(features)
    with contextlib.suppress(OSError):  # a cache that cannot be written to is looked at all the same
        atomic.replace(features.folder / _kept(features.said), json.dumps(found).encode())
    return found


def _kept(said: Published) -> str:
    return f".health-{said.index}.json"


def _computed(features: Features) -> dict[str, Any]:
    parts = features.layout.missable if features.layout else {}
    sums, empty = Sums(), dict.fromkeys(parts, 0)
    odd: dict[str, list[str]] = {"nan": [], "infinite": [], "no_rows": [], "all_zero": [], "still": []}
    for clip in features:
        rows = features[clip]
        before = sums.counts()
        sums.add(rows)
        for name in _odd(before, sums.counts()):
            odd[name].append(clip)
        flat = rows.reshape(len(rows), int(np.prod(rows.shape[1:])))
        for name, part in parts.items():
            empty[name] += int(((flat[:, part] == 0) | ~np.isfinite(flat[:, part])).all(1).sum())
    counts = sums.counts()
    shares = {name: count / max(1, counts["rows"]) for name, count in empty.items()} or _runs(sums.zeros, counts["rows"])
    clips = {name: {"count": len(found), "first": found[:NAMED]} for name, found in odd.items()}
    return {"format": FORMAT, "digest": features.digest, **counts, "clips": clips, "empty_parts": shares}


def _odd(before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    """What is odd about the clip that made these counts grow."""
    grown = {name: after[name] - before[name] for name in after}
    for name in ("nan", "infinite"):
        if grown[name]:
            yield name
    if not grown["rows"]:
        yield "no_rows"
    elif grown["zero_rows"] == grown["rows"]:
        yield "all_zero"
    elif grown["rows"] > 1 and grown["repeated_rows"] == grown["rows"] - 1:
        yield "still"


def _runs(zeros: NDArray[np.int64], rows: int) -> dict[str, float]:
    """`{"values 3 to 65": share}` of neighbouring values that are zero equally often: parts that are zero together."""
    edges = np.flatnonzero(np.diff(zeros)) + 1
    bounds = [0, *edges.tolist(), len(zeros)]
    found = {}
    for first, end in itertools.pairwise(bounds):
        if end - first >= RUN and zeros[first] and rows:
            found[f"values {first} to {end - 1}"] = float(zeros[first] / rows)
    return found


def line(found: Mapping[str, Any]) -> str:
    """`0 NaN, 0 infinite, 3 of 100 rows constant, 2 all zero, 5 like the one before; empty: left_hand 48%; clips with NaN: 'a'`."""
    rows = f"{found['constant_rows']} of {found['rows']} rows constant, {found['zero_rows']} all zero"
    text = f"{found['nan']} NaN, {found['infinite']} infinite, {rows}, {found['repeated_rows']} like the one before"
    parts = sorted(found["empty_parts"].items(), key=lambda pair: -pair[1])[:6]
    if any(share for _, share in parts):
        text += "; empty: " + ", ".join(f"{name} {share:.0%}" for name, share in parts if share)
    for name, clips in found["clips"].items():
        if clips["count"]:
            more = ", ..." if clips["count"] > 3 else ""
            text += f"; {clips['count']} clips {WORDS[name]}: {', '.join(map(repr, clips['first'][:3]))}{more}"
    return text
