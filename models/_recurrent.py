"""LSTMs over clips of different lengths: both ways, with zoneout where asked; and one way, as it can be exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models._rows import real
from pipeline.data.batch import is_traced
from pipeline.errors import UserError

OneWay: TypeAlias = Callable[[nn.Module, Tensor, str], Tensor]
"""A layer, rows and the suffix of a direction's weights -> the states of that direction."""


def unpacked(layer: nn.Module, rows: Tensor, suffix: str = "") -> Tensor:
    """`(B, T, D)` -> `(B, T, hidden)`: the states of one direction of a layer over all rows, a clip's own before padding.

    What a packed sequence gives of a clip's own rows, in a form that can be exported.
    """
    weights = [getattr(layer, f"{kind}_l0{suffix}") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    start = rows.new_zeros(1, rows.shape[0], weights[1].shape[1])
    return torch.lstm(rows, (start, start), weights, True, 1, 0.0, False, False, True)[0]


def last_of(rows: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` and `(B,)` lengths of 1 or more -> `(B, D)`: the last row of each clip."""
    return rows.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, rows.shape[2]))[:, 0]


class BiLstm(nn.Module):
    """`(B, T, D)` rows and `(B,)` lengths of 1 or more -> `(B, T, 2 * hidden)`, zero beyond each clip's end.

    Zoneout keeps each value of the state from the step before with this probability while training, and mixes the two
    states by it afterwards (Krueger et al., ICLR 2017, with one rate for the hidden and the cell state). Each layer is an LSTM
    of its own, because cuDNN draws the dropout between its layers from a state that no checkpoint holds.
    """

    def __init__(self, width: int, hidden: int, layers: int = 1, *, dropout: float = 0.0, zoneout: float = 0.0) -> None:
        super().__init__()
        widths = [width, *[2 * hidden] * (layers - 1)]
        self.lstm = nn.ModuleList(nn.LSTM(size, hidden, batch_first=True, bidirectional=True) for size in widths)
        self.dropout, self.zoneout, self.width = nn.Dropout(dropout), zoneout, 2 * hidden

    def forward(self, rows: Tensor, lengths: Tensor) -> Tensor:
        for number, layer in enumerate(self.lstm):
            rows = self.dropout(rows) if number else rows
            if self.zoneout or is_traced():
                rows = self._both_ways(layer, rows, lengths, self._zoned if self.zoneout else unpacked)
            else:
                rows = self._packed(layer, rows, lengths)
        return rows

    def _packed(self, layer: nn.Module, rows: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False)
        found: Tensor = pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=rows.shape[1])[0]
        return found

    def _both_ways(self, layer: nn.Module, rows: Tensor, lengths: Tensor, one_way: OneWay) -> Tensor:
        """Both directions; the second reads each clip from its last row to its first."""
        own = real(lengths, rows.shape[1])
        steps = torch.arange(rows.shape[1], device=rows.device)
        turned = torch.where(own, lengths[:, None] - 1 - steps, 0)[:, :, None]
        ahead = one_way(layer, rows, "")
        back = one_way(layer, rows.gather(1, turned.expand_as(rows)), "_reverse")
        both = torch.cat([ahead, back.gather(1, turned.expand_as(back))], 2)
        return both.where(own[:, :, None], 0)

    def _zoned(self, layer: nn.Module, rows: Tensor, suffix: str) -> Tensor:
        """`(B, T, D)` -> `(B, T, hidden)`: the states of one direction of a layer step by step, its gates in torch's order."""
        if is_traced():
            raise UserError(f"zoneout={self.zoneout} steps through a clip in Python, which has no exported form; train with zoneout=0")
        inward, outward = layer.get_parameter(f"weight_ih_l0{suffix}"), layer.get_parameter(f"weight_hh_l0{suffix}")
        bias = layer.get_parameter(f"bias_ih_l0{suffix}") + layer.get_parameter(f"bias_hh_l0{suffix}")
        given = rows @ inward.T + bias
        state = cell = given.new_zeros(len(rows), outward.shape[1])
        found = []
        for step in range(rows.shape[1]):
            enter, forget, change, leave = (given[:, step] + state @ outward.T).chunk(4, 1)
            new = forget.sigmoid() * cell + enter.sigmoid() * change.tanh()
            state = self._zone(state, leave.sigmoid() * new.tanh())
            cell = self._zone(cell, new)
            found.append(state)
        return torch.stack(found, 1)

    def _zone(self, before: Tensor, after: Tensor) -> Tensor:
        if not self.training:
            return self.zoneout * before + (1 - self.zoneout) * after
        return torch.where(torch.rand_like(after) < self.zoneout, before, after)
