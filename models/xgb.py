"""XGBoost alone on features pooled over time, as in the INCLUDE-50 ensemble (RohanPatil2/sign-language-recognition; 93.4 % claimed)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import NonNegativeInt, PositiveInt, model_validator

from models._boosting import SPACE, Boosted, Statistic, Trees, pooled
from pipeline.data.batch import Batch
from pipeline.data.table import Table
from pipeline.errors import UserError
from pipeline.learning.recipe import Choice, Predictor, Recipe, Space, Training
from pipeline.types import Array

if TYPE_CHECKING:
    from xgboost import DMatrix


class Xgb(Trees):
    """`(B, T, D)` -> statistics of each value over `segments` of a clip, `(B, segments * statistics * D)` -> XGBoost -> `(B, C)` logs.

    The source states 200 estimators, eta 0.01, depth 7 to 8, subsample 0.75 to 0.8, colsample 0.9, lambda 0.5, alpha 0.2 and claims
    93.4 % on INCLUDE-50 for XGBoost alone; no code of it is published, so the figure is a claim. It names a "custom objective" and
    does not say which, nor over what of a clip the features are pooled: here multi:softprob, and mean, deviation, minimum and
    maximum of the whole clip. `segments` above 1 tells what comes first. 200 rounds at eta 0.01 learn little: 47.4 % on INCLUDE-50's
    keypoints with whole recordings held out, where `eta=0.1 rounds=100 max_depth=3 segments=3 statistics=mean,deviation
    colsample_bytree=0.3` has 58.6 %. (The code it forks, AI4Bharat/INCLUDE, has XGBoost of
    depth 2 on flattened frames.)
    """

    space: ClassVar[Space] = {**SPACE, "segments": Choice((1, 2, 3, 4))}

    stages: tuple[str, ...] = ("kinematics",)
    statistics: tuple[Statistic, ...] = ("mean", "deviation", "minimum", "maximum")
    segments: PositiveInt = 1
    rounds: PositiveInt = 200
    patience: NonNegativeInt = 0
    learn: Literal["train", "all"] = "train"
    """`all`: the validation clips train too, which then end nothing."""

    @model_validator(mode="after")
    def _fits(self) -> Xgb:
        if not self.statistics:
            raise UserError("model 'xgb': statistics= leaves nothing to read; name some of mean,deviation,minimum,maximum")
        if self.learn == "all" and self.patience:
            raise UserError(f"learn=all leaves no clips by which patience={self.patience} could end the trees; set patience=0")
        return self

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        train = train.joined(val) if self.learn == "all" else train
        found = Pooled(self, len(train.classes), device)
        found.grow(partial(found.read, train), partial(found.read, val), train.seed)
        return found

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        return Pooled(self, n_classes, device)


class Pooled(Boosted):
    """Trees over pooled rows."""

    def __init__(self, recipe: Xgb, n_classes: int, device: str) -> None:
        super().__init__(recipe, n_classes, device)
        self.pools = partial(pooled, stages=recipe.stages, statistics=recipe.statistics, segments=recipe.segments)

    def described(self, batch: Batch) -> Array:
        return self.pools(batch)

    def read(self, table: Table) -> DMatrix:
        """The clips of a table with their labels."""
        return self.matrix(table.each(self.described), table.labels)


model: type[Recipe] = Xgb
