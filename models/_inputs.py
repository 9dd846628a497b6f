"""What sequence models read: the fused rows of their stages, normalised, thinned, and zero beyond each clip's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from models._varied import Varied
from pipeline.data.batch import Batch, fused, is_traced, shown
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.learner import NonNegative
from pipeline.learning.recipe import Training


class Sequences(Varied):
    """A recipe whose module has `inputs`, an `Inputs`: the fields of these and their statistics."""

    normalize: Literal["none", "train", "clip"] = "none"
    """Each value less its mean, by its deviation, over the training rows or over the clip's own."""
    frames: NonNegativeInt = 0
    """Most rows of a clip that are read, evenly spread from its first to its last; 0 reads all."""
    motion: NonNegative = 0.0
    """Above 0: each row is followed by its difference from the row before, times this; zeros in a clip's first row, and where a part
    of the row is missing in either."""

    def refuse(self, layouts: Mapping[str, Layout | None]) -> None:
        undone = [name for name in ("scale", "shift") if self.normalize == "clip" and getattr(self, name)]
        if undone:
            said, off = ", ".join(f"{name}={getattr(self, name)}" for name in undone), " ".join(f"--set {name}=0" for name in undone)
            raise UserError(f"normalize=clip undoes {said}: each value is less its clip's mean, by its deviation; leave it out: {off}")
        super().refuse(layouts)

    @property
    def alike_from(self) -> int | None:
        return self.frames or None

    def prepare(self, module: nn.Module, train: Training) -> None:
        inputs = module.get_submodule("inputs")
        if self.motion:
            inputs.get_buffer("told_by").copy_(told_by(train, self.stages))
        if self.normalize == "train":
            moments = [train.moments(stage) for stage in self.stages]
            inputs.get_buffer("mean").copy_(torch.cat([torch.from_numpy(mean) for mean, _ in moments]))
            inputs.get_buffer("deviation").copy_(torch.cat([torch.from_numpy(deviation) for _, deviation in moments]))


class Inputs(nn.Module):
    """A batch -> `(B, T, width)` float32 rows, zero beyond each clip's `(B,)` lengths, which are 1 or more.

    A clip without rows in the first stage is read as one row of zeros. What padding holds is never read.
    """

    def __init__(self, recipe: Sequences, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.stages, self.normalize, self.frames, self.motion = recipe.stages, recipe.normalize, recipe.frames, recipe.motion
        width = sum(dims[stage] for stage in recipe.stages)
        self.width = 2 * width if self.motion else width
        if self.normalize == "train":
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("deviation", torch.ones(width))
        if self.motion:
            self.register_buffer("told_by", torch.zeros(width, 2, dtype=torch.int64))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        if self.motion:  # a run of before knew of no missing parts, and is read as it was trained
            state.setdefault(prefix + "told_by", torch.zeros_like(self.get_buffer("told_by")))
        super()._load_from_state_dict(state, prefix, *more)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        rows, lengths = fused(batch, self.stages)
        if self.frames:
            rows, lengths = thinned(rows, lengths, self.frames)
        seen = shown(rows, self.get_buffer("told_by")) if self.motion else None
        if self.normalize == "clip":
            rows = within_clips(rows, lengths)
        elif self.normalize == "train":
            rows = (rows - self.get_buffer("mean")) / self.get_buffer("deviation")
        if seen is not None:
            both = seen & torch.cat([seen[:, :1], seen[:, :-1]], 1)
            before = torch.cat([rows[:, :1], rows[:, :-1]], 1)
            rows = torch.cat([rows, self.motion * (rows - before).where(both, 0)], 2)
        if not rows.shape[1] and not is_traced():
            rows = rows.new_zeros(len(rows), 1, self.width)
        return rows.where(real(lengths, rows.shape[1])[:, :, None], 0), lengths.clamp(min=1)


def told_by(train: Training, stages: Sequence[str]) -> Tensor:
    """`(D, 2)` of the fused rows of stages, as `shown` takes it."""
    parts, width = [], 0
    for stage in stages:
        layout = train.stages[stage].layout
        told = torch.from_numpy(layout.told_by) if layout else torch.zeros(train.dims[stage], 2, dtype=torch.int64)
        parts.append(told + width)
        width += train.dims[stage]
    return torch.cat(parts)


def real(lengths: Tensor, steps: int) -> Tensor:
    """`(B, steps)`: whether a row is a clip's own."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def thinned(rows: Tensor, lengths: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """`(B, T, D)` -> `(B, min(T, most), D)` and lengths: of a longer clip the rows `i * (length - 1) // (most - 1)`.

    Traced, which is to hold for any T, always `most` rows: those beyond a clip's length repeat its last.
    """
    if rows.shape[1] <= most and not is_traced():
        return rows, lengths
    steps = torch.arange(most, device=rows.device)
    spread = steps * (lengths[:, None] - 1).clamp(min=0) // max(most - 1, 1)
    last = (lengths - 1).clamp(min=0)[:, None]
    places = torch.where(lengths[:, None] > most, spread, torch.minimum(steps, last) if is_traced() else steps)
    clips = torch.arange(rows.shape[0], device=rows.device)[:, None]
    return rows[clips, places], lengths.clamp(max=most)


def within_clips(rows: Tensor, lengths: Tensor) -> Tensor:
    """`(B, T, D)` rows, each value less its clip's mean and by its deviation in the clip: what moves counts, not what is worn.

    Values that hardly move are kept small: a thousandth of the clip's mean deviation is added to each. Padding is zero.
    """
    own = real(lengths, rows.shape[1])[:, :, None]
    steps = lengths.clamp(min=1)[:, None, None]
    centred = (rows - torch.where(own, rows, 0).sum(1, keepdim=True) / steps).where(own, 0)
    deviation = ((centred**2).sum(1, keepdim=True) / steps).clamp(min=1e-30).sqrt()  # a root of 0 has no slope to explain by
    return centred / (deviation + 1e-3 * deviation.mean(2, keepdim=True) + 1e-6)
