"""A batch of clips: padded rows of every stage with their lengths, what one process is to do of it, and its stages side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import UserError


@dataclass(slots=True)
class Batch:
    """`features[stage]` `(B, T, *row_shape)`, zero beyond `lengths[stage]` `(B,)`; `labels` `(B,)` int64, -1 where unknown."""

    ids: tuple[str, ...]
    features: dict[str, Tensor]
    lengths: dict[str, Tensor]
    labels: Tensor
    whole: Tensor | None = None
    """`(N,)` labels of the batch of which these clips are the share of one process; None: these are all."""

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on a device."""
        features = {stage: values.to(device) for stage, values in self.features.items()}
        return Batch(self.ids, features, {stage: n.to(device) for stage, n in self.lengths.items()}, self.labels.to(device))

    def share(self, rank: int, ranks: int) -> Batch:
        """What one of several processes is to do of this batch."""
        own = share_of(len(self), rank, ranks).tolist()
        features, lengths = ({stage: values[own] for stage, values in held.items()} for held in (self.features, self.lengths))
        return Batch(tuple(self.ids[i] for i in own), features, lengths, self.labels[own], self.labels)


def share_of(count: int, rank: int, ranks: int) -> NDArray[np.int64]:
    """Places of the clips of a batch that one of several processes does: every `ranks`-th, so that lengths are alike.

    Where that leaves a process none, the first clip stands in: it takes part, and its loss is to count nothing.
    """
    return np.arange(rank, count, ranks, dtype=np.int64) if rank < count else np.zeros(1, np.int64)


def is_traced() -> bool:
    """Whether what runs is recorded for another program: it is then to hold for any number of clips and rows, so no shape decides."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def fused(batch: Batch, stages: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`(B, T, sum of D)` float32 on the time axis of the first stage, and its `(B,)` lengths.

    A stage of another length is aligned on normalised time: row `floor((t + 0.5) * its length / first length)`.
    Padding stays zero. A clip without rows in the first stage has length 0; one without rows in another reads zeros there.
    """
    for stage in stages:
        check_vectors(stage, tuple(batch.features[stage].shape[2:]))
    first = batch.features[stages[0]]
    lengths = batch.lengths[stages[0]]
    parts = [first.float(), *(_aligned(batch, stage, lengths, first.shape[1]) for stage in stages[1:])]
    return (torch.cat(parts, 2) if len(parts) > 1 else parts[0]), lengths


def shown(rows: Tensor, told_by: Tensor) -> Tensor:
    """`(..., D)` whether each value is seen: whether a column from `told_by[d, 0]` up to `told_by[d, 1]` holds a number that is not zero.

    Where both are the same column, the value never is missing. `told_by` is that of a `Layout`.
    """
    numbers = ((rows != 0) & rows.isfinite()).cumsum(-1, dtype=torch.int32)
    until = torch.cat([torch.zeros_like(numbers[..., :1]), numbers], -1)
    first, stop = told_by.unbind(1)
    return (until[..., stop] > until[..., first]) | (first == stop)


def check_vectors(stage: str, row_shape: tuple[int, ...]) -> None:
    """Raise UserError where the rows of a stage are no vectors."""
    if len(row_shape) != 1:
        said = "x".join(map(str, row_shape)) or "single values"
        raise UserError(f"the rows of stage {stage!r} are {said}, and this model takes vectors; choose other stages: --set stages=a,b")


def _aligned(batch: Batch, stage: str, lengths: Tensor, steps: int) -> Tensor:
    """`(B, steps, D)`: the rows of a stage at the times of another that has `lengths` rows."""
    values, own = batch.features[stage].float(), batch.lengths[stage]
    if not is_traced():
        if values.shape[1] == steps and torch.equal(own, lengths):
            return values
        if not values.shape[1]:
            return values.new_zeros(len(own), steps, values.shape[2])
    times = torch.arange(steps, device=values.device)
    rows = (2 * times + 1) * own[:, None] // (2 * lengths[:, None]).clamp(min=1)  # whole numbers: no rounding at the edges
    real = (times < lengths[:, None]) & (own[:, None] > 0)
    rows = torch.where(real, rows, 0)
    clips = torch.arange(own.shape[0], device=values.device)[:, None]
    return values[clips, rows].masked_fill_(~real[:, :, None], 0)
