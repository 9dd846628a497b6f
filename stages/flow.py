"""Optical flow between the frames of a clip, as two-stream networks read it beside RGB (deepmind/kinetics-i3d)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Frame
from stages._frames import centre, chosen, shrunk

Between: TypeAlias = Callable[[Array, Array], Array]
"""`(H, W)` uint8 luma of a frame and of the next -> `(H, W, 2)` float32 pixels, x then y."""


class Flow(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(T, side, side, 2)` uint8, where each pixel goes until the next of these frames, x then y.

    0 and 255 are `-bound` and `bound` pixels or more, 128 no motion (a step is 0.16 pixels): deepmind/kinetics-i3d cuts flow at 20
    and scales it to -1..1, to which I3D turns bytes. The last frame has the flow of the one before. Frames are chosen and shrunk as
    `i3d` does with the same settings, so that its windows and those of the flow show the same; luma and flow are of the whole
    shrunk frame, of which the central `side` is kept. `method`: `tvl1` is OpenCV's Dual TV-L1, which that network learned from:
    seconds a frame on a core; `farneback` takes an eighteenth of that, `dis` (medium) an eightieth, and weights of Kinetics know neither.
    """

    libraries: ClassVar[tuple[str, ...]] = ("opencv-contrib-python",)

    source: str = "rgb"
    method: Literal["tvl1", "farneback", "dis"] = "tvl1"
    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    rate_hz: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 25.0
    frames: PositiveInt | None = None
    short_side: Annotated[int, Field(ge=16)] = 256
    side: Annotated[int, Field(ge=16)] = 224

    @model_validator(mode="after")
    def _fits(self) -> Flow:
        if self.side > self.short_side:
            raise UserError(f"stage 'flow': side={self.side} cannot be cut from short_side={self.short_side}; give a larger short_side")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.side, self.side, 2)

    @property
    def dtype(self) -> str:
        return "uint8"

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return chosen(length, rate_hz, self.rate_hz, self.frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        import cv2

        cv2.setNumThreads(1)  # one decode process a core; the stripes of DIS, and so its flow, go by the number of threads
        between, before, row = BETWEEN[self.method](), None, None
        for (image,) in frames:
            luma = cv2.cvtColor(shrunk(image, self.short_side), cv2.COLOR_RGB2GRAY)
            if before is not None:
                row = self._bytes(centre(between(before, luma), self.side))
                yield row
            before = luma
        if before is not None:
            yield self._bytes(np.zeros(self.row_shape)) if row is None else row

    def _bytes(self, pixels: Array) -> Array:
        """`(side, side, 2)` uint8 of flow in pixels."""
        share = (np.clip(pixels, -self.bound, self.bound) + self.bound) / (2 * self.bound)
        return np.floor(share * 255 + 0.5).astype(np.uint8)


def _tvl1() -> Between:
    import cv2

    optflow: Any = cv2.optflow
    return partial(optflow.DualTVL1OpticalFlow_create().calc, flow=None)


def _dis() -> Between:
    import cv2

    whole: Any = cv2
    return partial(whole.DISOpticalFlow_create(whole.DISOPTICAL_FLOW_PRESET_MEDIUM).calc, flow=None)


def _farneback() -> Between:
    """With the settings of OpenCV's own example: pyramid of 3 halvings, windows of 15, 3 rounds, polynomials of 5 with deviation 1.2."""
    import cv2

    whole: Any = cv2
    return lambda before, after: whole.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)


BETWEEN: Mapping[str, Callable[[], Between]] = {"tvl1": _tvl1, "farneback": _farneback, "dis": _dis}
"""What makes the flow from a frame to the next, by the name of the method; made anew for every clip."""

stage: type[Extractor] = Flow
