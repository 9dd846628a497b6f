"""The generator of ngoctuhan/Sign-Language-Recognition-with-Self-learning-Fusion-Models, a whole network.

`signcache finetune NAME i3d --model finetuned_generator` trains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._glimpses import Glimpses, Glimpsing
from models._members import Member
from models._transfer import Generating
from models.finetuned import Finetuned
from models.self_learning_fusion import taught_teacher, teaching
from pipeline.data.batch import Batch
from pipeline.learning.learner import Fraction, Positive
from pipeline.learning.network import NetworkPredictor
from pipeline.learning.recipe import Recipe, Training
from pipeline.types import Extractor


class FinetunedGenerator(Generating, Finetuned):
    """`(B, T, *item_shape)` items -> network of the stage -> mean -> dropout -> 128 sensor features -> `(B, n_classes)` by the teacher.

    The teacher is a sensor classifier on the clips that have sensor rows; its last layer, which stays as it is, scores what is
    generated. Loss, rate and batches are those of `self_learning_fusion`'s generator: Adam 1e-4 with beta1 0.5, batches of 16, 150
    epochs, the whole I3D from the first step on. Its weights make the rows that `self_learning_fusion` generates from, beside those of
    an I3D trained as a classifier, as the source has two: `extract NAME i3d --as i3d_generator --set weights=run:RUN`, then
    `train NAME self_learning_fusion --set stages=i3d,i3d_generator --set generator_stages=i3d_generator`. The source's
    figures (91.9 % on UTD-MHAD) are of the whole, none of its generator. The sensor is read in training only, and a clip may lack it.
    """

    stages: tuple[str, ...] = ("i3d",)
    sensor: str = "inertial"
    teacher: Member = Member(model="inception_time")
    hidden: Literal[128] = 128
    """Values of a sensor feature."""
    dropout: Fraction = 0.4
    standardised: bool = False
    head_epochs: NonNegativeInt = 0
    backbone_rate: Positive = 1.0
    batch_norm: Literal["kept", "moving"] = "moving"
    frames: PositiveInt = 1
    lr: Positive = 1e-4
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 150
    best_by: Literal["top1", "loss", "last"] = "loss"

    @property
    def aids(self) -> tuple[str, ...]:
        return (self.sensor,)

    @property
    def parts(self) -> tuple[Recipe, ...]:
        return (self.teacher.recipe,)

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Recipe:
        return self.model_copy(update={"teacher": teaching(self.teacher, self.sensor, training)})

    def glimpses(self, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> Glimpses:
        found = Generated(self, extractor, dims, n_classes)
        return found if self._teacher is None else found.taught(self._teacher)

    def fit(self, train: Training, val: Training, device: str) -> NetworkPredictor:
        self.taught(taught_teacher(self.teacher, train, val, device))
        predictor = super().fit(train, val, device)
        self._teacher = cast(Generated, predictor.module).teacher = None
        return predictor


class Generated(Glimpses):
    """A batch -> `(B, n_classes)` logits; while it is taught `(B, n_classes + 2 * 128)`, with what it generates and the sensor's own."""

    def __init__(self, recipe: Glimpsing, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__(recipe, extractor, dims, n_classes)
        self.teacher: Any = None

    def taught(self, teacher: nn.Module) -> Generated:
        """By this sensor classifier, whose last layer is taken over; neither changes."""
        _, say = self._layers
        say.load_state_dict(teacher.get_submodule("head").state_dict())
        say.requires_grad_(False)
        self.teacher = teacher.requires_grad_(False)
        return self

    @property
    def _layers(self) -> tuple[nn.Module, nn.Module]:
        generate, say = cast(nn.Sequential, self.head)
        return generate, say

    def train(self, mode: bool = True) -> Generated:
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, batch: Batch) -> Tensor:
        generate, say = self._layers
        seen = generate(self.dropout(self.means(batch)))
        said: Tensor = say(seen)
        return said if self.teacher is None else torch.cat([said, seen, self.teacher.features(batch)], 1)


model: type[Recipe] = FinetunedGenerator
