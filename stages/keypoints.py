"""Body and hand points as AI4Bharat published them for INCLUDE: one JSON file a clip, x and y of MediaPipe's points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np

from pipeline.errors import ClipError
from pipeline.layouts import POSE_PAIRS, Layout, Part
from pipeline.types import Array, Extractor, Frame

POINTS: Mapping[str, int] = {"pose": 33, "hand1": 21, "hand2": 21}
"""Parts of a file and their points, in the order of a row."""
LEFT_WRIST, RIGHT_WRIST = 15, 16
"""Points of MediaPipe's pose; point 0 of a hand is its wrist."""


class Keypoints(Extractor):
    """`(T,)` instants of `pose_x, pose_y, hand1_x, ...` -> `(T, 150)` float32, x, y of 33 pose points and of 21 + 21 hand points.

    Point by point: pose 0..66, first hand 66..108, second hand 108..150. Coordinates are fractions of the image's width and
    height. `hands="detected"` keeps the file's order, in which hand 1 is what was found first, left or right;
    `"wrist"` puts the signer's left hand first and the right one second: of two hands that pairing with the pose's wrists
    whose distances sum up to less, one hand to the nearer wrist. `missing="nan"` keeps a missing hand as NaN; `"zero"`
    writes zeros, as the stage `holistic` does; `"interpolate"` draws a line between the frames before and after, holds the
    first and last values outwards, and leaves zeros where a hand is never seen. The pose is never missing in these files.
    """

    source: str = "keypoints"
    hands: Literal["detected", "wrist"] = "detected"
    missing: Literal["nan", "interpolate", "zero"] = "nan"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (2 * sum(POINTS.values()),)

    @property
    def row_layout(self) -> Layout:
        names = ("left_hand", "right_hand") if self.hands == "wrist" else ("hand1", "hand2")
        partners = names[::-1] if self.hands == "wrist" else ("", "")
        hands = (Part(name, 21, 2, 2, partner=partner) for name, partner in zip(names, partners, strict=True))
        return Layout((Part("pose", 33, 2, 2, pairs=POSE_PAIRS), *hands))

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        read = [_points(tracks[0]) for tracks in frames]
        if not read:
            return
        points = np.stack(read)
        if self.hands == "wrist":
            points = by_wrist(points)
        rows = points.reshape(len(points), -1)
        if self.missing == "interpolate":
            rows = interpolated(rows)
        if self.missing == "zero":
            rows = np.nan_to_num(rows)
        yield from rows.astype(np.float32)


def _points(instant: Array) -> Array:
    """`(75, 2)` of one instant of a file."""
    parts = []
    for part, count in POINTS.items():
        for axis in ("x", "y"):
            key = f"{part}_{axis}"
            if key not in (instant.dtype.names or ()):
                raise ClipError(f"no list {key!r}; expected pose_x, pose_y, hand1_x, hand1_y, hand2_x, hand2_y")
            values = np.atleast_1d(instant[key])
            if values.shape == (1,) and np.isnan(values[0]):
                values = np.full(count, np.nan)  # a hand that no frame of the clip shows
            if values.shape != (count,):
                raise ClipError(f"{key} has {values.size} points, {count} are expected")
            if np.isinf(values).any():
                raise ClipError(f"{key} holds a value that is not finite")
            parts.append(values)
    xs, ys = np.concatenate(parts[0::2]), np.concatenate(parts[1::2])
    return np.stack([xs, ys], axis=1)


def by_wrist(points: Array) -> Array:
    """`(T, 75, 2)` with hands as detected -> the left hand first, each hand where its wrist is nearer that of the pose."""
    first, second = points[:, 33:54], points[:, 54:75]
    wrists = points[:, [LEFT_WRIST, RIGHT_WRIST]]
    near = np.linalg.norm(np.stack([first[:, :1], second[:, :1]], axis=1) - wrists[:, None], axis=-1)
    kept, swapped = (np.nansum([near[:, 0, side], near[:, 1, 1 - side]], axis=0) for side in (0, 1))
    turn = (swapped < kept)[:, None, None]
    return np.concatenate([points[:, :33], np.where(turn, second, first), np.where(turn, first, second)], axis=1)


def interpolated(rows: Array) -> Array:
    """`(T, D)` with each column's NaN replaced on the line between its neighbours in time, flat at the ends; zeros if all are."""
    filled, times = np.zeros_like(rows), np.arange(len(rows))
    for column in range(rows.shape[1]):
        known = ~np.isnan(rows[:, column])
        if known.any():
            filled[:, column] = np.interp(times, times[known], rows[known, column])
    return filled


stage: type[Extractor] = Keypoints
