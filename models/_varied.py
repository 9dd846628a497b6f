"""Networks whose training clips are varied: in time, in their points, in their maps, and blended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from pydantic import NonNegativeInt, model_validator
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.data.batch import Batch
from pipeline.data.table import Change
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.augment import Augmentation, Blend, Share, Variation, generator_of
from pipeline.learning.mixing import logarithms
from pipeline.learning.network import Network, NetworkPredictor
from pipeline.learning.recipe import Training
from pipeline.types import Array

IN_TIME = ("time_warp", "crop", "resample", "frame_drop")
"""What varies the rows of any stage."""


class Varied(Augmentation, Network):
    """A network with the fields of `Augmentation`."""

    views: NonNegativeInt = 0
    """Above 0: a clip is scored by the mean of the probabilities of itself and of so many forms of it, whose time is varied as in
    training, by a seed that is always 0: the same forms of every clip. Validation looks at the clip alone."""

    @model_validator(mode="after")
    def _has_views(self) -> Varied:
        if self.views and not self._in_time:
            raise UserError(f"views={self.views}: nothing varies the time of a clip; set one of {', '.join(IN_TIME)}, or views=0")
        return self

    @property
    def _in_time(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in IN_TIME if getattr(self, name)}

    def scoring(self, module: nn.Module, device: str) -> NetworkPredictor:
        if not self.views:
            return super().scoring(module, device)
        how = Augmentation(**self._in_time)
        return Viewing(module, device, [Variation(how, dict.fromkeys(self.stages), 0, view) for view in range(self.views)])

    def change(self, train: Training, epoch: int) -> Change | None:
        return self.variation(train, epoch)

    def check(self, layouts: Mapping[str, Layout | None]) -> None:
        self.refuse(layouts)

    @property
    def blends(self) -> bool:
        return self.mixup > 0

    def blend(self, batch: Batch, train: Training, epoch: int) -> Blend | None:
        return self.blended(batch, train, epoch)


class Viewing(NetworkPredictor):
    """Scores a clip by the mean of the probabilities of itself and of its views."""

    def __init__(self, module: nn.Module, device: str, views: Sequence[Variation]) -> None:
        super().__init__(module, device)
        self.views = views

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 logarithms of the mean."""
        seen = [batch, *(_viewed(batch, view) for view in self.views)]
        return logarithms(np.mean([softmax(super(Viewing, self).logits(one).astype(np.float64), 1) for one in seen], 0))

    def network(self) -> nn.Module:
        raise UserError(f"views={len(self.views)} scores forms of a clip that no other program makes; train with views=0")


def _viewed(batch: Batch, view: Variation) -> Batch:
    """The same clips, all varied in the same way."""
    found: dict[str, list[Tensor]] = {stage: [] for stage in batch.features}
    for number in range(len(batch)):
        rows = {stage: values[number, : batch.lengths[stage][number]].numpy() for stage, values in batch.features.items()}
        for stage, varied in view("view", rows).items():
            found[stage].append(torch.from_numpy(varied))
    lengths = {stage: torch.tensor([len(rows) for rows in clips]) for stage, clips in found.items()}
    return replace(batch, features={stage: pad_sequence(clips, batch_first=True) for stage, clips in found.items()}, lengths=lengths)


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
