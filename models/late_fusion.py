"""The sum of several models' probabilities, the end of ngoctuhan/Sign-Language-Recognition-with-Self-learning-Fusion-Models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from models._members import Ensemble, Member, load_all, over, save_all, trainer_of
from pipeline import atomic
from pipeline.errors import UserError
from pipeline.learning.mixing import Mixture
from pipeline.learning.recipe import Predictor, Recipe, Training
from pipeline.types import Array

WEIGHTS = "fusion.json"


class LateFusion(Ensemble):
    """Members' softmax `(B, C)` each -> their weighted mean, whose logarithm `(B, C)` is the score.

    `combine=sum` counts all members the same, which is the source's rule (91.9 % on UTD-MHAD, of an I3D on RGB and a generated sensor
    feature; Two-Stream I3D, on RGB and optical flow, 90.3 %; it gives no figure of RGB alone). `combine=learned` finds the weights that
    make the validation labels likeliest, by expectation maximisation of the mixture from equal weights. Members are models with
    settings, or folders of runs, as in `--set members=inception_time:stages=inertial,bilstm_attention:stages=skeleton`; each is trained
    with the seed of the whole unless it names its own, and one that is trained already is taken as it is.
    """

    members: tuple[Member, ...] = (Member(model="inception_time"), Member(model="bilstm_attention"))
    combine: Literal["sum", "learned"] = "sum"

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        if self.combine == "learned":
            self.keep_validation("combine=learned", "combine=sum")
        trainer = trainer_of(train, val, device)
        seeds = [train.seed if member.seed is None else member.seed for member in self.members]
        found = [trainer.whole(m.model, m.recipe, seed) for m, seed in zip(self.members, seeds, strict=True)]
        weights = np.full(len(found), 1 / len(found))
        if self.combine == "learned":
            weights = mixture(over(val, found), val.labels)
        return Fused(found, weights)

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        return Fused([part.predictor(dims, n_classes, device) for part in self.parts], np.full(len(self.parts), 1 / len(self.parts)))


class Fused(Mixture):
    """Trained members and what each counts."""

    def save(self, folder: Path) -> None:
        save_all(self.models, folder)
        atomic.replace(folder / WEIGHTS, json.dumps({"weights": self.weights.tolist()}).encode())

    def load(self, folder: Path) -> None:
        load_all(self.models, folder)
        try:
            self.weights = np.array(json.loads((folder / WEIGHTS).read_bytes())["weights"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"the weights {folder / WEIGHTS} cannot be read ({error}); train the run anew") from error


def mixture(shares: Array, labels: Array, rounds: int = 500) -> Array:
    """`(M, N, C)` probabilities and `(N,)` labels -> `(M,)` weights, summing to 1, of the likeliest mixture."""
    own = np.maximum(shares[:, np.arange(len(labels)), labels], 1e-30)
    weights: Array = np.full(len(own), 1 / len(own))
    for _ in range(rounds):
        part = weights[:, None] * own
        weights = (part / part.sum(0)).mean(1)
    return weights


model: type[Recipe] = LateFusion
