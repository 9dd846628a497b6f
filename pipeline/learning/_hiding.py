"""Rows of which a piece of time, or what lies in a box, is not seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from pipeline.layouts import Layout
from pipeline.learning._moving import points_of
from pipeline.types import Array

Piece = tuple[float, float]
NOTHING: Piece = (0.0, 0.0)


@dataclass(frozen=True)
class Hidden:
    """Which piece of a clip's time is not seen, and of the width and height of its points, 0 to 1; NOTHING where all is."""

    time: Piece = NOTHING
    across: Piece = NOTHING
    down: Piece = NOTHING


def hiding(time_mask: float, box_mask: float, random: Generator) -> Hidden:
    """Of every other clip a piece of time, and of every other a box, each of half as much as the most, or more."""
    is_timed, is_boxed = random.random(2) < 0.5
    time, across, down = _piece(time_mask, random), _piece(box_mask, random), _piece(box_mask, random)
    return Hidden(time if is_timed else NOTHING, *((across, down) if is_boxed and box_mask else (NOTHING, NOTHING)))


def _piece(most: float, random: Generator) -> Piece:
    length = most * random.uniform(0.5, 1)
    begin = random.uniform(0, 1 - length)
    return begin, begin + length


def hide(rows: Array, seen: Array, layout: Layout | None, hidden: Hidden) -> tuple[Array, Array]:
    """`(T, D)` rows and which of their values are seen, without what is hidden.

    In the piece of time nothing is seen that can be missing, and any other value is its mean in the clip. Places in the box are zero.
    """
    rows, seen = rows.copy(), seen.copy()
    if layout and hidden.across != NOTHING:
        _empty_box(rows, seen, layout, hidden)
    piece = slice(*(round(share * len(rows)) for share in hidden.time))
    told_by = layout.told_by if layout else np.zeros((rows.shape[1], 2), np.int64)
    can_miss = told_by[:, 0] < told_by[:, 1]
    rows[piece, ~can_miss] = rows[:, ~can_miss].mean(0)
    seen[piece, can_miss] = False
    return rows, seen


def _empty_box(rows: Array, seen: Array, layout: Layout, hidden: Hidden) -> None:
    parts = [(part, seen[:, layout.columns[part.name].start]) for part in layout.parts if part.kind == "place"]
    found = [points_of(rows, layout, part)[there][..., :2].reshape(-1, 2) for part, there in parts]
    if not sum(map(len, found)):
        return
    every = np.concatenate(found)
    low, high = every.min(0), every.max(0)
    first, last = (low + np.array(shares) * (high - low) for shares in zip(hidden.across, hidden.down, strict=True))
    for part, there in parts:
        points = points_of(rows, layout, part)
        inside = ((points[..., :2] >= first) & (points[..., :2] <= last)).all(2) & there[:, None]
        points[inside] = 0
