"""Which values of a landmark stage's row are points, which are directions, and which change places in a mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Triples = NDArray[np.int64]
"""`(P, 3)` columns of x, y, z; -1 where there is none."""
POSE_PAIRS = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((left, left + 1) for left in range(11, 33, 2)))
"""Left and right points of MediaPipe's pose."""
KINECT_PAIRS = tuple((left, left + 4) for left in (4, 5, 6, 7, 12, 13, 14, 15))
KEY_PAIRS = {"skeleton": tuple((left, left + 4) for left in (2, 3, 4, 5)), "holistic": tuple((left, left + 1) for left in range(0, 10, 2))}
"""Of the ten points of the kinematics' trajectory."""


@dataclass
class Layout:
    """Columns of a row, gathered part by part."""

    width: int = 0
    positions: list[Sequence[int]] = field(default_factory=list)
    directions: list[Sequence[int]] = field(default_factory=list)
    swapped: list[int] = field(default_factory=list)
    """For each column the one whose value it takes in a mirror."""
    parts: list[slice] = field(default_factory=list)

    def points(self, count: int, size: int, *, pairs: Sequence[tuple[int, int]] = (), stride: int = 0, moving: bool = False) -> Layout:
        """`count` points of `size` coordinates, `stride` columns each, left and right ones in `pairs`; `moving`: no places but changes."""
        stride, partner = stride or size, list(range(count))
        for left, right in pairs:
            partner[left], partner[right] = right, left
        for point in range(count):
            first = self.width + stride * point
            (self.directions if moving else self.positions).append([first + axis if axis < size else -1 for axis in range(3)])
            self.swapped += [self.width + stride * partner[point] + i for i in range(stride)]
        return self._ended(count * stride)

    def values(self, count: int) -> Layout:
        """Numbers that neither turn nor grow, half of them of the left side, half of the right one."""
        self.swapped += [self.width + (i + count // 2) % count for i in range(count)]
        return self._ended(count)

    def _ended(self, count: int) -> Layout:
        self.parts.append(slice(self.width, self.width + count))
        self.width += count
        return self


def hands(layout: Layout, size: int, *, moving: bool = False) -> Layout:
    """Two hands of 21 points each, which change places."""
    start = len(layout.parts)
    layout.points(42, size, pairs=[(point, 21 + point) for point in range(21)], moving=moving)
    whole = layout.parts[start]
    middle = (whole.start + whole.stop) // 2
    layout.parts[start:] = [slice(whole.start, middle), slice(middle, whole.stop)]
    return layout


def layout_of(stage: str, width: int, fields: Mapping[str, Any]) -> Layout | None:
    """The layout of a stage's rows, by its name and published fields; None where its values are no points.

    The face of `holistic` keeps its numbers in a mirror: which of its 468 points are partners is not known here.
    """
    made = Layout()
    if stage == "skeleton":
        made.points(20, 3, pairs=KINECT_PAIRS)
    elif stage == "holistic":
        hands(made.points(33, 3, pairs=POSE_PAIRS, stride=4).points(468, 3), 3)
    elif stage == "keypoints":
        hands(made.points(33, 2, pairs=POSE_PAIRS), 2)
    elif stage == "inertial":
        for _ in range(width // 3):
            made.points(1, 3, moving=True)
    elif stage == "kinematics":
        _kinematics(made, fields)
    return made if made.width == width else None


def _kinematics(made: Layout, fields: Mapping[str, Any]) -> None:
    """The groups of its row in order; both figures."""
    kinect = "skeleton" in (fields.get("layout"), str(fields.get("source", "")).removeprefix("stage:"))
    groups = fields.get("groups", ("absolute", "angles", "motion", "shape", "trajectory", "pose"))
    for group in groups:
        if group in ("absolute", "motion"):
            for _ in range(1 if group == "absolute" else 2):
                if kinect:
                    made.points(20, 3, pairs=KINECT_PAIRS, moving=group == "motion")
                else:
                    hands(made, 3, moving=group == "motion")
        elif group == "trajectory":
            made.points(10, 3, pairs=KEY_PAIRS["skeleton" if kinect else "holistic"])
        elif group == "angles":
            made.points(14, 3, pairs=[(2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13)]) if kinect else made.values(78)
        elif not kinect:
            made.values(4) if group == "shape" else made.points(25, 3, pairs=[pair for pair in POSE_PAIRS if pair[1] < 25])


__all__ = ["Layout", "layout_of"]
