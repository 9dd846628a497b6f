"""A booster over what the models of several folds say of a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from models._members import load_all, save_all
from pipeline import atomic
from pipeline.data.batch import Batch
from pipeline.data.table import Table
from pipeline.errors import UserError
from pipeline.learning import devices
from pipeline.learning.mixing import logarithms, probabilities
from pipeline.learning.recipe import Predictor, Recipe, Training
from pipeline.types import Array

if TYPE_CHECKING:
    from xgboost import Booster, DMatrix

BOOSTER, FOLDS = "booster.json", "folds.json"


class Boosted(Protocol):
    """The fields of a recipe that the booster depends on."""

    @property
    def stages(self) -> tuple[str, ...]: ...
    @property
    def parts(self) -> tuple[Recipe, ...]: ...
    @property
    def pooled(self) -> str: ...
    @property
    def start(self) -> str: ...
    @property
    def rounds(self) -> int: ...
    @property
    def patience(self) -> int: ...
    def model_dump(self, *, include: set[str]) -> dict[str, Any]: ...


TREES = {"eta", "max_depth", "subsample", "colsample_bytree", "reg_lambda", "reg_alpha", "min_child_weight", "gamma"}


class Stacked:
    """Models of every fold, the members of the first fold first, and the booster over them."""

    def __init__(self, recipe: Boosted, dims: Mapping[str, int], n_classes: int, device: str, models: Sequence[Predictor] = ()) -> None:
        self.recipe, self.dims, self.n_classes, self.device = recipe, dims, n_classes, device
        self.models = list(models)
        self.booster: Booster | None = None

    def boost(self, values: Array, train: Training, val: Training) -> None:
        """Grow trees on the `(N, F)` out-of-fold description of the training clips until validation gains no more."""
        import xgboost

        settings = {"objective": "multi:softprob", "num_class": self.n_classes, "tree_method": "hist", "device": self.device}
        fixed = {"seed": train.seed & 0x7FFF_FFFF, "nthread": torch.get_num_threads(), "verbosity": 0}
        grown = devices.once(
            lambda: xgboost.train(
                {**settings, **fixed, **self.recipe.model_dump(include=TREES)},
                self._matrix(values, train.labels),
                self.recipe.rounds,
                evals=[(self._matrix(val.each(self._described), val.labels), "val")],
                early_stopping_rounds=self.recipe.patience or None,
                verbose_eval=False,
            )
        )
        self.booster = grown[: grown.best_iteration + 1] if self.recipe.patience else grown

    @property
    def parameters(self) -> int:
        return sum(model.parameters for model in self.models)

    def _described(self, batch: Batch) -> Array:
        """`(B, F)`: the mean of the folds' probabilities, and pooled rows where asked."""
        shares = probabilities(self.models, batch)
        means = shares.reshape(-1, len(self.recipe.parts), *shares.shape[1:]).mean(0)
        return _joined(means, [pooled(batch, self.recipe.stages)] if self.recipe.pooled == "mean" else [])

    def _matrix(self, values: Array, labels: NDArray[np.int64] | None = None) -> DMatrix:
        """What the booster reads of the `(N, F)` descriptions of clips, with what its trees add to."""
        import xgboost

        matrix = xgboost.DMatrix(values, labels)
        if self.recipe.start == "members":
            shares = values[:, : len(self.recipe.parts) * self.n_classes].reshape(len(values), -1, self.n_classes).mean(1)
            matrix.set_base_margin(np.log(np.maximum(shares, 1e-6)))
        return matrix

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 log probabilities."""
        if self.booster is None:
            raise RuntimeError("a booster predicts after fit or load")
        return logarithms(self.booster.predict(self._matrix(self._described(batch))))

    def save(self, folder: Path) -> None:
        """The models' weights, and the booster as XGBoost's own JSON."""
        if self.booster is None:
            raise RuntimeError("a booster is saved after fit or load")
        save_all(self.models, folder)
        atomic.replace(folder / FOLDS, json.dumps({"folds": len(self.models) // len(self.recipe.parts)}).encode())
        atomic.replace(folder / BOOSTER, bytes(self.booster.save_raw("json")))

    def load(self, folder: Path) -> None:
        import xgboost

        try:
            folds = int(json.loads((folder / FOLDS).read_bytes())["folds"])
            self.booster = xgboost.Booster({"nthread": torch.get_num_threads(), "device": self.device})
            self.booster.load_model(bytearray((folder / BOOSTER).read_bytes()))
        except (OSError, ValueError, KeyError, xgboost.core.XGBoostError) as error:
            raise UserError(f"the booster {folder / BOOSTER} cannot be read ({str(error).splitlines()[0]}); train the run anew") from error
        self.models = [part.predictor(self.dims, self.n_classes, self.device) for _ in range(folds) for part in self.recipe.parts]
        load_all(self.models, folder)


def described(shares: Array, table: Table, recipe: Boosted) -> Array:
    """`(M, N, C)` probabilities of a table's clips -> `(N, F)`, with their pooled rows where asked."""
    if recipe.pooled != "mean":
        return _joined(shares, [])
    return _joined(shares, [table.part(stages=recipe.stages).each(partial(pooled, stages=recipe.stages))])


def _joined(shares: Array, more: Sequence[Array]) -> Array:
    """`(M, B, C)` and arrays `(B, F)` -> `(B, M * C + F)`."""
    joined: Array = np.concatenate([*shares, *more], 1)
    return joined


def pooled(batch: Batch, stages: Sequence[str]) -> Array:
    """`(B, 2 * D)`: mean and deviation over time of each value of the stages; zeros of a clip without rows."""
    found = []
    for stage in stages:
        rows, lengths = batch.features[stage].float().flatten(2), batch.lengths[stage]
        own = (torch.arange(rows.shape[1]) < lengths[:, None])[:, :, None]
        steps = lengths.clamp(min=1)[:, None]
        mean = rows.where(own, 0).sum(1) / steps
        deviation = (((rows - mean[:, None]) ** 2).where(own, 0).sum(1) / steps).sqrt()
        found += [mean, deviation]
    return torch.cat(found, 1).numpy().astype(np.float64)
