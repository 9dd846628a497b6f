"""Weights moved to where they cost more, to step by the gradient there (adversarial weight perturbation; Wu et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def perturbed(module: nn.Module, reach: float) -> Iterator[None]:
    """Inside, each tensor of weights lies `reach` further along its gradient; afterwards it is where it was, to the bit.

    The length is one for all tensors, as in the first place of Google's isolated sign recognition; the paper's goes by their norms.
    """
    moved = [(values, values.grad, values.detach().clone()) for values in module.parameters() if values.grad is not None]
    try:
        with torch.no_grad():
            for values, gradient, _ in moved:
                values.add_(gradient, alpha=reach / max(float(gradient.norm()), 1e-12))
        yield
    finally:
        with torch.no_grad():
            for values, _, before in moved:
                values.copy_(before)
