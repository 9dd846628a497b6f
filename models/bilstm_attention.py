"""A bidirectional LSTM with attention over time, as in Insignia (exotic123567/Insignia; 92.14 % top-1, macro F1 0.91 there)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._inputs import Inputs, Sequences
from models._pooling import Kind, Pooled, Pooling
from models._recurrent import BiLstm
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.learning.learner import Fraction, NonNegative, Positive
from pipeline.learning.recipe import Between, Choice, Recipe, SourceCheckpoint, Space
from pipeline.learning.schedule import Kind as Schedule


class BilstmAttention(Sequences):
    """`(B, T, 1662)` -> BiLSTM 128 -> attention over real steps -> LayerNorm -> 128, ReLU, dropout 0.4 -> `(B, 24)`: 1,871,769 parameters.

    Defaults are the source's: AdamW 3e-4 with weight decay 2e-4, eight epochs of linear warm-up and then cosine, cross entropy, the
    best where the validation loss falls by more than 1e-4. Its README names neither batch size nor epochs: 32 and 100 here. The BiLSTM
    of the INCLUDE-50 ensemble (RohanPatil2/sign-language-recognition; 95.7 % claimed; 128 units elsewhere in it), 2 x 256 units,
    zoneout 0.1 and a learned query, is `--set hidden=256 layers=2 zoneout=0.1 pooling=query`. Zoneout steps in Python: several times
    slower.
    """

    space: ClassVar[Space] = {
        "hidden": Choice((64, 128, 256)),
        "layers": Choice((1, 2)),
        "dropout": Between(0.2, 0.6),
        "lr": Between(1e-4, 3e-3, log=True),
        "weight_decay": Between(1e-5, 1e-1, log=True),
        "batch_size": Choice((16, 32, 64)),
    }

    checkpoint: ClassVar[SourceCheckpoint | None] = SourceCheckpoint(
        names={"lstm.": "lstm.lstm.0.", "attn.": "pooling.score.", "norm.": "norm.", "head.": "head."},
        stage="holistic",
        fields={
            "frames": 60,
            "include": ("pose", "face", "left_hand", "right_hand"),
            "detection_confidence": 0.5,
            "tracking_confidence": 0.5,
        },
    )

    stages: tuple[str, ...] = ("holistic",)
    optimizer: Literal["adam", "adamw"] = "adamw"
    lr: Positive = 3e-4
    weight_decay: NonNegative = 2e-4
    schedule: Schedule = "cosine"
    warmup: NonNegativeInt = 8
    batch_size: PositiveInt = 32
    best_by: Literal["top1", "loss", "last"] = "loss"
    min_improvement: NonNegative = 1e-4
    hidden: PositiveInt = 128
    """Units of each direction, and of the layer before the classes."""
    layers: PositiveInt = 1
    pooling: Kind = "linear"
    zoneout: Fraction = 0.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4
    """Before the classes."""
    lstm_dropout: Fraction = 0.0
    """Between the layers of the LSTM."""
    input_dropout: Fraction = 0.0

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return AttentionLstm(self, dims, n_classes)


class AttentionLstm(Pooled):
    """Fused rows of a batch -> `(B, n_classes)` logits."""

    def __init__(self, recipe: BilstmAttention, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        hidden = recipe.hidden
        self.inputs = Inputs(recipe, dims)
        self.input_dropout = nn.Dropout(recipe.input_dropout)
        self.lstm = BiLstm(self.inputs.width, hidden, recipe.layers, dropout=recipe.lstm_dropout, zoneout=recipe.zoneout)
        self.pooling = Pooling(recipe.pooling, 2 * hidden)
        self.norm = nn.LayerNorm(2 * hidden)
        self.head = nn.Sequential(nn.Linear(2 * hidden, hidden), nn.ReLU(), nn.Dropout(recipe.dropout), nn.Linear(hidden, n_classes))

    def encoded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`(B, T, 2 * hidden)` states, and which of them are a clip's own."""
        rows, lengths = self.inputs(batch)
        return self.lstm(self.input_dropout(rows), lengths), real(lengths, rows.shape[1])

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.norm(self.pooling(*self.encoded(batch))))
        return logits


model: type[Recipe] = BilstmAttention
