"""Batch norm of padded clips, which counts their own rows only."""

from __future__ import annotations

from torch import Tensor, nn


class OwnNorm(nn.BatchNorm1d):
    """`(B, T, ..., C)` rows and `(B, T)` which of them are a clip's own -> normalised, by the own rows of the batch while training.

    One row alone has no deviation: it is normalised by the running statistics.
    """

    def forward(self, rows: Tensor, own: Tensor) -> Tensor:  # type: ignore[override]
        if not self.training:
            return super().forward(rows.flatten(0, -2)).view_as(rows)
        counted = rows[own]
        if counted[..., 0].numel() < 2:
            self.eval()
            found = super().forward(rows.flatten(0, -2)).view_as(rows)
            self.train()
            return found
        found = rows.new_zeros(rows.shape)
        found[own] = super().forward(counted.flatten(0, -2)).view_as(counted).to(found.dtype)
        return found
