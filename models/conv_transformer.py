"""Causal convolutions with transformer blocks between, as the first place at kaggle.com/competitions/asl-signs is described publicly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._convolution import ConvolutionBlock
from models._encoder import encoder_layers, through
from models._inputs import Inputs, Sequences
from models._masked_norm import OwnNorm
from models._pooling import Pooling
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.learner import Fraction, NonNegative, Positive
from pipeline.learning.recipe import Between, Choice, Recipe, Space
from pipeline.learning.schedule import Kind as Schedule

CONVOLUTIONS = 3
"""Blocks of convolution before each transformer block."""


class ConvTransformer(Sequences):
    """`(B, T, D)` -> 192 -> 2 x (3 convolution blocks, 1 transformer block) -> 384, mean of real steps, dropout 0.8 -> `(B, C)` logits.

    As described: kernel 17, batch norm, efficient channel attention (of the clip's mean, so that only the convolution is causal),
    stochastic depth 0.2, rows with differences of one and two steps, label smoothing 0.1, a cosine over 300 epochs, dropout and
    adversarial weight perturbation 0.2 from epoch 15. Not described, so chosen: 4 heads, a feed-forward layer of twice the width,
    batches of 64, the rate; its % of 250 signs is of clips that were never published. Other than there: AdamW for RAdam with lookahead,
    layer norm and GELU in the transformer blocks, no flips.
    Parameters go by the square of the width: 1.6 million at 192, 0.4 to 0.6 million at 96.
    """

    space: ClassVar[Space] = {
        "width": Choice((64, 96, 128)),
        "dropout": Between(0.2, 0.8),
        "drop_path": Between(0.0, 0.3),
        "lr": Between(1e-4, 3e-3, log=True),
        "batch_size": Choice((16, 32, 64)),
    }

    stages: tuple[str, ...] = ("holistic",)
    motion: NonNegative = 1.0
    motion_two: NonNegative = 1.0
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegative = 0.01
    lr: Positive = 1e-3
    schedule: Schedule = "cosine"
    epochs: PositiveInt = 300
    label_smoothing: Fraction = 0.1
    dropout_from: NonNegativeInt = 15
    awp: NonNegative = 0.2
    awp_from: NonNegativeInt = 15
    width: PositiveInt = 192
    layers: PositiveInt = 2
    """Transformer blocks, each after three of convolution."""
    heads: PositiveInt = 4
    kernel: PositiveInt = 17
    drop_path: Fraction = 0.2
    """Probability with which a block adds nothing to a clip, while training."""
    dropout: Fraction = 0.8
    """Before the classes."""

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if self.width % self.heads:
            raise UserError(f"model 'conv_transformer': width={self.width} is to be a multiple of heads={self.heads}")
        return ConvolvedTransformer(self, dims, n_classes)


class ConvolvedTransformer(nn.Module):
    """Fused rows of a batch -> `(B, n_classes)` logits."""

    def __init__(self, recipe: ConvTransformer, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        width, self.drop_path = recipe.width, recipe.drop_path
        self.inputs = Inputs(recipe, dims)
        self.project, self.norm = nn.Linear(self.inputs.width, width, bias=False), OwnNorm(width)
        self.convolutions = nn.ModuleList(
            ConvolutionBlock(width, recipe.kernel, recipe.drop_path) for _ in range(CONVOLUTIONS * recipe.layers)
        )
        self.layers = encoder_layers(recipe.layers, width, recipe.heads, 2 * width, recipe.drop_path)
        self.top, self.pooling, self.dropout = nn.Linear(width, 2 * width), Pooling("mean", 2 * width), nn.Dropout(recipe.dropout)
        self.head = nn.Linear(2 * width, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = self.inputs(batch)
        own = real(lengths, rows.shape[1])
        rows = self.norm(self.project(rows), own)
        for number, convolution in enumerate(self.convolutions, 1):
            rows = convolution(rows, own)
            if number % CONVOLUTIONS == 0:
                place = number // CONVOLUTIONS
                rows = through(self.layers[place - 1 : place], rows, own, drop_path=self.drop_path)
        logits: Tensor = self.head(self.dropout(self.pooling(self.top(rows), own)))
        return logits


model: type[Recipe] = ConvTransformer
