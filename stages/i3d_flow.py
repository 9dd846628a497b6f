"""Features of short windows of optical flow by the I3D network: the second stream of Two-Stream I3D (deepmind/kinetics-i3d)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pipeline.errors import ClipError
from pipeline.types import Array, Extractor, Frame
from stages._windows import Windows


class I3DFlow(Windows):
    """`(T, side, side, 2)` uint8 rows of the stage `flow` -> `(windows, 1024)` float32, as `i3d` makes them of RGB.

    The network differs in its first convolution only, which has two channels; checkpoints are those of the flow stream, in the same
    namings. Bytes are scaled to -1..1, which is flow by its `bound`. `stage:flow` has chosen frames and cut them already, to `side`: give
    it the `rate_hz`, `frames` and `short_side` that `i3d` has. When it is finetuned, flow is not varied as pictures are.
    """

    channels: ClassVar[int] = 2

    source: str = "stage:flow"

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        return self.filled(self._checked(row) for (row,) in frames)

    def _checked(self, row: Array) -> Array:
        if row.shape != self.item_shape:
            said, wanted = ("x".join(map(str, shape)) for shape in (row.shape, self.item_shape))
            raise ClipError(
                f"its rows are {said}, where flow of {wanted} is expected; give i3d_flow and flow the same side: --set side=224"
            )
        return row


stage: type[Extractor] = I3DFlow
