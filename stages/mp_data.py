"""Landmarks that were kept a file a frame: the `MP_Data` folders of the widespread MediaPipe tutorial (nicknochnack)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydantic import PositiveInt

from pipeline.errors import ClipError
from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor, Frame


class MPData(Extractor):
    """`(T, values)` stored landmark vectors -> `(T, 1662)` float32, the order of the stage `holistic`: pose, face, hands.

    A clip is a folder of `<frame>.npy`, numbered without a gap. The tutorial writes float64 that float32 holds exactly.
    Rows of 258 values are those without the face.
    """

    source: str = "landmarks"
    values: PositiveInt = 1662

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.values,)

    @property
    def row_layout(self) -> Layout | None:
        known = (Layout(tuple(part for name, part in LANDMARKS.items() if name not in left_out)) for left_out in ((), ("face",)))
        return next((layout for layout in known if layout.width == self.values), None)

    @property
    def like(self) -> str:
        return "holistic"

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for number, (row,) in enumerate(frames):
            if row.shape != self.row_shape:
                raise ClipError(f"frame {number} holds {row.shape}, where {self.row_shape} is expected (--set values=N)")
            if not np.isfinite(row).all():
                raise ClipError(f"frame {number} holds a value that is no finite number")
            yield np.asarray(row, np.float32)


stage: type[Extractor] = MPData
