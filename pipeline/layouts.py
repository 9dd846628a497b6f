"""Which values of a landmark stage's row are points, which are directions, and which change places in a mirror."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["place", "change", "value"]
"""Points, differences of points (which do not shift), and numbers that neither turn nor grow."""
POSE_PAIRS = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((left, left + 1) for left in range(11, 33, 2)))
"""Left and right points of MediaPipe's pose."""
KINECT_PAIRS = tuple((left, left + 4) for left in (4, 5, 6, 7, 12, 13, 14, 15))
Pairs: TypeAlias = Sequence[tuple[int, int]]
KINECT_PARENTS = (1, 2, 3, -1, *(1, 4, 5, 6), *(1, 8, 9, 10), *(3, 12, 13, 14), *(3, 16, 17, 18))
"""Of each of a Kinect's joints the one that it hangs on; all hang on the hip centre."""
KEY_PAIRS: Mapping[str, Pairs] = {
    "skeleton": tuple((left, left + 4) for left in (2, 3, 4, 5)),
    "holistic": tuple((left, left + 1) for left in range(0, 10, 2)),
}
"""Of the ten points of the kinematics' trajectory."""
LIMB_PAIRS: Pairs = ((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13))
"""Of the kinematics' 14 joints of a Kinect's skeleton."""


@dataclass
class Layout:
    """Columns of a row, gathered part by part; of a point those of x, y and z, -1 where there is none."""

    width: int = 0
    positions: list[Sequence[int]] = field(default_factory=list)
    directions: list[Sequence[int]] = field(default_factory=list)
    swapped: list[int] = field(default_factory=list)
    """For each column the one whose value it takes in a mirror."""
    parts: list[slice] = field(default_factory=list)
    parents: tuple[int, ...] = ()
    """Of each of `positions` the one it hangs on by a bone, -1 where there is none; empty where that is not known."""

    def points(self, count: int, size: int, pairs: Pairs = (), *, stride: int = 0, kind: Kind = "place") -> Layout:
        """`count` points of `size` coordinates, `stride` columns each; left and right ones are `pairs`."""
        stride, partner = stride or size, list(range(count))
        for left, right in pairs:
            partner[left], partner[right] = right, left
        for point in range(count):
            first = self.width + stride * point
            if kind != "value":
                found = self.positions if kind == "place" else self.directions
                found.append([first + axis if axis < size else -1 for axis in range(3)])
            self.swapped += [self.width + stride * partner[point] + i for i in range(stride)]
        self.parts.append(slice(self.width, self.width + count * stride))
        self.width += count * stride
        return self


def hands(layout: Layout, size: int, kind: Kind = "place") -> Layout:
    """Two hands of 21 points each, which change places."""
    start = len(layout.parts)
    layout.points(42, size, [(point, 21 + point) for point in range(21)], kind=kind)
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
        made.points(20, 3, KINECT_PAIRS).parents = KINECT_PARENTS
    elif stage == "holistic":
        made.points(33, 3, POSE_PAIRS, stride=4)
        hands(made.points(468, 3) if width > 258 else made, 3)
    elif stage == "keypoints":
        hands(made.points(33, 2, POSE_PAIRS), 2)
    elif stage == "inertial":
        for _ in range(width // 3):
            made.points(1, 3, kind="change")
    elif stage == "kinematics":
        _kinematics(made, fields)
    return made if made.width == width else None


def _kinematics(made: Layout, fields: Mapping[str, Any]) -> None:
    """The groups of its row in order, of MediaPipe's hands and pose or of a Kinect's skeleton."""
    is_kinect = "skeleton" in (fields.get("layout"), str(fields.get("source", "")).removeprefix("stage:"))
    size = int(fields.get("axes", 3))
    for group in fields.get("groups", ("absolute", "angles", "motion", "shape", "trajectory", "pose")):
        if group in ("absolute", "motion"):
            kind: Kind = "place" if group == "absolute" else "change"
            for _ in range(1 if group == "absolute" else 2):
                made.points(20, size, KINECT_PAIRS, kind=kind) if is_kinect else hands(made, size, kind)
        elif group == "angles":
            joints, pairs = (14, LIMB_PAIRS) if is_kinect else (26, [(joint, 13 + joint) for joint in range(13)])
            made.points(joints, 1 if size == 2 else 3, pairs, kind="value")
        elif group == "trajectory":
            made.points(10, size, KEY_PAIRS["skeleton" if is_kinect else "holistic"])
        elif group == "shape" and not is_kinect:
            made.points(2, 2, [(0, 1)], kind="value")
        elif group == "pose" and not is_kinect:
            made.points(25, size, [pair for pair in POSE_PAIRS if pair[1] < 25])
        elif group == "local" and not is_kinect:
            hands(made, size, "change")
