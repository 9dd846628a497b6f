"""What several models say together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from pipeline.data.batch import Batch
from pipeline.learning.recipe import Predictor
from pipeline.types import Array


def probabilities(models: Sequence[Predictor], batch: Batch) -> Array:
    """`(models, B, C)` float64."""
    return np.stack([softmax(model.logits(batch).astype(np.float64), 1) for model in models])


def logarithms(shares: Array) -> Array:
    """`(B, C)` probabilities -> float32 logarithms, finite where a probability is 0."""
    found: Array = np.log(np.maximum(shares, 1e-30)).astype(np.float32)
    return found


class Mixture:
    """Several models as one: the weighted mean of their probabilities."""

    def __init__(self, models: Sequence[Predictor], weights: Array) -> None:
        self.models, self.weights = models, weights

    @property
    def parameters(self) -> int:
        return sum(model.parameters for model in self.models)

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 logarithms of the mean."""
        return logarithms(np.tensordot(self.weights, probabilities(self.models, batch), 1))
