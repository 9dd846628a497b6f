"""One vector of each clip from its real rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch

Kind = Literal["linear", "query", "mean", "max"]


class Pooling(nn.Module):
    """`(B, T, D)` rows and `(B, T)` which of them are a clip's own, one or more -> `(B, D)`.

    `linear` and `query` are attention: a softmax over the clip's own rows of `Linear(D, 1)`, or of the product with a learned
    query of D values by `sqrt(D)`; `mean` and `max` are those of these rows.
    """

    def __init__(self, kind: Kind, width: int) -> None:
        super().__init__()
        self.kind = kind
        if kind == "linear":
            self.score = nn.Linear(width, 1)
        elif kind == "query":
            self.query = nn.Parameter(torch.randn(width))

    def attention(self, rows: Tensor, own: Tensor) -> Tensor:
        """`(B, T)`: how much each row counts, for `max` in how many of the D values; sums to 1 over the own ones, 0 beyond."""
        if self.kind == "mean":
            return own / own.sum(1, keepdim=True)
        if self.kind == "max":
            places = rows.masked_fill(~own[:, :, None], -torch.inf).argmax(1)
            return torch.nn.functional.one_hot(places, rows.shape[1]).float().mean(1)
        scores: Tensor = self.score(rows)[:, :, 0] if self.kind == "linear" else rows @ self.query / rows.shape[2] ** 0.5
        return scores.masked_fill(~own, -torch.inf).softmax(1)

    def forward(self, rows: Tensor, own: Tensor) -> Tensor:
        if self.kind == "max":
            return rows.masked_fill(~own[:, :, None], -torch.inf).amax(1)
        return (rows * self.attention(rows, own)[:, :, None]).sum(1)


class Pooled(nn.Module):
    """A module whose `pooling` makes one vector of what a clip is `encoded` as."""

    pooling: Pooling

    @abstractmethod
    def encoded(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`(B, T, D)` rows, and which of them are a clip's own `(B, T)`; the others mean nothing."""

    def attention(self, batch: Batch) -> Tensor:
        """`(B, T)`: how much each step of a clip counts in the pooling."""
        found: Tensor = self.pooling.attention(*self.encoded(batch))
        return found
