"""Fusion of modalities by attention, with modality dropout: what the LIS system (matteocacioppo/LIS_Kaggle) names as future work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._encoder import encoder_layers, places, through
from models._inputs import Inputs, Sequences
from models._pooling import Kind, Pooling
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.data.table import Change
from pipeline.errors import UserError
from pipeline.learning.augment import generator_of
from pipeline.learning.learner import Fraction, NonNegative
from pipeline.learning.recipe import Between, Choice, Recipe, Space, Training
from pipeline.learning.schedule import Kind as Schedule
from pipeline.types import Array

MOMENTS = 64
"""Into which normalised time is told apart, whatever a stage's number of rows."""


class AttentionFusion(Sequences):
    """Rows of every stage, each on its own time axis -> one sequence of tokens -> encoder -> attention pooling -> `(B, C)` logits.

    Each row becomes a token, Linear + LayerNorm to `width`, plus sines and cosines of its normalised time and a learned vector of
    its stage; 2 encoder layers of 4 heads attend over the tokens of all stages at once, and a learned query pools them. So stages
    may have any number of rows, and none: such a clip has no tokens of that stage, which is neither zeros nor an average.

    The source only names attention-based fusion (its own is `lstm_late`) and publishes nothing of it, so all of this is chosen
    here: attention over the tokens of all modalities from the first layer on is the plain fusion of Nagrani et al. (Attention
    Bottlenecks for Multimodal Fusion, NeurIPS 2021), dropping whole modalities of training clips is ModDrop (Neverova et al.,
    TPAMI 2016), of a gesture recogniser that stands a missing sensor. There is no published figure to compare with (90.30 % is that
    of `lstm_late`). For 126 classes of `[2048 | 96]`: 557,054 parameters.
    """

    does_without: ClassVar[bool] = True
    space: ClassVar[Space] = {
        "layers": Choice((1, 2, 4)),
        "width": Choice((64, 128, 256)),
        "modality_dropout": Between(0.0, 0.5),
        "dropout": Between(0.1, 0.5),
        "lr": Between(1e-4, 3e-3, log=True),
        "batch_size": Choice((16, 32, 64)),
    }

    stages: tuple[str, ...] = ("resnet50", "radar_cnn")
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: float = 5e-4
    weight_decay: NonNegative = 0.01
    schedule: Schedule = "cosine"
    warmup: NonNegativeInt = 5
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 80
    layers: PositiveInt = 2
    width: PositiveInt = 128
    heads: PositiveInt = 4
    feed_forward: PositiveInt = 256
    dropout: Fraction = 0.3
    pooling: Kind = "query"
    modality_dropout: Fraction = 0.2
    """Probability with which a training clip is without a stage in an epoch, drawn from (seed, epoch, clip); one always stays."""

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if self.width % self.heads or self.width % 2:
            raise UserError(f"model 'attention_fusion': width={self.width} is to be even and a multiple of heads={self.heads}")
        return Fusion(self, dims, n_classes)

    def prepare(self, module: nn.Module, train: Training) -> None:
        for number, stage in enumerate(self.stages):
            super(AttentionFusion, self.alone(stage)).prepare(module.get_submodule(f"streams.{number}"), train)

    def alone(self, stage: str) -> AttentionFusion:
        """The settings of what reads one stage."""
        return self.model_copy(update={"stages": (stage,)})

    def change(self, train: Training, epoch: int) -> Change | None:
        varied = super().change(train, epoch)
        return ModalityDropout(self.modality_dropout, train.seed, epoch, varied) if self.modality_dropout else varied


@dataclass(frozen=True)
class ModalityDropout:
    """Takes all rows of some stages from a clip, `{stage: (T, *row_shape)}`, after it was varied; of those with rows one stays."""

    share: float
    seed: int
    epoch: int
    varied: Change | None

    def __call__(self, clip: str, rows: Mapping[str, Array]) -> Mapping[str, Array]:
        rows = self.varied(clip, rows) if self.varied else rows
        drawn = dict(zip(rows, generator_of(self.seed, self.epoch, f"modalities {clip}").random(len(rows)), strict=True))
        kept = max((stage for stage in rows if len(rows[stage])), key=drawn.__getitem__, default="")
        return {stage: values if drawn[stage] >= self.share or stage == kept else values[:0] for stage, values in rows.items()}


class Stream(nn.Module):
    """A batch -> `(B, T, width)` tokens of one stage, which of them are a clip's own `(B, T)`, and their times `(B, T)`, 0 to 1."""

    def __init__(self, recipe: AttentionFusion, dims: Mapping[str, int]) -> None:
        super().__init__()
        (self.stage,) = recipe.stages
        self.inputs = Inputs(recipe, dims)
        self.project = nn.Sequential(nn.Linear(self.inputs.width, recipe.width), nn.LayerNorm(recipe.width))
        self.kind = nn.Parameter(0.02 * torch.randn(recipe.width))

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        rows, lengths = self.inputs(batch)
        times = (torch.arange(rows.shape[1], device=rows.device) + 0.5) / lengths[:, None]
        tokens = self.project(rows) + self.kind + places(MOMENTS * times, self.kind.shape[0]).to(rows.dtype)
        return tokens, real(lengths, rows.shape[1]) & (batch.lengths[self.stage] > 0)[:, None], times


class Fusion(nn.Module):
    """Rows of every stage of a batch -> `(B, n_classes)` logits. A clip without any rows is read as one row of zeros in the first."""

    def __init__(self, recipe: AttentionFusion, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.stages = recipe.stages
        self.streams = nn.ModuleList(Stream(recipe.alone(stage), dims) for stage in recipe.stages)
        self.dropout = nn.Dropout(recipe.dropout)
        self.layers = encoder_layers(recipe.layers, recipe.width, recipe.heads, recipe.feed_forward, recipe.dropout)
        self.norm = nn.LayerNorm(recipe.width)
        self.pooling = Pooling(recipe.pooling, recipe.width)
        self.head = nn.Linear(recipe.width, n_classes)

    def encoded(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, T, width)` tokens of all stages, one after the other, which are a clip's own, and their times."""
        tokens, own, times = (torch.cat(parts, 1) for parts in zip(*(stream(batch) for stream in self.streams), strict=True))
        is_first = torch.arange(own.shape[1], device=own.device) == 0
        own = own | (is_first & ~own.any(1, keepdim=True))
        return self.norm(through(self.layers, self.dropout(tokens), own)), own, times

    def attention(self, batch: Batch) -> Tensor:
        """`(B, T)`: how much each moment of a clip counts, over all stages, in as many moments as its longest stage has rows."""
        tokens, own, times = self.encoded(batch)
        shares = self.pooling.attention(tokens, own)
        moments = torch.stack([batch.lengths[stage] for stage in self.stages]).amax(0).clamp(min=1)
        at = (times * moments[:, None]).long().clamp(max=int(moments.max()) - 1)
        return shares.new_zeros(len(shares), int(moments.max())).scatter_add(1, at, shares.masked_fill(~own, 0))

    def forward(self, batch: Batch) -> Tensor:
        tokens, own, _ = self.encoded(batch)
        logits: Tensor = self.head(self.dropout(self.pooling(tokens, own)))
        return logits


model: type[Recipe] = AttentionFusion
