"""Joints of a depth camera's skeleton, as in UTD-MHAD (Chen, Jafari, Kehtarnavaz, ICIP 2015; Kinect version 1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import PositiveInt

from pipeline.errors import ClipError
from pipeline.types import Array, Extractor, Frame


class Skeleton(Extractor):
    """`(T, joints, 3)` joint positions -> `(T, 3 * joints)` float32, joint by joint x, y, z: 60 values for 20 joints.

    A file holds `(joints, 3, T)` as MATLAB writes it (`d_skel`), or rows `(T, joints, 3)` or `(T, 3 * joints)`. The unit and
    the axes are the file's: metres before the camera in UTD-MHAD, whose order is head, shoulder centre, spine, hip centre,
    then shoulder, elbow, wrist, hand of the left and of the right arm, then hip, knee, ankle, foot of both legs.
    """

    source: str = "skeleton"
    joints: PositiveInt = 20

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (3 * self.joints,)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for number, tracks in enumerate(frames):
            positions = tracks[0]
            if len(tracks) != 1 or positions.shape not in ((self.joints, 3), (3 * self.joints,)):
                raise ClipError(f"joints are {positions.shape}, where {(self.joints, 3)} is expected (--set joints=N)")
            if not np.isfinite(positions).all():
                raise ClipError(f"frame {number} has a joint whose place is no finite number")
            yield np.asarray(positions, np.float32).reshape(-1)


stage: type[Extractor] = Skeleton
