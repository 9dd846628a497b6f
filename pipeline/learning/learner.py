"""What the training of any torch module goes by."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.data.table import Change
from pipeline.errors import UserError
from pipeline.learning import losses
from pipeline.learning.augment import Blend
from pipeline.learning.recipe import Recipe, Training
from pipeline.learning.schedule import Kind

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Learner(Recipe):
    """A recipe whose `build` gives a torch module: the fields that all of these share, and what each may say of its training."""

    optimizer: Literal["adam", "adamw"] = "adam"
    lr: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    schedule: Kind = "constant"
    """How `lr` goes on after the warm-up: level, along half a cosine to the last epoch, or down where validation stagnates."""
    warmup: NonNegativeInt = 0
    """Epochs over which the rate rises in equal steps to `lr`."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_patience: NonNegativeInt = 10
    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    """Batches whose gradients make one step, that of the mean loss of all their clips."""
    epochs: PositiveInt = 100
    patience: NonNegativeInt = 0
    """Epochs without improvement on validation after which training stops; 0 trains them all and keeps the best."""
    best_by: Literal["top1", "loss", "last"] = "top1"
    """What tells the best weights, on validation; `last` keeps those of the last epoch, whatever validation says."""
    min_improvement: NonNegative = 0.0
    """By how much more than this `best_by` must improve to count; at 0, the lower loss decides between equal accuracies."""
    clip_norm: NonNegative = 0.0
    label_smoothing: Fraction = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    """`balanced`: every class of the training clips counts the same, however many clips it has."""
    focal_gamma: NonNegative = 0.0
    """Above 0: focal loss, which counts a clip the less the surer the model is of its label."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the operations that gain by it, while training; weights stay float32. float16 needs CUDA."""

    ema: Fraction = 0.0
    """Above 0: what validates and is kept is the running average of the weights, which each step moves by `1 - ema` towards the new."""
    swa_from: NonNegativeInt = 0
    """Above 0: from this epoch on, the mean of the weights at the ends of epochs validates and is kept. For either average the
    statistics of batch norm are taken again, over the training clips as they are varied."""
    awp: NonNegative = 0.0
    """Above 0: each step goes by the gradient at weights that lie so far up the gradient, each tensor by itself; takes twice the time."""
    awp_from: NonNegativeInt = 0
    """The first epoch that does."""
    dropout_from: NonNegativeInt = 0
    """The first epoch with dropout, that in attention too."""

    learn: Literal["train", "all"] = "train"
    """`all`: the validation clips train too, once nothing is selected on them any more."""

    takes_maps: ClassVar[bool] = False
    """Whether rows may have more than one dimension."""

    @model_validator(mode="after")
    def _selects_honestly(self) -> Learner:
        if self.best_by == "last" and (self.patience or self.schedule == "plateau"):
            raise UserError(
                "best_by=last never looks at validation, which patience and schedule=plateau go by; set patience=0 schedule=cosine"
            )
        if self.learn == "all" and self.best_by != "last":
            raise UserError(f"learn=all leaves no clips to select weights on, as best_by={self.best_by} does; set best_by=last")
        return self

    @model_validator(mode="after")
    def _averages_once(self) -> Learner:
        if self.ema and self.swa_from:
            raise UserError(f"ema={self.ema} and swa_from={self.swa_from} are two averages of the weights; set one of them to 0")
        if self.swa_from > self.epochs:
            raise UserError(f"swa_from={self.swa_from} comes after the last of epochs={self.epochs}; set swa_from={self.epochs * 3 // 4}")
        return self

    @property
    def blends(self) -> bool:
        """Whether `blend` mixes clips, so that each of several processes reads every batch whole."""
        return False

    @property
    def alike_from(self) -> int | None:
        """Rows from which on all clips are read as equally long, so that batches need not be of like ones; None: each has its own."""
        return None

    @abstractmethod
    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        """A module that maps a Batch to `(B, n_classes)` logits."""

    def prepare(self, module: nn.Module, train: Training) -> None:
        """Take what the module needs to know of the training clips, before the first step."""

    def begin(self, module: nn.Module, epoch: int) -> None:
        """Say what of the module trains in an epoch, where not all of it does."""

    def settle(self, module: nn.Module, train: Training, device: torch.device) -> None:
        """Take what the module, now in evaluation, needs to know of the training clips as it is after an epoch."""

    def keep_within(self, module: nn.Module, most: int) -> None:
        """Keep at most so many bytes for a backward pass, where the module can tell."""

    def eases(self, module: nn.Module) -> bool:
        """Whether the module can do the same in less memory, and does from now on."""
        return False

    def change(self, train: Training, epoch: int) -> Change | None:
        """What varies the training clips of an epoch, where anything does."""
        return None

    def blend(self, batch: Batch, train: Training, epoch: int) -> Blend | None:
        """The clips of a training batch mixed with one another, where they are."""
        return None

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """`(B,)`: the loss of each clip."""
        return losses.each(logits, batch.labels, smoothing=self.label_smoothing, gamma=self.focal_gamma)

    def scores(self, outputs: Tensor) -> Tensor:
        """`(B, n_classes)` logits among what the module gives, where that is more."""
        return outputs

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a module's parameters."""
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)
