"""What the self-learning fusion trains between its sensor and its video classifier: a generator, and an MLP on what it generates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import PositiveInt, PrivateAttr
from torch import Tensor, nn
from torch.nn.functional import huber_loss, leaky_relu

from models._inputs import Inputs, Sequences
from models._pooling import Pooling
from models._recurrent import BiLstm
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.learning.learner import Fraction, Learner, NonNegative
from pipeline.learning.recipe import Training

FEATURE = 128
"""Values of a sensor feature."""


class Seeing(Sequences):
    """Fields of the networks that look at the video stages."""

    encoder: Literal["linear", "bilstm"] = "linear"
    encoder_hidden: PositiveInt = 128
    encoder_dropout: Fraction = 0.4


class VideoEncoder(nn.Module):
    """A batch -> `(B, 128)`: the mean of the real rows, or a BiLSTM with attention over them, dropout and a linear layer.

    On rows of I3D that is the end of the source's I3D: its average pool, dropout 0.4, 128 values.
    """

    width = FEATURE

    def __init__(self, recipe: Seeing, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.inputs = Inputs(recipe, dims)
        self.dropout = nn.Dropout(recipe.encoder_dropout)
        self.lstm = BiLstm(self.inputs.width, recipe.encoder_hidden) if recipe.encoder == "bilstm" else None
        self.pooling = Pooling("mean" if self.lstm is None else "linear", self.inputs.width if self.lstm is None else self.lstm.width)
        self.project = nn.Linear(self.inputs.width if self.lstm is None else self.lstm.width, self.width)

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = self.inputs(batch)
        if self.lstm is not None:
            rows = self.lstm(self.dropout(rows), lengths)
        found: Tensor = self.project(self.dropout(self.pooling(rows, real(lengths, rows.shape[1]))))
        return found


class Classifier(Seeing):
    """The video alone: the encoder's 128 values to classes, `(B, C)`, with nothing between, as the source has it."""

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return Classified(VideoEncoder(self, dims), n_classes)

    def prepare(self, module: nn.Module, train: Training) -> None:
        super().prepare(module.get_submodule("encoder"), train)


class Classified(nn.Module):
    """A batch -> `(B, n_classes)` logits."""

    def __init__(self, encoder: VideoEncoder, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(FEATURE, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.encoder(batch))
        return logits


class Generating(Learner):
    """What is trained to give what the sensor classifier makes of the sensor rows of the same clip.

    Loss of a clip: `alpha * (Huber + difference of norms) + beta * cross entropy of the sensor classifier's head` on what is generated;
    the first part only where the clip has sensor rows.
    """

    sensor: str
    beta1: Fraction = 0.5
    alpha: NonNegative = 100.0
    beta: NonNegative = 30.0

    _teacher: Any = PrivateAttr(None)

    def taught(self, teacher: nn.Module) -> Self:
        """By this sensor classifier."""
        self._teacher = teacher
        return self

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        optimizer = super().optimise(module)
        for group in optimizer.param_groups:
            group["betas"] = (self.beta1, 0.999)
        return optimizer

    def scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, : -2 * FEATURE]

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        said, seen, felt = self.scores(logits), logits[:, -2 * FEATURE : -FEATURE], logits[:, -FEATURE:]
        apart = huber_loss(seen, felt, reduction="none").mean(1) + (seen.norm(dim=1) - felt.norm(dim=1)).abs()
        paired: Tensor = self.alpha * apart * (batch.lengths[self.sensor] > 0)
        return paired + self.beta * super().losses(said, batch)


class Generator(Generating, Seeing):
    """An encoder of cached rows that generates."""

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return Taught(VideoEncoder(self, dims), self._teacher)

    def prepare(self, module: nn.Module, train: Training) -> None:
        super().prepare(module.get_submodule("encoder"), train)


class Taught(nn.Module):
    """A batch -> `(B, C + 2 * 128)`: the sensor head's logits of the generated feature, that feature, and the sensor's own."""

    def __init__(self, encoder: VideoEncoder, teacher: Any) -> None:
        super().__init__()
        self.encoder, self.teacher = encoder, teacher.requires_grad_(False)

    def train(self, mode: bool = True) -> Taught:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        seen = self.encoder(batch)
        return torch.cat([self.teacher.head(seen), seen, self.teacher.features(batch)], 1)


class Student(Seeing):
    """The MLP on what encoders give, 128 values each -> 1024, BN, LeakyReLU 0.2, dropout 0.4 -> 512 -> classes, as the source has it."""

    hidden: tuple[PositiveInt, PositiveInt] = (1024, 512)
    slope: NonNegative = 0.2
    dropout: Fraction = 0.4

    _encoder: Any = PrivateAttr(None)

    def looking(self, encoder: nn.Module) -> Student:
        """With the weights of what `eyes` makes."""
        self._encoder = encoder
        return self

    def eyes(self, dims: Mapping[str, int]) -> VideoEncoder | SideBySide:
        """What it looks through: the generator's encoder."""
        return VideoEncoder(self, dims)

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return Mlp(self, self.eyes(dims), n_classes)

    def prepare(self, module: nn.Module, train: Training) -> None:
        module.get_submodule("encoder").load_state_dict(self._encoder.state_dict())


class FusingStudent(Student):
    """The same on the classifier's 128 values and the generated 128, 256 in all."""

    watched: tuple[str, ...]
    """Of `stages`, those of the classifier."""
    generated: tuple[str, ...]
    """Those of the generator."""

    def eyes(self, dims: Mapping[str, int]) -> VideoEncoder | SideBySide:
        each = (self.model_copy(update={"stages": stages}) for stages in (self.watched, self.generated))
        return SideBySide([VideoEncoder(recipe, dims) for recipe in each])


class SideBySide(nn.Module):
    """A batch -> `(B, width)`: what several encoders give, one after the other."""

    def __init__(self, encoders: Sequence[nn.Module]) -> None:
        super().__init__()
        self.encoders, self.width = nn.ModuleList(encoders), FEATURE * len(encoders)

    def forward(self, batch: Batch) -> Tensor:
        return torch.cat([encoder(batch) for encoder in self.encoders], 1)


class Mlp(nn.Module):
    """A batch -> `(B, n_classes)` logits; the encoder stays as it is."""

    def __init__(self, recipe: Student, encoder: VideoEncoder | SideBySide, n_classes: int) -> None:
        super().__init__()
        wide, narrow = recipe.hidden
        self.encoder, self.slope = encoder.requires_grad_(False), recipe.slope
        self.first, self.norm = nn.Linear(encoder.width, wide), nn.BatchNorm1d(wide)
        self.dropout = nn.Dropout(recipe.dropout)
        self.last = nn.Sequential(nn.Linear(wide, narrow), nn.Linear(narrow, n_classes))

    def train(self, mode: bool = True) -> Mlp:
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        values = self.first(self.encoder(batch))
        is_alone = self.training and len(values) == 1  # one clip has no statistics of its own
        if is_alone:
            norm = self.norm
            values = nn.functional.batch_norm(values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        else:
            values = self.norm(values)
        logits: Tensor = self.last(self.dropout(leaky_relu(values, self.slope)))
        return logits
