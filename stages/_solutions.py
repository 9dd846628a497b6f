"""One of MediaPipe's solutions over the frames of a clip: a part of `hands`, `blazepose` and `pose_hands`, no stage of its own."""

from __future__ import annotations

import functools
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.decoding.quiet import without_noise
from pipeline.errors import ClipError
from pipeline.types import Array, Extractor, Frame

Coordinates: TypeAlias = Literal["image", "world"]
Confidence = Annotated[float, Field(ge=0, le=1)]
Tracked: TypeAlias = "AbstractContextManager[Callable[[Array], Array]]"


class Solution(Extractor):
    """What stages of MediaPipe's separate solutions share: frames at a steady rate, a tracker of its own for every clip.

    Instants 1 / `rate_hz` apart are taken from the frame nearest to each, so a slower clip repeats frames; 0, and a clip that
    says no rate, take every frame as it is. `coordinates="image"`: x and y are fractions of the image's width and height, z is in
    the scale of x. `"world"`: metres, estimated by MediaPipe.
    """

    libraries: ClassVar[tuple[str, ...]] = ("mediapipe",)

    source: str = "rgb"
    rate_hz: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 30.0
    coordinates: Coordinates = "image"
    detection_confidence: Confidence = 0.5
    tracking_confidence: Confidence = 0.5

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        if not (self.rate_hz and rate_hz):
            return np.arange(length, dtype=np.int64)
        step = rate_hz / self.rate_hz
        wanted: NDArray[np.int64] = np.floor(np.arange(int(np.ceil(length / step)) + 1) * step + 0.5).astype(np.int64)
        return wanted[wanted < length]

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        with without_noise(), self.tracked() as row_of:
            for (image,) in frames:
                if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                    raise ClipError(f"landmarks need (H, W, 3) uint8 frames, these are {image.shape} {image.dtype}")
                yield row_of(np.ascontiguousarray(image))

    @abstractmethod
    def tracked(self) -> Tracked:
        """What makes the row of each frame of one clip, in their order; closes its trackers at the end."""


def tracker(solution: str, name: str, **settings: Any) -> Any:
    """A fresh tracker of `mediapipe.solutions`; MediaPipe's use of protobuf 4 warns at the first landmark."""
    warnings.filterwarnings("ignore", r"SymbolDatabase\.GetPrototype\(\) is deprecated", UserWarning)
    return _imported(solution, name)(static_image_mode=False, model_complexity=1, **settings)


@functools.cache
def _imported(solution: str, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(importlib.import_module(f"mediapipe.python.solutions.{solution}"), name)


def positions(landmarks: Iterable[Any]) -> Array:
    """`(P, 3)` float32 of MediaPipe's landmarks: x, y, z."""
    return np.array([(point.x, point.y, point.z) for point in landmarks], np.float32)
