"""A booster over what the models of several folds say of a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from models._boosting import Boosted, Trees, pooled
from models._members import Ensemble, load_all, save_all
from pipeline import atomic
from pipeline.data.batch import Batch
from pipeline.data.table import Table
from pipeline.errors import UserError
from pipeline.learning.mixing import Mixture, probabilities
from pipeline.learning.recipe import Predictor, Training
from pipeline.types import Array

if TYPE_CHECKING:
    from xgboost import DMatrix

FOLDS = "folds.json"


class Stacking(Ensemble, Trees):
    """Members, trees over them, and what these read and start from."""

    pooled: Literal["none", "mean"] = "none"
    """`mean`: the mean and deviation over time of every value of the stages as well."""
    start: Literal["even", "members"] = "even"
    """What the trees add to: the same for every class, or the mean of the members' probabilities, which they then only correct."""


class Stacked(Boosted):
    """Models of every fold, the members of the first fold first, and the booster over them."""

    def __init__(self, recipe: Stacking, dims: Mapping[str, int], n_classes: int, device: str, models: Sequence[Predictor] = ()) -> None:
        super().__init__(recipe, n_classes, device)
        self.stacking, self.dims = recipe, dims
        self.models = list(models)

    def boost(self, values: Array, train: Training, val: Training) -> None:
        """Grow trees on the `(N, F)` out-of-fold description of the training clips until validation gains no more."""
        self.grow(lambda: self.matrix(values, train.labels), lambda: self.matrix(val.each(self.described), val.labels), train.seed)

    @property
    def parameters(self) -> int:
        return sum(model.parameters for model in self.models)

    @property
    def plain(self) -> Mixture:
        """The mean of the same models' probabilities, without trees: what these are to beat."""
        return Mixture(self.models, np.full(len(self.models), 1 / len(self.models)))

    def described(self, batch: Batch) -> Array:
        """`(B, F)`: the mean of the folds' probabilities, and pooled rows where asked."""
        shares = probabilities(self.models, batch)
        means = shares.reshape(-1, len(self.stacking.parts), *shares.shape[1:]).mean(0)
        return _joined(means, [pooled(batch, self.stacking.stages)] if self.stacking.pooled == "mean" else [])

    def matrix(self, values: Array, labels: NDArray[np.int64] | None = None) -> DMatrix:
        """With what the trees add to."""
        matrix = super().matrix(values, labels)
        if self.stacking.start == "members":
            shares = values[:, : len(self.stacking.parts) * self.n_classes].reshape(len(values), -1, self.n_classes).mean(1)
            matrix.set_base_margin(np.log(np.maximum(shares, 1e-6)))
        return matrix

    def save(self, folder: Path) -> None:
        """The models' weights and the booster."""
        super().save(folder)
        save_all(self.models, folder)
        atomic.replace(folder / FOLDS, json.dumps({"folds": len(self.models) // len(self.stacking.parts)}).encode())

    def load(self, folder: Path) -> None:
        super().load(folder)
        try:
            folds = int(json.loads((folder / FOLDS).read_bytes())["folds"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the folds {folder / FOLDS} cannot be read ({str(error).splitlines()[0]}); train the run anew") from error
        self.models = [part.predictor(self.dims, self.n_classes, self.device) for _ in range(folds) for part in self.stacking.parts]
        load_all(self.models, folder)


def described(shares: Array, table: Table, recipe: Stacking) -> Array:
    """`(M, N, C)` probabilities of a table's clips -> `(N, F)`, with their pooled rows where asked."""
    if recipe.pooled != "mean":
        return _joined(shares, [])
    return _joined(shares, [table.part(stages=recipe.stages).each(partial(pooled, stages=recipe.stages))])


def _joined(shares: Array, more: Sequence[Array]) -> Array:
    """`(M, B, C)` and arrays `(B, F)` -> `(B, M * C + F)`."""
    joined: Array = np.concatenate([*shares, *more], 1)
    return joined
