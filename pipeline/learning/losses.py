"""What a clip costs: cross entropy with label smoothing, focal where asked, weighted by class where asked."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy


def each(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0, gamma: float = 0.0) -> Tensor:
    """`(N, C)` logits and `(N,)` labels -> `(N,)` losses.

    `gamma` above 0 is the focal loss: each loss times `(1 - p)^gamma`, p the label's probability (Lin et al., ICCV 2017).
    """
    losses = cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    if gamma:
        certain = torch.log_softmax(logits, 1).gather(1, labels[:, None])[:, 0].exp()
        losses = losses * (1 - certain).clamp(min=0) ** gamma
    return losses


def balanced(labels: NDArray[np.int64], classes: int) -> Tensor:
    """`(C,)` weights that make every class of N labels count the same: `N / (K * clips of the class)` for K classes present.

    A class that is absent weighs 1.
    """
    counts = np.bincount(labels, minlength=classes)
    weights = len(labels) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 1.0)).float()
