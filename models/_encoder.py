"""A transformer encoder's pieces: its layers, and what tells a token when it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def encoder_layers(count: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.ModuleList:
    """Layers of `(B, T, width)` that normalise first, with GELU."""
    kind = {"activation": "gelu", "batch_first": True, "norm_first": True}
    layers = [nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, **kind) for _ in range(count)]  # type: ignore[arg-type]
    return nn.ModuleList(layers)


def places(at: Tensor, width: int) -> Tensor:
    """`(..., width)` sines and cosines of `(...)` places (Vaswani et al., 2017), float32."""
    rates = torch.exp(torch.arange(0, width, 2, device=at.device) * (-math.log(10_000) / width))
    angles = at[..., None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
