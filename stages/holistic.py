"""Landmarks of body, face and hands by MediaPipe Holistic, as in Insignia (exotic123567/Insignia, Im-Rik/Insignia)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, field_validator

from pipeline.decoding.quiet import without_noise
from pipeline.errors import ClipError, did_you_mean
from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor, Frame

Part: TypeAlias = Literal["pose", "face", "left_hand", "right_hand"]
PARTS: tuple[Part, ...] = ("pose", "face", "left_hand", "right_hand")
POINTS: Mapping[str, tuple[int, int]] = {"pose": (33, 4), "face": (468, 3), "left_hand": (21, 3), "right_hand": (21, 3)}
"""Points of a part and values of each: x, y, z, and of the pose's points also the visibility."""
HANDS = "hands"
"""Short for both hands in `include`."""
Confidence = Annotated[float, Field(ge=0, le=1)]


class Holistic(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(frames, 1662)` float32, landmarks point by point: pose 132, face 1404, hands 63 and 63.

    Frames: always `frames` of them, number i being `round(i * (N - 1) / (frames - 1))`, halves to the even number as Python
    and `np.rint` both round; a shorter clip repeats frames, and MediaPipe sees the repeated ones again, for the source
    samples before it. A part's block starts at 0 (pose), 132 (face), 1536 (left hand), 1599 (right hand); a part that was
    not found is zeros there (`seen` tells). `include` keeps some of the parts, always in this order, and the row shrinks to
    them (`blocks` tells where they are then); all parts are tracked either way, so the values stay. x and y are fractions of
    the image's width and height, z is in the scale of x. Hands are the signer's own left and right. Each clip has a tracker
    of its own, so rows depend neither on the order of clips nor on what else runs.
    """

    libraries: ClassVar[tuple[str, ...]] = ("mediapipe",)

    source: str = "rgb"
    frames: PositiveInt = 60
    include: tuple[Part, ...] = PARTS
    detection_confidence: Confidence = 0.5
    tracking_confidence: Confidence = 0.5

    @field_validator("include", mode="before")
    @classmethod
    def _in_order(cls, value: Iterable[str]) -> tuple[str, ...]:
        words = [word.strip() for word in value.split(",")] if isinstance(value, str) else list(value)
        known = [*PARTS, HANDS]
        for word in words:
            if word not in known:
                raise ValueError(f"no part called {word!r}{did_you_mean(word, known)} Parts: {', '.join(known)}")
        if not words:
            raise ValueError(f"it names no part; parts: {', '.join(known)}")
        return tuple(part for part in PARTS if part in words or (HANDS in words and part.endswith("_hand")))

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (blocks(self.include)[self.include[-1]].stop,)

    @property
    def row_layout(self) -> Layout:
        return Layout(tuple(LANDMARKS[part] for part in self.include))

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        steps = np.arange(self.frames if length else 0)
        return np.rint(steps * (length - 1) / max(1, self.frames - 1)).astype(np.int64)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        with without_noise(), self._tracker(_mediapipe()) as tracker:
            for (image,) in frames:
                if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                    raise ClipError(f"landmarks need (H, W, 3) uint8 frames, these are {image.shape} {image.dtype}")
                yield self._row(tracker.process(np.ascontiguousarray(image)))

    def _tracker(self, kind: Any) -> Any:
        return kind(
            static_image_mode=False,
            model_complexity=1,
            smooth_landmarks=True,
            refine_face_landmarks=False,
            min_detection_confidence=self.detection_confidence,
            min_tracking_confidence=self.tracking_confidence,
        )

    def _row(self, found: Any) -> Array:
        row = np.zeros(self.row_shape, np.float32)
        for part, block in blocks(self.include).items():
            landmarks = getattr(found, f"{part}_landmarks")
            if landmarks is not None:
                row[block] = _values(landmarks.landmark, POINTS[part][1])
        return row


def _values(points: Iterable[Any], width: int) -> list[float]:
    if width == 4:
        return [value for point in points for value in (point.x, point.y, point.z, point.visibility)]
    return [value for point in points for value in (point.x, point.y, point.z)]


def blocks(include: Iterable[Part] = PARTS) -> dict[Part, slice]:
    """Where each part of a stage's `include` lies in its rows: `{"pose": slice(0, 132), ...}`."""
    found, start = {}, 0
    for part in include:
        points, values = POINTS[part]
        found[part] = slice(start, start + points * values)
        start += points * values
    return found


def seen(rows: Array, part: Part, include: Iterable[Part] = PARTS) -> NDArray[np.bool_]:
    """`(..., width)` rows -> `(...)` bool: whether the part was found, which is whether any of its values is not zero."""
    found: NDArray[np.bool_] = np.any(rows[..., blocks(include)[part]] != 0, axis=-1)
    return found


@functools.cache
def _imported() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mediapipe.python.solutions.holistic import Holistic as Tracker
    return Tracker


def _mediapipe() -> Any:
    """MediaPipe's tracker, whose use of protobuf 4 warns at the first landmark."""
    warnings.filterwarnings("ignore", r"SymbolDatabase\.GetPrototype\(\) is deprecated", UserWarning)
    return _imported()


stage: type[Extractor] = Holistic
