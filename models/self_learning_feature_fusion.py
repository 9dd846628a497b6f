"""Sensors teach a video model whose features are fused: the other end of ngoctuhan's self-learning fusion (`fusion/m_fusion.py`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import PositiveInt

from models._transfer import FusingStudent, SideBySide
from models.self_learning_fusion import SelfLearningFusion, fitted, forget_checkpoints
from pipeline.errors import UserError
from pipeline.learning.recipe import Predictor, Recipe, Training


class SelfLearningFeatureFusion(SelfLearningFusion):
    """Video rows `(B, T, D)` -> the classifier's 128 values and 128 generated sensor features -> one MLP -> `(B, C)`.

    Teacher, generator and video classifier are those of `self_learning_fusion`, with its settings and what differs there; then in place
    of the MLP on generated features and the sum of scores, the same MLP reads both encoders: 256, 1024, BN, LeakyReLU 0.2, dropout 0.4,
    512, classes; Adam 1e-3, batches of 8, 150 epochs, as in the source. Its figures (91.9 % on UTD-MHAD) are of the
    method; none is of this fusion alone.
    """

    fusion_batch_size: PositiveInt = 8
    fusion_epochs: PositiveInt = 150

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Recipe:
        if self.video:
            raise UserError(f"video={self.video.model}: features are fused with those of the model's own classifier; leave video out")
        return super().adapted(training)

    def _student(self) -> FusingStudent:
        rates = {"batch_size": self.fusion_batch_size, "epochs": self.fusion_epochs}
        eyes = {"watched": self.watched, "generated": self.generated}
        return FusingStudent(**{**self._last(self.stages), **rates}, **eyes, hidden=self.mlp_hidden, slope=self.slope, dropout=self.dropout)

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        generator = self.generating(train, val, device)
        classifier = fitted("video", self.classifier(), train.part(stages=self.watched), val, device).module.get_submodule("encoder").cpu()
        looking = self._student().looking(SideBySide([classifier, generator]))
        student = fitted("student", looking, train.part(stages=self.stages), val, device)
        forget_checkpoints(train)
        return student

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        return self._student().predictor(dims, n_classes, device)


model: type[Recipe] = SelfLearningFeatureFusion
