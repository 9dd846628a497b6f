"""Landmarks of the body by MediaPipe's BlazePose alone, as the INCLUDE-50 ensemble runs it (RohanPatil2/sign-language-recognition)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor
from stages._solutions import Coordinates, Solution, positions, tracker

POINTS = 33


class BlazePose(Solution):
    """`(T, H, W, 3)` uint8 frames -> `(T, 132)` float32, x, y, z, visibility of 33 points of the body; zeros where nobody is found.

    The source runs it beside MediaPipe's Hands, not within Holistic, over frames at 30 a second (`--use_blazepose`; its
    `--normalize_3d` is `coordinates=world`: metres from the middle of the hips, axes as in the image). The one model inside
    MediaPipe's wheel, complexity 1; landmarks smoothed over time, as the solution does by default.
    """

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (4 * POINTS,)

    @property
    def row_layout(self) -> Layout:
        return Layout((replace(LANDMARKS["pose"], turns="any" if self.coordinates == "world" else "never"),))

    @contextmanager
    def tracked(self) -> Iterator[Callable[[Array], Array]]:
        with self.tracker() as solution:
            yield lambda image: body(solution.process(image), self.coordinates)

    def tracker(self) -> Any:
        """A fresh one."""
        confidences = {"min_detection_confidence": self.detection_confidence, "min_tracking_confidence": self.tracking_confidence}
        return tracker("pose", "Pose", smooth_landmarks=True, **confidences)


def body(found: Any, coordinates: Coordinates) -> Array:
    """`(132,)` float32: what the solution found in a frame, point by point; zeros where it found nobody."""
    landmarks = found.pose_landmarks if coordinates == "image" else found.pose_world_landmarks
    if landmarks is None:
        return np.zeros(4 * POINTS, np.float32)
    visibility = np.array([point.visibility for point in landmarks.landmark], np.float32)
    return np.concatenate([positions(landmarks.landmark), visibility[:, None]], 1).reshape(-1)


stage: type[Extractor] = BlazePose
