"""Late fusion of RGB and radar by an LSTM, as in the LIS system (matteocacioppo/LIS_Kaggle; 90.30 % there, best epoch 116)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from models._inputs import Inputs, Sequences
from models._recurrent import last_of, unpacked
from pipeline.data.batch import Batch, is_traced
from pipeline.learning.recipe import Between, Choice, Recipe, Space


class LstmLate(Sequences):
    """`(B, T, 2048 | 96)` -> LSTM 512 x 2, dropout 0.3 -> last real step -> dropout 0.3 -> `(B, 126)`: 7,609,470 parameters.

    Defaults are the source's: Adam 1e-4, batches of 64, cross entropy, 150 epochs of which the best on validation is kept. The source's
    figure is that of this epoch on the same validation. Its README packs sequences by their true lengths, as is done here; its
    published script reads all 30 rows, those of black frames too.

    A clip without rows in the first stage is read as one row of zeros.
    """

    space: ClassVar[Space] = {
        "hidden": Choice((128, 256, 512)),
        "layers": Choice((1, 2)),
        "dropout": Between(0.1, 0.6),
        "lr": Between(1e-4, 3e-3, log=True),
        "batch_size": Choice((16, 32, 64)),
    }

    stages: tuple[str, ...] = ("resnet50", "radar_cnn")
    epochs: PositiveInt = 150
    hidden: PositiveInt = 512
    layers: PositiveInt = 2
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return LateLstm(self, dims, n_classes)


class LateLstm(nn.Module):
    """Fused rows of a batch -> `(B, n_classes)` logits from the last real step of each clip.

    Each layer is an LSTM of its own, because cuDNN draws the dropout between its layers from a state that no checkpoint holds.
    """

    def __init__(self, recipe: LstmLate, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(recipe, dims)
        widths = [self.inputs.width, *[recipe.hidden] * (recipe.layers - 1)]
        self.lstm = nn.ModuleList(nn.LSTM(size, recipe.hidden, batch_first=True) for size in widths)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(recipe.hidden, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = self.inputs(batch)
        if is_traced():
            for layer in self.lstm:
                rows = unpacked(layer, rows)
            traced: Tensor = self.head(last_of(rows, lengths))
            return traced
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        for number, layer in enumerate(self.lstm):
            if number:
                packed = PackedSequence(self.dropout(packed.data), packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
            packed, (last, _) = layer(packed)
        logits: Tensor = self.head(self.dropout(last[0]))
        return logits


model: type[Recipe] = LstmLate
