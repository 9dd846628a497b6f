"""How the rows of landmark stages are points of body and hands: a part of `kinematics`, no stage of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ClipError
from pipeline.types import Array

Layout: TypeAlias = Literal["holistic", "keypoints", "skeleton"]
Triple: TypeAlias = tuple[int, int, int]
POSE, HAND = 33, 21
"""Points of MediaPipe's pose and of a hand."""
KNUCKLE = 9
"""That of the middle finger, among the points of a hand; point 0 is the wrist."""
FINGERS: tuple[Triple, ...] = (
    (2, 3, 4), (0, 5, 6), (5, 6, 7), (6, 7, 8), (0, 9, 10), (9, 10, 11), (10, 11, 12),
    (0, 13, 14), (13, 14, 15), (14, 15, 16), (0, 17, 18), (17, 18, 19), (18, 19, 20),
)  # fmt: skip
"""13 joints of a hand as MediaPipe numbers it: the thumb's last, then knuckle, middle and end joint of each finger."""
LIMBS: tuple[Triple, ...] = (
    (0, 1, 2), (1, 2, 3), (1, 4, 5), (4, 5, 6), (5, 6, 7), (1, 8, 9), (8, 9, 10), (9, 10, 11),
    (3, 12, 13), (12, 13, 14), (13, 14, 15), (3, 16, 17), (16, 17, 18), (17, 18, 19),
)  # fmt: skip
"""14 joints of UTD-MHAD's skeleton: neck, spine, and shoulder, elbow, wrist, hip, knee, ankle of both sides."""


@dataclass(frozen=True)
class Figure:
    """A kind of body. `moving` parts give coordinates, angles and velocities; `pose` is what the pose group keeps of the body.

    `key` are the ten points of the body whose paths are the trajectory, `shoulders` the left and right one.
    """

    body: int
    moving: tuple[str, ...]
    points: int
    triples: tuple[Triple, ...]
    key: tuple[int, ...]
    shoulders: tuple[int, int]
    pose: int
    is_spatial: bool
    """Whether z is measured from the same origin as x and y; MediaPipe's starts anew at every wrist and at the hips."""


MEDIAPIPE = Figure(POSE, ("left", "right"), HAND, FINGERS, tuple(range(11, 21)), (11, 12), 25, False)
"""Key points: shoulders, elbows, wrists, little and index fingers of the pose. Its 25 first points are head, arms and hips."""
KINECT = Figure(20, ("body",), 20, LIMBS, (0, 3, 4, 5, 6, 7, 8, 9, 10, 11), (4, 8), 0, True)
"""Key points: head, hip centre, and shoulder, elbow, wrist and hand of both arms."""
FIGURES: Mapping[Layout, Figure] = {"holistic": MEDIAPIPE, "keypoints": MEDIAPIPE, "skeleton": KINECT}


@dataclass(frozen=True)
class Part:
    """`(T, points, 3)` float64 positions of one part, and in which frames it is `seen`; unseen ones are zero."""

    positions: Array
    seen: NDArray[np.bool_]


def parts_of(rows: Array, layout: Layout, aspect: float) -> dict[str, Part]:
    """`(T, D)` rows -> the part "body", and of MediaPipe "left" and "right", x and z in units of y; raises ClipError on another D.

    `aspect` is the width of the image by its height. A part is seen where its values are all numbers and not all zero.
    """
    rows = np.asarray(rows, np.float64)
    width = rows.shape[1]
    if layout == "skeleton" and width == 3 * KINECT.body:
        blocks = {"body": rows.reshape(len(rows), -1, 3)}
    elif layout == "keypoints" and width == 2 * (POSE + 2 * HAND):
        flat = rows.reshape(len(rows), -1, 2)
        points = np.concatenate([flat, np.zeros_like(flat[..., :1])], axis=2)
        blocks = {"body": points[:, :POSE], "left": points[:, POSE : POSE + HAND], "right": points[:, POSE + HAND :]}
    elif layout == "holistic" and width in (1662, 258):
        hands = rows[:, -2 * 3 * HAND :].reshape(len(rows), 2, HAND, 3)
        blocks = {"body": rows[:, : 4 * POSE].reshape(len(rows), POSE, 4)[..., :3], "left": hands[:, 0], "right": hands[:, 1]}
    else:
        expected = {"skeleton": "60", "keypoints": "150", "holistic": "1662, or 258 without the face"}[layout]
        raise ClipError(f"rows of {width} values are none of {layout}, which has {expected}; choose with --set layout=")
    return {name: _part(points, aspect) for name, points in blocks.items()}


def _part(points: Array, aspect: float) -> Part:
    flat = points.reshape(len(points), -1)
    seen = np.isfinite(flat).all(axis=1) & (flat != 0).any(axis=1)
    return Part(np.where(seen[:, None, None], points * np.array([aspect, 1, aspect]), 0), seen)


def frame_of_reference(parts: Mapping[str, Part], figure: Figure, by: Literal["centroid", "shoulder"]) -> tuple[Array, float]:
    """The origin `(3,)` and the unit of length of a clip, one for all its frames, so that the body's own movement stays.

    "centroid": the mean of the body's points, and the largest distance of any point from it. "shoulder": the median middle of
    the shoulders, and their median distance. Of MediaPipe the z does not count. Raises ClipError where no body is seen.
    """
    body = parts["body"]
    axes = 3 if figure.is_spatial else 2
    points = body.positions[body.seen, : figure.pose or figure.body, :axes]
    if not len(points):
        raise ClipError("no frame shows the body, so there is nothing to measure from")
    origin = np.zeros(3)
    if by == "centroid":
        origin[:axes] = points.reshape(-1, axes).mean(axis=0)
        every = [points, *(part.positions[part.seen][..., :axes] for name, part in parts.items() if name != "body")]
        unit = max(float(np.linalg.norm(some - origin[:axes], axis=-1).max(initial=0)) for some in every)
    else:
        left, right = (points[:, side] for side in figure.shoulders)
        origin[:axes] = np.median((left + right) / 2, axis=0)
        unit = float(np.median(np.linalg.norm(left - right, axis=-1)))
    if unit < 1e-9:
        raise ClipError("the body has no size: its points lie on one another")
    return origin, unit
