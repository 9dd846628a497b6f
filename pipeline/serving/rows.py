"""Rows that a client made of its own frames, as by MediaPipe in a browser: their form, and what is none of it."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.runs.trained import Trained
from pipeline.serving.uploads import Refused
from pipeline.spotting.windows import takes_rows
from pipeline.types import Array


@dataclass(frozen=True)
class RowForm:
    """One row a frame, of the stage that makes them of a video.

    A binary message is its values in their order as little-endian float32; a text message a JSON array of as many numbers, null where there
    is none. A part of the layout that was not seen is zeros, or no numbers throughout; any other value must be finite.
    """

    stage: str
    shape: tuple[int, ...]
    dtype: str
    layout: Layout | None

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    def document(self) -> dict[str, Any]:
        """As JSON values: the stage, how many values, and the parts with their places, points and values of each."""
        layout = self.layout or Layout(())
        parts = [
            {"name": part.name, "start": layout.columns[part.name].start, "points": part.points, "size": part.size} for part in layout.parts
        ]
        return {"stage": self.stage, "values": self.values, "parts": parts}

    def read(self, message: str | bytes) -> Array:
        """`row_shape` of the stage; raises Refused with what is wrong."""
        row = self._numbers(message)
        for name, columns in (self.layout.missable if self.layout else {}).items():
            if np.isnan(row[columns]).all():
                row[columns] = 0
            elif not np.isfinite(row[columns]).all():
                raise Refused(f"a row's {name} is not finite; a part that was not seen is zeros, or NaN throughout")
        if not np.isfinite(row).all():
            raise Refused("a row holds values that are not finite")
        return row.astype(self.dtype, copy=False).reshape(self.shape)

    def _numbers(self, message: str | bytes) -> Array:
        if isinstance(message, bytes):
            if len(message) != 4 * self.values:
                raise Refused(f"a row has {len(message)} bytes; {self.stage} has {self.values} values, float32: {4 * self.values} bytes")
            return np.frombuffer(message, "<f4").astype(np.float32)
        try:
            row = np.array([math.nan if value is None else value for value in json.loads(message)], np.float32)
        except (ValueError, TypeError, RecursionError, OverflowError):
            raise Refused(f"a row is no JSON array of {self.values} numbers") from None
        if row.shape != (self.values,):
            raise Refused(f"a row has the shape {row.shape}; {self.stage} has {self.values} values")
        return row


def form_of(trained: Trained) -> RowForm:
    """The form of the rows that a model's only stage of video makes. Raises UserError where there is none that a client could make."""
    roots = [stage for stage in trained.chain if stage.upstream is None]
    if len(roots) != 1 or not takes_rows(roots[0].extractor):
        raise UserError(f"rows of {', '.join(stage.name for stage in roots)} cannot be sent here; send frames")
    extractor = roots[0].extractor
    return RowForm(roots[0].name, extractor.row_shape, extractor.dtype, extractor.row_layout)
