"""Smoothing, differences, angles, hand shapes and aligned paths of points: a part of `kinematics`, no stage of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Array

BAND = 10
"""How many rows a path may be moved in time, about a third of a second of video."""
PLANES = ((0, 1), (1, 2), (0, 2))
"""xy, yz, xz."""


def runs(seen: NDArray[np.bool_]) -> Iterator[slice]:
    """Each unbroken stretch of frames in which a part is seen."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
    return (slice(int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def smoothed(values: Array, seen: NDArray[np.bool_], window: int, order: int) -> Array:
    """`(T, D)` after a Savitzky-Golay filter within each run of seen frames, ends by the polynomial of the last window.

    A run shorter than the window takes the longest odd window that fits; one of at most `order` frames stays as it is.
    """
    from scipy.signal import savgol_filter

    result = values.copy()
    for run in runs(seen):
        length = run.stop - run.start
        fitting = min(window, length if length % 2 else length - 1)
        if fitting > order:
            result[run] = savgol_filter(values[run], fitting, order, axis=0)
    return result


def bridged(values: Array, seen: NDArray[np.bool_]) -> Array:
    """`(T, D)` with each unseen frame on the line between the seen ones around it, held before the first and after the last."""
    known = np.flatnonzero(seen)
    if not len(known):
        return values
    times = np.arange(len(values))
    return np.stack([np.interp(times, known, column) for column in values[known].T], axis=1)


def difference(values: Array, seen: NDArray[np.bool_]) -> Array:
    """`(T, D)` change a row, central within each run of seen frames and one-sided at its ends; zero in a run of one frame."""
    result = np.zeros_like(values)
    for run in runs(seen):
        if run.stop - run.start > 1:
            result[run] = np.gradient(values[run], axis=0)
    return result


def cosines(points: Array, triples: Sequence[tuple[int, int, int]]) -> Array:
    """`(T, P, 3)` -> `(T, 3 * triples)`: cosines of the angle at each triple's middle, as seen in the planes xy, yz and xz.

    Zero where a bone has no length in a plane.
    """
    before, middle, after = (points[:, [triple[place] for triple in triples]] for place in range(3))
    found = []
    for plane in PLANES:
        a, b = (before - middle)[..., plane], (after - middle)[..., plane]
        size = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        found.append(np.divide((a * b).sum(axis=-1), size, out=np.zeros_like(size), where=size > 1e-12))
    clipped: Array = np.clip(np.stack(found, axis=-1), -1, 1)
    return clipped.reshape(len(points), -1)


def hull_shapes(points: Array) -> Array:
    """`(T, P, 3)` -> `(T, 2)` of the convex hull in the image: circularity 4 pi A / perimeter^2, and A / smallest rectangle."""
    return np.array([_shape(frame) for frame in points[..., :2]]).reshape(len(points), 2)


def _shape(points: Array) -> tuple[float, float]:
    from scipy.spatial import ConvexHull, QhullError

    try:
        hull = ConvexHull(points)
    except QhullError:  # all points on one line, or fewer than three
        return 0.0, 0.0
    corners, area, perimeter = points[hull.vertices], float(hull.volume), float(hull.area)
    sides = np.roll(corners, -1, axis=0) - corners
    along = sides / np.linalg.norm(sides, axis=1)[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    boxes = np.ptp(corners @ along.T, axis=0) * np.ptp(corners @ across.T, axis=0)
    return 4 * np.pi * area / perimeter**2, area / float(boxes.min())


def aligned(path: Array, smooth: Array) -> Array:
    """`(T, D)`: for each row of the smoothed path, the mean of the rows of `path` that dynamic time warping matches with it.

    Both ends are matched, steps go one row at a time, and at most BAND rows away. Where the clip runs ahead of its smoothed
    path or lags behind, its rows come to the instant at which that path passes; where the two agree, nothing changes.
    """
    length = len(path)
    if not length:
        return path.copy()
    came = _warping(path, smooth)
    sums, counts = np.zeros_like(path), np.zeros(length)
    i = j = length - 1
    while True:
        sums[j] += path[i]
        counts[j] += 1
        if i == j == 0:
            return sums / counts[:, None]
        step = came[i][j - i + BAND]
        i, j = i - (step != 2), j - (step != 1)


def _warping(path: Array, smooth: Array) -> list[list[int]]:
    """For each pair in the band how the cheapest way came to it: 0 from both rows before, 1 from the path's, 2 from the smooth one's."""
    infinite, length = float("inf"), len(path)
    before = [infinite] * (2 * BAND + 3)
    came: list[list[int]] = []
    for i in range(length):
        costs, ways = [infinite] * (2 * BAND + 3), [0] * (2 * BAND + 1)
        first, last = max(0, i - BAND), min(length, i + BAND + 1)
        distances = np.linalg.norm(smooth[first:last] - path[i], axis=1).tolist()
        for j, distance in enumerate(distances, first):
            place = j - i + BAND
            options = (before[place + 1], before[place + 2], costs[place])
            way = min(range(3), key=options.__getitem__)
            start = 0.0 if i == j == 0 else options[way]
            costs[place + 1], ways[place] = start + distance, way
        came.append(ways)
        before = costs
    return came
