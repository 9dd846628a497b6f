"""Self-attention beside a BiLSTM, the `FeatureFuser` that the INCLUDE-50 ensemble names (RohanPatil2/sign-language-recognition)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, cat, nn

from models._encoder import attended
from models._inputs import Inputs, Sequences
from models._pooling import Kind, Pooled, Pooling
from models._recurrent import BiLstm
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.learner import Fraction, NonNegative
from pipeline.learning.recipe import Between, Choice, Recipe, Space


class FeatureFuser(Sequences):
    """`(B, 64, D)` -> Linear 512 -> self-attention of 8 heads -> BiLSTM 256 on what it gives; both side by side, `(B, T, 1024)` -> logits.

    The source describes these two parts and that their outputs are concatenated; there is no code of them and no figure for
    them alone: it is a part of what is claimed at 98.7 % on INCLUDE-50.
    Not stated, so chosen here: the projection of the features to 512, no positions because the BiLSTM tells order, mean pooling over
    real steps, dropout 0.2 before the classes. Several stages are fused on normalised time: `--set stages=a,b`.
    64 frames, rate 1e-4, batches of 64, accumulation 4, 100 epochs and a stop after 15 without improvement are those of its transformer.
    """

    space: ClassVar[Space] = {
        "width": Choice((256, 512)),
        "hidden": Choice((128, 256)),
        "dropout": Between(0.1, 0.5),
        "lr": Between(1e-5, 1e-3, log=True),
        "batch_size": Choice((32, 64, 128)),
    }

    stages: tuple[str, ...] = ("kinematics",)
    frames: NonNegativeInt = 64
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegative = 0.01
    accumulate: PositiveInt = 4
    patience: NonNegativeInt = 15
    width: PositiveInt = 512
    heads: PositiveInt = 8
    hidden: PositiveInt = 256
    """Units of each direction of the BiLSTM."""
    dropout: Fraction = 0.2
    pooling: Kind = "mean"

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if self.width % self.heads:
            raise UserError(f"model 'feature_fuser': width={self.width} is to be a multiple of heads={self.heads}")
        return Fuser(self, dims, n_classes)


class Fuser(Pooled):
    """Fused rows of a batch -> `(B, n_classes)` logits."""

    def __init__(self, recipe: FeatureFuser, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(recipe, dims)
        self.project = nn.Linear(self.inputs.width, recipe.width)
        self.attend = nn.MultiheadAttention(recipe.width, recipe.heads, dropout=recipe.dropout, batch_first=True)
        self.lstm = BiLstm(recipe.width, recipe.hidden)
        width = recipe.width + self.lstm.width
        self.pooling = Pooling(recipe.pooling, width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Dropout(recipe.dropout), nn.Linear(width, n_classes))

    def encoded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`(B, T, width + 2 * hidden)` rows, and which of them are a clip's own; rows beyond a clip's end mean nothing."""
        rows, lengths = self.inputs(batch)
        rows = self.project(rows)
        own = real(lengths, rows.shape[1])
        rows = attended(self.attend, rows, own)
        return cat([rows, self.lstm(rows, lengths)], 2), own

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.pooling(*self.encoded(batch)))
        return logits


model: type[Recipe] = FeatureFuser
