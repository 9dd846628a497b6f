"""The Inception network of time series (Fawaz et al., 2020), layer by layer as the self-learning fusion's code builds it in Keras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu


@dataclass(frozen=True)
class Shape:
    """Sizes of the network."""

    modules: int = 6
    filters: int = 32
    bottleneck: int = 32
    kernel: int = 40
    """The longest; the others are a half and a quarter of it."""
    residual_every: int = 3
    bn_momentum: float = 0.01


class Inception(nn.Module):
    """`(B, C, T)` -> `(B, 4 * filters, T)`: every `residual_every` modules a shortcut is added. Nothing is pooled.

    Keras' ways are kept: Glorot's uniform weights, batch norm with epsilon 1e-3 and a momentum of 0.99 (0.01 as torch counts it).
    """

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        self.every, self.width = shape.residual_every, 4 * shape.filters
        widths = [channels, *[self.width] * (shape.modules - 1)]
        self.blocks = nn.ModuleList(Block(width, shape) for width in widths)
        starts = [channels, *[self.width] * (shape.modules // self.every)][: shape.modules // self.every]
        self.shortcuts = nn.ModuleList(nn.Sequential(_conv(width, self.width, 1), _norm(self.width, shape)) for width in starts)
        for part in self.modules():
            if isinstance(part, nn.Conv1d):
                nn.init.xavier_uniform_(part.weight)

    def forward(self, rows: Tensor) -> Tensor:
        start = rows
        for number, block in enumerate(self.blocks, 1):
            rows = block(rows)
            if number % self.every == 0:
                rows = start = relu(rows + self.shortcuts[number // self.every - 1](start))
        return rows


class Block(nn.Module):
    """`(B, C, T)` -> `(B, 4 * filters, T)`: a bottleneck where C is larger than it, three convolutions and a max-pool branch."""

    def __init__(self, channels: int, shape: Shape) -> None:
        super().__init__()
        is_wide = channels > shape.bottleneck
        self.bottleneck = _conv(channels, shape.bottleneck, 1) if is_wide else nn.Identity()
        width = shape.bottleneck if is_wide else channels
        self.kernels = [max(shape.kernel // 2**i, 1) for i in range(3)]
        self.convolutions = nn.ModuleList(_conv(width, shape.filters, kernel) for kernel in self.kernels)
        self.pooled = nn.Sequential(nn.MaxPool1d(3, 1, padding=1), _conv(channels, shape.filters, 1))
        self.norm = _norm(4 * shape.filters, shape)

    def forward(self, rows: Tensor) -> Tensor:
        narrow = self.bottleneck(rows)
        found = [conv(_padded(narrow, kernel)) for conv, kernel in zip(self.convolutions, self.kernels, strict=True)]
        return relu(self.norm(torch.cat([*found, self.pooled(rows)], 1)))


def _padded(rows: Tensor, kernel: int) -> Tensor:
    """Zeros that keep the length under a convolution, the odd one at the end, as Keras' `same` does."""
    return pad(rows, ((kernel - 1) // 2, kernel // 2))


def _conv(inward: int, outward: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(inward, outward, kernel, bias=False)


def _norm(width: int, shape: Shape) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(width, eps=1e-3, momentum=shape.bn_momentum)
