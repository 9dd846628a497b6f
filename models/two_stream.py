"""Two streams, RGB and optical flow, whose logits are added: Two-Stream I3D of Carreira and Zisserman (deepmind/kinetics-i3d)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models._members import Ensemble, Member, load_all, save_all, trainer_of
from pipeline.data.batch import Batch
from pipeline.learning.recipe import Predictor, Recipe, Training
from pipeline.types import Array

HEAD = {"hidden": 128, "dropout": 0.4, "standardised": False}
"""As self-learning fusion (ngoctuhan) ends its I3D: dropout, 128 values, classes."""


class TwoStream(Ensemble):
    """Members' logits `(B, C)` each, one a stream -> their sum `(B, C)`, each trained for itself by its own cross entropy.

    Streams are added with equal weight before the softmax, as that repository does; `late_fusion` adds probabilities. It gives 74.2 %
    on Kinetics (RGB 71.1, flow 63.4), and self-learning fusion 90.3 % on UTD-MHAD, 84.6 % on VSL and 92.1 % on Berkeley MHAD, its
    baseline. There both I3D are trained whole. Here the members' default is what stands on rows of the stages `i3d` and `i3d_flow`,
    so give these the weights that `signcache finetune` trained, `--set weights=run:RUN`; or take its two runs as they are:
    `--set members=FOLDER/OF/RUN,FOLDER/OF/RUN`. More than two are added alike.
    """

    members: tuple[Member, ...] = tuple(Member(model="finetuned", settings={"stages": [stage], **HEAD}) for stage in ("i3d", "i3d_flow"))

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        trainer = trainer_of(train, val, device)
        seeds = [train.seed if member.seed is None else member.seed for member in self.members]
        return Streams([trainer.whole(m.model, m.recipe, seed) for m, seed in zip(self.members, seeds, strict=True)])

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        return Streams([part.predictor(dims, n_classes, device) for part in self.parts])


class Streams:
    """Trained members whose logits are added."""

    def __init__(self, models: Sequence[Predictor]) -> None:
        self.models = models

    @property
    def parameters(self) -> int:
        return sum(model.parameters for model in self.models)

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32."""
        found: Array = np.sum([model.logits(batch) for model in self.models], axis=0)
        return found

    def network(self) -> nn.Module:
        return Sum([model.network() for model in self.models])

    def save(self, folder: Path) -> None:
        save_all(self.models, folder)

    def load(self, folder: Path) -> None:
        load_all(self.models, folder)


class Sum(nn.Module):
    """The same as one module."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, batch: Batch) -> Tensor:
        return torch.stack([network(batch) for network in self.networks], 2).sum(2)


model: type[Recipe] = TwoStream
