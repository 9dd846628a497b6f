"""Networks whose training clips are varied: in time, in their points, in their maps, and blended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import NonNegativeInt

from pipeline.data.batch import Batch
from pipeline.data.table import Change
from pipeline.layouts import Layout
from pipeline.learning.augment import Augmentation, Blend, Share, generator_of
from pipeline.learning.network import Network
from pipeline.learning.recipe import Training
from pipeline.types import Array


class Varied(Augmentation, Network):
    """A network with the fields of `Augmentation`."""

    def change(self, train: Training, epoch: int) -> Change | None:
        return self.variation(train, epoch)

    def check(self, layouts: Mapping[str, Layout | None]) -> None:
        self.refuse(layouts)

    @property
    def blends(self) -> bool:
        return self.mixup > 0

    def blend(self, batch: Batch, train: Training, epoch: int) -> Blend | None:
        return self.blended(batch, train, epoch)


class VariedMaps(Varied):
    """A network of one stage of maps, `(T, C, H, W)` a clip, which are mirrored and moved as wholes, all of a clip alike.

    Nearly what the backbone gives of mirrored and moved frames, not the same: its filters have a left and a right. Mirror and shift
    pixels where that matters, by `signcache finetune`.
    """

    map_mirror: Share = 0.0
    """Probability of maps that are mirrored, left for right."""
    map_shift: NonNegativeInt = 0
    """Most places by which maps move, up or down and left or right; what comes in is zero."""

    def change(self, train: Training, epoch: int) -> Change | None:
        before = super().change(train, epoch)
        return MapChange(before, self.map_mirror, self.map_shift, train.seed, epoch) if self.map_mirror or self.map_shift else before


@dataclass(frozen=True)
class MapChange:
    """Changes the maps of a clip after whatever else changes it."""

    before: Change | None
    mirror: float
    shift: int
    seed: int
    epoch: int

    def __call__(self, clip: str, rows: Mapping[str, Array]) -> Mapping[str, Array]:
        random = generator_of(self.seed, self.epoch, f"maps {clip}")
        is_mirrored, (down, right) = bool(random.random() < self.mirror), random.integers(-self.shift, self.shift + 1, 2).tolist()
        rows = self.before(clip, rows) if self.before else rows
        turned = {stage: maps[..., ::-1] if is_mirrored else maps for stage, maps in rows.items()}
        return {stage: moved(maps, down, right) for stage, maps in turned.items()}


def moved(maps: Array, down: int, right: int) -> Array:
    """`(..., H, W)` moved by so many places, zeros behind them."""
    rows, columns = np.arange(maps.shape[-2]) - down, np.arange(maps.shape[-1]) - right
    above, beside = (places.clip(0, len(places) - 1) for places in (rows, columns))
    inside = (rows == above)[:, None] & (columns == beside)
    return np.where(inside, maps[..., above[:, None], beside], 0)
