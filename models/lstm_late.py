"""Late fusion of RGB and radar by an LSTM, as in the LIS system (matteocacioppo/LIS_Kaggle; 90.30 % there, best epoch 116)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from pipeline.data import Batch, Table, fused
from pipeline.training import Network
from pipeline.types import Recipe


class LstmLate(Network):
    """[2048 | 96] -> LSTM 512 x 2, dropout 0.3 -> last real step -> dropout 0.3 -> classes: 7,609,470 parameters for 126.

    Defaults are the source's: Adam 1e-4, batches of 64, cross entropy, 150 epochs of which the best on validation is kept.
    A clip without rows in the first stage is read as one row of zeros.
    """

    stages: tuple[str, ...] = ("resnet50", "radar_cnn")
    epochs: PositiveInt = 150
    hidden: PositiveInt = 512
    layers: PositiveInt = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    normalize: Literal["none", "train", "clip"] = "none"
    """Each value less its mean, by its deviation, over the training rows or over the clip's own; the source does neither."""

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return LateLstm(self, sum(dims[stage] for stage in self.stages), n_classes)

    def prepare(self, module: nn.Module, train: Table) -> None:
        if self.normalize == "train":
            moments = [train.moments(stage) for stage in self.stages]
            module.get_buffer("mean").copy_(torch.cat([torch.from_numpy(mean) for mean, _ in moments]))
            module.get_buffer("deviation").copy_(torch.cat([torch.from_numpy(deviation) for _, deviation in moments]))


class LateLstm(nn.Module):
    """Fused rows of a batch -> `(B, n_classes)` logits from the last real step of each clip.

    Each layer is an LSTM of its own, because cuDNN draws the dropout between its layers from a state that no checkpoint holds.
    """

    def __init__(self, recipe: LstmLate, width: int, n_classes: int) -> None:
        super().__init__()
        self.stages: Sequence[str] = recipe.stages
        self.normalize = recipe.normalize
        widths = [width, *[recipe.hidden] * (recipe.layers - 1)]
        self.lstm = nn.ModuleList(nn.LSTM(size, recipe.hidden, batch_first=True) for size in widths)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(recipe.hidden, n_classes)
        if self.normalize == "train":
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("deviation", torch.ones(width))

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = fused(batch, self.stages)
        if not rows.shape[1]:
            rows = rows.new_zeros(len(rows), 1, rows.shape[2])
        if self.normalize == "clip":
            rows = within_clips(rows, lengths)
        elif self.normalize == "train":
            rows = (rows - self.get_buffer("mean")) / self.get_buffer("deviation")
        packed = pack_padded_sequence(rows, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False)
        for number, layer in enumerate(self.lstm):
            if number:
                packed = PackedSequence(self.dropout(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
            packed, (last, _) = layer(packed)
        logits: Tensor = self.head(self.dropout(last[0]))
        return logits


def within_clips(rows: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` rows, each value less its clip's mean and by its deviation in the clip: what moves counts, not what is worn.

    Values that hardly move are kept small: a thousandth of the clip's mean deviation is added to each. Padding is zero.
    """
    real = (torch.arange(rows.shape[1], device=rows.device) < lengths[:, None])[:, :, None]
    steps = lengths.clamp(min=1)[:, None, None]
    centred = (rows - torch.where(real, rows, 0).sum(1, keepdim=True) / steps).where(real, 0)
    deviation = ((centred**2).sum(1, keepdim=True) / steps).sqrt()
    return centred / (deviation + 1e-3 * deviation.mean(2, keepdim=True) + 1e-6)


model: type[Recipe] = LstmLate
