"""A transformer encoder's pieces: its layers, and what tells a token when it is."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torchvision.ops import stochastic_depth

from pipeline.data.batch import is_traced


def encoder_layers(count: int, width: int, heads: int, feed_forward: int, dropout: float) -> nn.ModuleList:
    """Layers of `(B, T, width)` that normalise first, with GELU."""
    kind = {"activation": "gelu", "batch_first": True, "norm_first": True}
    layers = [nn.TransformerEncoderLayer(width, heads, feed_forward, dropout, **kind) for _ in range(count)]  # type: ignore[arg-type]
    return nn.ModuleList(layers)


def through(layers: nn.ModuleList, tokens: Tensor, own: Tensor, *, drop_path: float = 0.0) -> Tensor:
    """`(B, T, width)` after all layers of `encoder_layers`; `own` `(B, T)` tells which tokens may be attended to.

    While training, a layer leaves a clip as it is with probability `drop_path`.
    """
    layer: Any
    for layer in layers:
        if is_traced():
            tokens = tokens + attended(layer.self_attn, layer.norm1(tokens), own)
            tokens = tokens + layer.linear2(layer.activation(layer.linear1(layer.norm2(tokens))))
        else:
            after = layer(tokens, src_key_padding_mask=~own)
            dropped = drop_path and layer.training
            tokens = tokens + stochastic_depth(after - tokens, drop_path, "row") if dropped else after
    return tokens


def attended(attention: nn.MultiheadAttention, tokens: Tensor, own: Tensor) -> Tensor:
    """`(B, T, width)`: what each token takes from the others that are `own` `(B, T)`.

    Traced in plain products, for torch's own form is exported to ONNX for as many tokens as its example has.
    """
    if not is_traced():
        found: Tensor = attention(tokens, tokens, tokens, key_padding_mask=~own, need_weights=False)[0]
        return found
    heads, width = attention.num_heads, attention.head_dim
    parts = linear(tokens, attention.in_proj_weight, attention.in_proj_bias).chunk(3, 2)
    query, key, value = (part.view(part.shape[0], part.shape[1], heads, width).transpose(1, 2) for part in parts)
    scores = (query @ key.transpose(2, 3)) * width**-0.5
    shares = scores.masked_fill(~own[:, None, None, :], -torch.inf).softmax(3)
    projected: Tensor = attention.out_proj((shares @ value).transpose(1, 2).flatten(2))
    return projected


def places(at: Tensor, width: int) -> Tensor:
    """`(..., width)` sines and cosines of `(...)` places (Vaswani et al., 2017), float32."""
    rates = torch.exp(torch.arange(0, width, 2, device=at.device) * (-math.log(10_000) / width))
    angles = at[..., None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)
