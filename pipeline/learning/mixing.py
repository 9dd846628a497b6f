"""What several models say together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import softmax
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.learning.recipe import Predictor
from pipeline.types import Array

LEAST = 1e-30
"""Of a probability whose logarithm is taken."""


def probabilities(models: Sequence[Predictor], batch: Batch) -> Array:
    """`(models, B, C)` float64."""
    return np.stack([softmax(model.logits(batch).astype(np.float64), 1) for model in models])


def logarithms(shares: Array) -> Array:
    """`(B, C)` probabilities -> float32 logarithms, finite where a probability is 0."""
    found: Array = np.log(np.maximum(shares, LEAST)).astype(np.float32)
    return found


class MixedNetworks(nn.Module):
    """Several networks as one: the logarithm of the weighted mean of their probabilities, as `Mixture` has it."""

    def __init__(self, networks: Sequence[nn.Module], weights: Array) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("weights", torch.from_numpy(weights).float())

    def forward(self, batch: Batch) -> Tensor:
        shares = torch.stack([network(batch).softmax(1) for network in self.networks], 2)
        return (shares * self.get_buffer("weights")).sum(2).clamp(min=LEAST).log()


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

    def network(self) -> nn.Module:
        return MixedNetworks([model.network() for model in self.models], self.weights)
