"""One vector of each clip from its real rows."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from models._inputs import real

Kind = Literal["linear", "query", "mean", "max"]


class Pooling(nn.Module):
    """`(B, T, D)` rows and `(B,)` lengths of 1 or more -> `(B, D)`.

    `linear` and `query` are attention: a softmax over the real steps of `Linear(D, 1)`, or of the product with a learned
    query of D values by `sqrt(D)`; `mean` and `max` are those of the real rows.
    """

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "linear":
            self.score = nn.Linear(width, 1)
        elif kind == "query":
            self.query = nn.Parameter(torch.randn(width))

    def attention(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """`(B, T)`: how much each step counts, for `max` in how many of the D values; sums to 1 over the real ones, 0 beyond."""
        own = real(lengths, rows.shape[1])
        if self.kind == "mean":
            return own / lengths[:, None]
        if self.kind == "max":
            places = rows.masked_fill(~own[:, :, None], -torch.inf).argmax(1)
            return torch.nn.functional.one_hot(places, rows.shape[1]).float().mean(1)
        scores: Tensor = self.score(rows)[:, :, 0] if self.kind == "linear" else rows @ self.query / rows.shape[2] ** 0.5
        return scores.masked_fill(~own, -torch.inf).softmax(1)

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        if self.kind == "max":
            return rows.masked_fill(~real(lengths, rows.shape[1])[:, :, None], -torch.inf).amax(1)
        return (rows * self.attention(rows, lengths)[:, :, None]).sum(1)
