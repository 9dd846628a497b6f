"""MediaPipe Holistic with the body in metres beside its rows, which is all that Holistic measures in the world."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor
from stages.blazepose import POINTS, body
from stages.holistic import Holistic

VALUES = 4 * POINTS


class HolisticWorld(Holistic):
    """`(T, H, W, 3)` uint8 frames -> `(frames, 1794)` float32: the 1662 values of `holistic`, then the body's 33 points in metres.

    These are x, y, z from the middle of the hips and the visibility, as of `blazepose` with `coordinates=world`; zeros where nobody is
    found. A stage of its own, so that rows of `holistic` stay what they are. Of hands, `hands` gives metres, Holistic none.
    """

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (super().row_shape[0] + VALUES,)

    @property
    def row_layout(self) -> Layout:
        # measured from another place, in another unit than the rest: what moves or scales the picture leaves it
        world = replace(LANDMARKS["pose"], name="pose_world", kind="direction", turns="any")
        return Layout((*super().row_layout.parts, world))

    def _row(self, found: Any) -> Array:
        row = super()._row(found)
        row[-VALUES:] = body(found, "world")
        return row


stage: type[Extractor] = HolisticWorld
