"""Features of range-Doppler videos by a small CNN, as in the LIS late-fusion system (matteocacioppo/LIS_Kaggle)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveInt

from pipeline.cache import weights as checkpoint
from pipeline.decoding.decode import gray, nearest
from pipeline.errors import ClipError
from pipeline.types import Array, Extractor, Forward, Frame, evenly

if TYPE_CHECKING:
    from torch import Tensor, nn


class RadarCNN(Extractor):
    """`(T, receivers, H, W, 3)` uint8 range-Doppler frames -> `(T, 32 * receivers)` float32, 96 values for three receivers.

    Gray / 255, resized to `resize` (nearest), one CNN of 4,800 parameters shared by the receivers, concatenated
    in their order. The source never trains this network and never seeds it; here the seed is part of the identity.
    """

    item_axes: ClassVar[str] = "CHW"

    source: str = "radar"
    weights: str = "random:0"
    max_frames: PositiveInt = 30
    resize: tuple[PositiveInt, PositiveInt] = (224, 224)
    receivers: PositiveInt = 3

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (32 * self.receivers,)

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.receivers, *self.resize)

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return evenly(length, self.max_frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for maps in frames:
            if len(maps) != self.receivers:
                raise ClipError(f"{len(maps)} radar tracks where {self.receivers} receivers are expected")
            yield np.stack([nearest(gray(image), self.resize) for image in maps])

    def network(self) -> nn.Module:
        return checkpoint.initialised(_network, self.weights, lambda: checkpoint.read_checkpoint(self.weights))

    def load(self, device: str) -> Forward:
        import torch

        return self.network().to(device).to(memory_format=torch.channels_last)


def _network() -> nn.Module:
    """The source's network, side by side on the maps of each receiver."""
    import torch
    from torch import nn

    class Receivers(nn.Sequential):
        def forward(self, maps: Tensor) -> Tensor:
            batch, receivers, height, width = maps.shape
            images = maps.reshape(batch * receivers, 1, height, width).float().div(255)
            rows = images.contiguous(memory_format=torch.channels_last)
            for layer in self:
                rows = layer(rows)
            return rows.float().reshape(batch, receivers * 32)

    return Receivers(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


stage: type[Extractor] = RadarCNN
