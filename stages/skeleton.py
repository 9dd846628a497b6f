"""Joints of a depth camera's skeleton, as in UTD-MHAD (Chen, Jafari, Kehtarnavaz, ICIP 2015; Kinect version 1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import PositiveInt, model_validator

from pipeline.errors import ClipError, UserError
from pipeline.layouts import KINECT_PAIRS, KINECT_PARENTS, Layout, Part
from pipeline.types import Array, Extractor, Frame

KINECT = 20
SHOULDERS, HIPS = 1, 3
"""The two ends of a Kinect's torso: shoulder centre and hip centre."""


class Skeleton(Extractor):
    """`(T, joints, 3)` joint positions -> `(T, 3 * joints)` float32, joint by joint x, y, z: 60 values for 20 joints.

    A file holds `(joints, 3, T)` as MATLAB writes it (`d_skel`), or rows `(T, joints, 3)` or `(T, 3 * joints)`. The unit and
    the axes are the file's: metres before the camera in UTD-MHAD, whose order is head, shoulder centre, spine, hip centre,
    then shoulder, elbow, wrist, hand of the left and of the right arm, then hip, knee, ankle, foot of both legs.
    `origin="start"` measures from the middle of the joints in the clip's first row, so that it does not matter where a person
    stands but where they go; `unit="torso"` by the clip's median distance of shoulder centre and hip centre, whatever their height.
    A row of zeros, in which the camera saw nobody, stays one and counts for neither.
    """

    source: str = "skeleton"
    joints: PositiveInt = KINECT
    origin: Literal["stored", "start"] = "stored"
    unit: Literal["stored", "torso"] = "stored"

    @model_validator(mode="after")
    def _fits(self) -> Skeleton:
        if self.unit == "torso" and self.joints != KINECT:
            raise UserError(
                f"stage 'skeleton': unit=torso knows the torso of {KINECT} joints, not of joints={self.joints}; use unit=stored"
            )
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (3 * self.joints,)

    @property
    def row_layout(self) -> Layout:
        if self.joints != KINECT:
            return Layout((Part("body", self.joints, 3, 3, turns="any", pairs=None),))
        return Layout((Part("body", KINECT, 3, 3, turns="any", pairs=KINECT_PAIRS, parents=KINECT_PARENTS),))

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        rows = [self._joints(number, tracks) for number, tracks in enumerate(frames)]
        seen = [row for row in rows if row.any()] or rows
        origin = seen[0].mean(0) if seen and self.origin == "start" else np.zeros(3)
        unit = torso(np.stack(seen)) if seen and self.unit == "torso" else 1.0
        yield from (((row - origin * row.any()) / unit).astype(np.float32).reshape(-1) for row in rows)

    def _joints(self, number: int, tracks: Frame) -> Array:
        """`(joints, 3)` float64 of one row."""
        positions = tracks[0]
        if len(tracks) != 1 or positions.shape not in ((self.joints, 3), (3 * self.joints,)):
            raise ClipError(f"joints are {positions.shape}, where {(self.joints, 3)} is expected (--set joints=N)")
        if not np.isfinite(positions).all():
            raise ClipError(f"frame {number} has a joint whose place is no finite number")
        return np.asarray(positions, np.float64).reshape(self.joints, 3)


def torso(rows: Array) -> float:
    """The median length of the torso in `(T, joints, 3)` rows; raises ClipError where it has none."""
    length = float(np.median(np.linalg.norm(rows[:, SHOULDERS] - rows[:, HIPS], axis=1)))
    if length < 1e-9:
        raise ClipError("the torso has no length, so there is no unit: shoulder centre and hip centre lie on one another")
    return length


stage: type[Extractor] = Skeleton
