"""InceptionTime on sensor rows, as in ngoctuhan/Sign-Language-Recognition-with-Self-learning-Fusion-Models (no figure of its own there)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from models._inception import Inception, Shape
from models._inputs import Inputs, Sequences
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.learning.learner import Fraction, Positive
from pipeline.learning.recipe import Between, Choice, Recipe, Space


class InceptionTime(Sequences):
    """`(B, T, 6)` -> 180 steps -> 6 Inception modules -> mean over the steps, `(B, 128)` -> `(B, 27)`: 435,675 parameters for UTD-MHAD.

    Defaults are the source's: Adam 1e-3, batches of 8, 100 epochs, 180 steps (300 for Berkeley MHAD: `--set steps=300`). The epoch that
    is best on validation is kept; the source keeps the one that is best on the test side. A shorter clip is followed by zeros, a longer
    one keeps the rows `i * T // steps`. Those zeros are the source's input: its batch norms and its mean count them, and so do ours
    (`average=real` leaves them out of the mean). Padding of a batch is cut off before. The source gives no figure of this net
    alone, which teaches there and does not score (91.9 % on UTD-MHAD are of the whole).
    """

    space: ClassVar[Space] = {
        "modules": Choice((3, 6)),
        "kernel": Choice((20, 40)),
        "dropout": Between(0.0, 0.5),
        "lr": Between(1e-4, 3e-3, log=True),
        "batch_size": Choice((8, 16, 32)),
    }

    stages: tuple[str, ...] = ("inertial",)
    lr: Positive = 1e-3
    batch_size: PositiveInt = 8
    steps: PositiveInt = 180
    modules: PositiveInt = 6
    filters: PositiveInt = 32
    bottleneck: PositiveInt = 32
    kernel: PositiveInt = 40
    residual_every: PositiveInt = 3
    bn_momentum: Annotated[float, Field(gt=0, le=1)] = 0.01
    average: Literal["all", "real"] = "all"
    dropout: Fraction = 0.0
    """Before the classes; the source has none."""

    @property
    def shape(self) -> Shape:
        return Shape(self.modules, self.filters, self.bottleneck, self.kernel, self.residual_every, self.bn_momentum)

    @property
    def alike_from(self) -> int | None:
        return 0  # every clip is brought to `steps`

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return SensorNet(self, dims, n_classes)


class SensorNet(nn.Module):
    """Fused rows of a batch -> `(B, n_classes)` logits."""

    def __init__(self, recipe: InceptionTime, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(recipe, dims)
        self.steps, self.average = recipe.steps, recipe.average
        self.inception = Inception(self.inputs.width, recipe.shape)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(self.inception.width, n_classes)
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, batch: Batch) -> Tensor:
        """`(B, 128)`: what the sensor says of each clip."""
        rows, lengths = self.inputs(batch)
        rows, lengths = fixed(rows, lengths, self.steps)
        found: Tensor = self.inception(rows.transpose(1, 2))
        if self.average == "all":
            return found.mean(2)
        return (found * real(lengths, self.steps)[:, None]).sum(2) / lengths[:, None]

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.features(batch)))
        return logits


def fixed(rows: Tensor, lengths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """`(B, T, D)` -> `(B, steps, D)` and lengths: a shorter clip followed by zeros, of a longer one the rows `i * length // steps`."""
    step = torch.arange(steps, device=rows.device)
    places = torch.where(lengths[:, None] > steps, step * lengths[:, None] // steps, step)
    lengths = lengths.clamp(max=steps)
    own = real(lengths, steps)
    clips = torch.arange(rows.shape[0], device=rows.device)[:, None]
    return rows[clips, torch.where(own, places, 0)].where(own[:, :, None], 0), lengths


model: type[Recipe] = InceptionTime
