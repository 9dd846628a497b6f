"""Gradient-boosted trees by XGBoost over numbers that describe a clip: a part of `xgb` and `xgb_meta`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._rows import real
from pipeline import atomic
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning import devices
from pipeline.learning.learner import NonNegative
from pipeline.learning.mixing import logarithms
from pipeline.learning.recipe import Between, Choice, Recipe, Space
from pipeline.types import Array

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix

BOOSTER = "booster.json"
Share = Annotated[float, Field(gt=0, le=1)]
Statistic: TypeAlias = Literal["mean", "deviation", "minimum", "maximum"]
TREES = frozenset({"eta", "max_depth", "subsample", "colsample_bytree", "reg_lambda", "reg_alpha", "min_child_weight", "gamma"})
SPACE: Space = {
    "eta": Between(5e-3, 0.3, log=True),
    "max_depth": Choice((2, 4, 6, 7, 8)),
    "subsample": Between(0.5, 1.0),
    "colsample_bytree": Between(0.3, 1.0),
    "reg_lambda": Between(0.05, 10.0, log=True),
    "reg_alpha": Between(1e-3, 5.0, log=True),
    "min_child_weight": Between(0.05, 5.0, log=True),
}


class Trees(Recipe):
    """A recipe with the settings of trees; these are what RohanPatil2/sign-language-recognition states."""

    eta: Share = 0.01
    max_depth: PositiveInt = 7
    subsample: Share = 0.8
    colsample_bytree: Share = 0.9
    reg_lambda: NonNegative = 0.5
    reg_alpha: NonNegative = 0.2
    min_child_weight: NonNegative = 1.0
    gamma: NonNegative = 0.0
    rounds: PositiveInt = 500
    patience: NonNegativeInt = 30
    """Rounds without a lower loss on validation after which trees stop; 0 grows them all and keeps every one."""


class Boosted:
    """Trees that are grown, and what they say of a batch."""

    def __init__(self, recipe: Trees, n_classes: int, device: str) -> None:
        self.recipe, self.n_classes, self.device = recipe, n_classes, device
        self.booster: Booster | None = None

    @abstractmethod
    def described(self, batch: Batch) -> Array:
        """`(B, F)`: the numbers that the trees read."""

    def matrix(self, values: Array, labels: NDArray[np.int64] | None = None) -> DMatrix:
        """What the booster reads of the `(N, F)` descriptions of clips."""
        import xgboost

        return xgboost.DMatrix(values, labels)

    def network(self) -> nn.Module:
        """There is none; raises UserError."""
        raise UserError("trees of XGBoost have the last word, which are no network; to take it elsewhere: signcache package RUN OUT")

    def grow(self, train: Callable[[], DMatrix], val: Callable[[], DMatrix], seed: int) -> None:
        """Grow trees on what one gives until what the other gives, asked only where that ends them, gains no more."""
        import xgboost

        settings = {"objective": "multi:softprob", "num_class": self.n_classes, "tree_method": "hist", "device": self.device}
        fixed = {"seed": seed & 0x7FFF_FFFF, "nthread": torch.get_num_threads(), "verbosity": 0}
        patience = self.recipe.patience
        grown = devices.once(
            lambda: xgboost.train(
                {**settings, **fixed, **self.recipe.model_dump(include=set(TREES))},
                train(),
                self.recipe.rounds,
                evals=[(val(), "val")] if patience else [],
                early_stopping_rounds=patience or None,
                verbose_eval=False,
            )
        )
        self.booster = grown[: grown.best_iteration + 1] if patience else grown

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 log probabilities."""
        if self.booster is None:
            raise RuntimeError("a booster predicts after fit or load")
        return logarithms(self.booster.predict(self.matrix(self.described(batch))))

    @property
    def parameters(self) -> int:
        return 0

    def save(self, folder: Path) -> None:
        """The booster as XGBoost's own JSON."""
        if self.booster is None:
            raise RuntimeError("a booster is saved after fit or load")
        atomic.replace(folder / BOOSTER, bytes(self.booster.save_raw("json")))

    def load(self, folder: Path) -> None:
        import xgboost

        try:
            self.booster = xgboost.Booster({"nthread": torch.get_num_threads(), "device": self.device})
            self.booster.load_model(bytearray((folder / BOOSTER).read_bytes()))
        except (OSError, ValueError, xgboost.core.XGBoostError) as error:
            raise UserError(f"the booster {folder / BOOSTER} cannot be read ({str(error).splitlines()[0]}); train the run anew") from error


def pooled(batch: Batch, stages: Sequence[str], statistics: Sequence[Statistic] = ("mean", "deviation"), segments: int = 1) -> Array:
    """`(B, segments * statistics * D)`: each statistic over time of each value of the stages; zeros where there are no rows.

    With several segments over the rows from `length * i // segments` on, one after the other, so that the order in time counts.
    """
    found: list[Tensor] = []
    for stage in stages:
        rows, lengths = batch.features[stage].float().flatten(2), batch.lengths[stage]
        steps = torch.arange(rows.shape[1])
        for i in range(segments):
            start, stop = (lengths * place // segments for place in (i, i + 1))
            own = real(stop, rows.shape[1]) & (steps >= start[:, None])
            found += [MAKERS[name](rows, own[:, :, None], (stop - start)[:, None]) for name in statistics]
    return torch.cat(found, 1).numpy().astype(np.float64)


def _mean(rows: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    return rows.where(own, 0).sum(1) / counts.clamp(min=1)


def _deviation(rows: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    mean = _mean(rows, own, counts)
    return (((rows - mean[:, None]) ** 2).where(own, 0).sum(1) / counts.clamp(min=1)).sqrt()


def _maximum(rows: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    padded = torch.cat([rows.where(own, -torch.inf), rows.new_full((len(rows), 1, rows.shape[2]), -torch.inf)], 1)
    return padded.amax(1).where(counts > 0, 0)


def _minimum(rows: Tensor, own: Tensor, counts: Tensor) -> Tensor:
    return -_maximum(-rows, own, counts)


MAKERS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mean": _mean,
    "deviation": _deviation,
    "minimum": _minimum,
    "maximum": _maximum,
}
