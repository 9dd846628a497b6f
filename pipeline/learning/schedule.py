"""The learning rate of each epoch, computed from the figures of those before it: a resumed training needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

from pipeline.learning.epochs import Epoch

Kind = Literal["constant", "cosine", "plateau"]


class Rated(Protocol):
    """The fields of a recipe that its rate depends on."""

    @property
    def lr(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def schedule(self) -> Kind: ...
    @property
    def warmup(self) -> int: ...
    @property
    def plateau_factor(self) -> float: ...
    @property
    def plateau_patience(self) -> int: ...


def rate(recipe: Rated, figures: Sequence[Epoch]) -> float:
    """The rate of the epoch that follows `figures`: a linear rise over the warm-up epochs, then the schedule.

    Cosine falls from `lr` after the warm-up towards 0, which it would reach one epoch after the last.
    """
    epoch = len(figures)
    if epoch < recipe.warmup:
        return recipe.lr * (epoch + 1) / recipe.warmup
    if recipe.schedule == "cosine":
        done = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1)
        return recipe.lr * (1 + math.cos(math.pi * done)) / 2
    if recipe.schedule == "plateau":
        return recipe.lr * recipe.plateau_factor ** drops(figures, recipe.plateau_patience)
    return recipe.lr


def drops(figures: Sequence[Epoch], patience: int) -> int:
    """How often more than `patience` epochs in a row brought no better weights (torch's ReduceLROnPlateau counts so)."""
    count = waited = 0
    for row in figures:
        waited = 0 if row.best else waited + 1
        if waited > patience:
            count, waited = count + 1, 0
    return count
