"""Signs as Insignia's web application cuts them by itself (Im-Rik/Insignia, backend/helpers): a raised wrist, or much that moves."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.decoding.decode import Clip, gray
from pipeline.decoding.quiet import without_noise
from pipeline.spotting.segmenter import Segmenter
from pipeline.types import Array

CORNERS, QUALITY, APART, BLOCK = 200, 0.01, 10, 7
"""Of the points that are followed: how many at most, how good, how far apart, and the window that they are looked for in."""
FEWEST_CORNERS, FEWEST_FOLLOWED = 10, 5
LOWER = 90
"""Percent of the movements that count, the smallest."""
LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_WRIST, RIGHT_WRIST, LEFT_HIP, RIGHT_HIP = 11, 12, 15, 16, 23, 24
VISIBLE = 0.3


class WristFlow(Segmenter):
    """A frame belongs to a sign where sparse Lucas-Kanade flow to the next exceeds `flow` pixels, or a wrist is raised above the hips by
    `raised` of the torso, which the pose of every `every`-th frame tells for those up to the next; `idle` other frames end a sign.

    A sign is cut at `most` frames, and dropped where it has fewer than `fewest`. Both are measured on the picture at `scale`. Defaults
    are the source's, for its signs at 30 frames a second; it uses MediaPipe's lightest pose model, and this the one that its wheel
    brings. The torso is the height from hips to shoulders; `torso="hips"` takes it as the source's code does, which measures the
    difference of height between both hips: then nearly any wrist above them is raised.
    """

    flow: PositiveFloat = 45.0
    raised: Annotated[float, Field(ge=0)] = 0.18
    torso: Literal["shoulders", "hips"] = "shoulders"
    every: PositiveInt = 2
    idle: PositiveInt = 3
    fewest: PositiveInt = 50
    most: PositiveInt = 80
    scale: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def longest(self) -> int:
        return self.most

    def segments(self, clip: Clip) -> list[tuple[int, int]]:
        return self.cut(self.signing(image for (image,) in clip.frames(np.arange(clip.length))))

    def signing(self, images: Iterable[Array]) -> Iterator[bool]:
        """Whether each frame belongs to a sign; one frame is kept at a time."""
        before: Array | None = None
        was_raised, waiting = False, False
        with without_noise(), _pose() as pose:
            for number, image in enumerate(images):
                small = self._small(image)
                now = gray(small)
                if before is not None:
                    yield waiting or sparse_flow(before, now) > self.flow
                if number % self.every == 0:
                    found = pose.process(small).pose_landmarks
                    was_raised = bool(found) and self.is_raised(found.landmark)
                before, waiting = now, was_raised
            if before is not None:
                yield waiting

    def _small(self, image: Array) -> Array:
        import cv2

        return np.asarray(cv2.resize(image, None, fx=self.scale, fy=self.scale))

    def is_raised(self, points: Any) -> bool:
        """Whether one of the wrists is, as far as the body's points are visible."""
        hips = [points[i] for i in (LEFT_HIP, RIGHT_HIP)]
        if any(hip.visibility < VISIBLE for hip in hips):
            return False
        middle = sum(hip.y for hip in hips) / 2
        if self.torso == "hips":
            torso = abs(hips[0].y - hips[1].y) + 1e-6
        else:
            torso = abs(middle - (points[LEFT_SHOULDER].y + points[RIGHT_SHOULDER].y) / 2)
        wrists = [points[i] for i in (LEFT_WRIST, RIGHT_WRIST)]
        return any(middle - wrist.y > self.raised * torso for wrist in wrists if wrist.visibility > VISIBLE)

    def cut(self, signing: Iterable[bool]) -> list[tuple[int, int]]:
        """Frames that belong to a sign -> `(first, stop)` of the signs."""
        found, start, idle, number = list[tuple[int, int]](), -1, 0, -1
        for number, is_sign in enumerate(signing):
            if is_sign:
                idle, start = 0, number if start < 0 else start
            else:
                idle += 1
                if start >= 0 and idle >= self.idle:
                    found.append((start, number - self.idle + 1))
                    start = -1
            if start >= 0 and number - start + 1 >= self.most:
                found.append((start, number + 1))
                start, idle = -1, 0
        if start >= 0:
            found.append((start, number + 1))
        return [(first, stop) for first, stop in found if stop - first >= self.fewest]


def sparse_flow(before: Array, after: Array) -> float:
    """Pixels that corners of one `(H, W)` picture moved until the next, the mean of the lower 90 %; 0 where too few are followed."""
    import cv2

    corners = cv2.goodFeaturesToTrack(before, maxCorners=CORNERS, qualityLevel=QUALITY, minDistance=APART, blockSize=BLOCK)
    if corners is None or len(corners) < FEWEST_CORNERS:
        return 0.0
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01)
    nothing: Any = None
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, nothing, winSize=(21, 21), maxLevel=3, criteria=criteria)
    followed: NDArray[np.bool_] = status.reshape(-1) == 1
    if followed.sum() < FEWEST_FOLLOWED:
        return 0.0
    lengths = np.linalg.norm((moved - corners).reshape(-1, 2)[followed], axis=1)
    lower = lengths[lengths < np.percentile(lengths, LOWER)]
    return float(lower.mean()) if lower.size else 0.0


@functools.cache
def _imported() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mediapipe.python.solutions.pose import Pose
    return Pose


def _pose() -> Any:
    warnings.filterwarnings("ignore", r"SymbolDatabase\.GetPrototype\(\) is deprecated", UserWarning)
    return _imported()(min_detection_confidence=0.5, min_tracking_confidence=0.5, model_complexity=1)


segmenter: type[Segmenter] = WristFlow
