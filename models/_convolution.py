"""Causal convolutions over time with channel attention, as in `models/conv_transformer.py`."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, silu
from torchvision.ops import StochasticDepth

from models._masked_norm import OwnNorm

ATTENDED = 5
"""Neighbouring channels that weigh a channel (Wang et al., CVPR 2020)."""


class CausalConvolution(nn.Conv1d):
    """`(B, T, C)` -> `(B, T, C)`: each channel by itself, each row of itself and the `kernel - 1` rows before it."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, channels, kernel, groups=channels, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        return super().forward(pad(rows.transpose(1, 2), (self.kernel_size[0] - 1, 0))).transpose(1, 2)


class ChannelAttention(nn.Module):
    """`(B, T, C)` -> the same, each channel times a share that the clip's mean of its neighbours gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv1d(1, 1, ATTENDED, padding=ATTENDED // 2, bias=False)

    def forward(self, rows: Tensor, own: Tensor) -> Tensor:
        mean = torch.where(own[:, :, None], rows, 0).sum(1) / own.sum(1, keepdim=True)
        shares: Tensor = self.weigh(mean[:, None])[:, 0].sigmoid()
        return rows * shares[:, None]


class ConvolutionBlock(nn.Module):
    """`(B, T, C)` and `(B, T)` which rows are a clip's own -> the same shape: to `2 * C`, convolved, normalised, weighed and back.

    What it adds is left out for a whole clip with probability `drop_path` while training.
    """

    def __init__(self, width: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.convolve, self.norm, self.attend = CausalConvolution(2 * width, kernel), OwnNorm(2 * width), ChannelAttention()
        self.drop = StochasticDepth(drop_path, "row")

    def forward(self, rows: Tensor, own: Tensor) -> Tensor:
        found = self.norm(self.convolve(silu(self.widen(rows))), own)
        added: Tensor = self.drop(self.narrow(self.attend(found, own)))
        return rows + added
