"""What sequence models read: the fused rows of their stages, normalised, thinned, and zero beyond each clip's end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import NonNegativeInt
from torch import Tensor, nn

from models._rows import averaged, levels, real, thinned, within_clips
from models._varied import Varied
from pipeline.data.batch import Batch, fused, is_traced, shown
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.learner import NonNegative
from pipeline.learning.recipe import Training
from pipeline.types import Array

BITS = 8
"""Most parts of whose presence rows can tell."""


class Sequences(Varied):
    """A recipe whose module has `inputs`, an `Inputs`: the fields of these and their statistics."""

    normalize: Literal["none", "train", "clip"] = "none"
    """Each value less its mean, by its deviation, over the training rows or over the clip's own."""
    frames: NonNegativeInt = 0
    """Most rows of a clip that are read, evenly spread from its first to its last; 0 reads all."""
    sampling: Literal["points", "means"] = "points"
    """What a longer clip is read as: single rows, or the means of as many segments of it."""
    motion: NonNegative = 0.0
    """Above 0: each row is followed by its difference from the row before, times this; zeros in a clip's first row, and where a part
    of the row is missing in either."""
    motion_two: NonNegative = 0.0
    """Above 0: the same, from two rows before."""
    level: bool = False
    """Each row is followed by its clip's level, which `normalize=clip` takes away: the mean of each value and the logarithm of its
    deviation, in all rows of the clip, both normalised over the training clips; 0 for a part that no row shows."""
    presence: bool = False
    """Each row is followed by eight numbers: 1 for each part that can be missing and is there, 0 for the others."""

    def refuse(self, layouts: Mapping[str, Layout | None]) -> None:
        undone = [name for name in ("scale", "shift") if self.normalize == "clip" and not self.level and getattr(self, name)]
        if undone:
            said, off = ", ".join(f"{name}={getattr(self, name)}" for name in undone), " ".join(f"--set {name}=0" for name in undone)
            raise UserError(f"normalize=clip undoes {said}: each value is less its clip's mean, by its deviation; leave it out: {off}")
        super().refuse(layouts)

    @property
    def alike_from(self) -> int | None:
        return self.frames or None

    @property
    def knows_gaps(self) -> bool:
        """Whether its module is told which values are missing where."""
        return bool(self.motion or self.motion_two or self.sampling == "means" or self.level)

    def prepare(self, module: nn.Module, train: Training) -> None:
        inputs = module.get_submodule("inputs")
        if self.knows_gaps:
            inputs.get_buffer("told_by").copy_(told_by(train, self.stages))
        if self.presence:
            inputs.get_buffer("parts").copy_(parts_of(train, self.stages))
        if self.normalize == "train":
            moments = [train.moments(stage) for stage in self.stages]
            inputs.get_buffer("mean").copy_(torch.cat([torch.from_numpy(mean) for mean, _ in moments]))
            inputs.get_buffer("deviation").copy_(torch.cat([torch.from_numpy(deviation) for _, deviation in moments]))
        if self.level:
            mean, deviation = _over_clips(train, self.stages, inputs.get_buffer("told_by"))
            inputs.get_buffer("level_mean").copy_(torch.from_numpy(mean))
            inputs.get_buffer("level_deviation").copy_(torch.from_numpy(deviation))


class Inputs(nn.Module):
    """A batch -> `(B, T, width)` float32 rows, zero beyond each clip's `(B,)` lengths, which are 1 or more.

    A clip without rows in the first stage is read as one row of zeros. What padding holds is never read.
    """

    def __init__(self, recipe: Sequences, dims: Mapping[str, int]) -> None:
        super().__init__()
        self.stages, self.normalize, self.frames, self.sampling = recipe.stages, recipe.normalize, recipe.frames, recipe.sampling
        self.motions = [(steps, times) for steps, times in ((1, recipe.motion), (2, recipe.motion_two)) if times]
        self.level, self.presence, self.knows_gaps = recipe.level, recipe.presence, recipe.knows_gaps
        width = sum(dims[stage] for stage in recipe.stages)
        self.width = width * (1 + len(self.motions) + 2 * self.level) + BITS * self.presence
        if self.normalize == "train":
            self.register_buffer("mean", torch.zeros(width))
            self.register_buffer("deviation", torch.ones(width))
        if self.knows_gaps:
            self.register_buffer("told_by", torch.zeros(width, 2, dtype=torch.int64))
        if self.presence:
            self.register_buffer("parts", torch.zeros(BITS, 2, dtype=torch.int64))
        if self.level:
            self.register_buffer("level_mean", torch.zeros(2 * width))
            self.register_buffer("level_deviation", torch.ones(2 * width))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        if self.knows_gaps:  # a run of before knew of no missing parts, and is read as it was trained
            state.setdefault(prefix + "told_by", torch.zeros_like(self.get_buffer("told_by")))
        super()._load_from_state_dict(state, prefix, *more)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        every, whole = fused(batch, self.stages)
        given, lengths = self._fewer(every, whole)
        rows = self._normalized(given, lengths)
        found = [rows, *self._motion(rows, given)]
        if self.level:
            found.append(self._levels(every, whole)[:, None].expand(-1, rows.shape[1], -1))
        if self.presence:
            parts = self.get_buffer("parts")
            found.append((shown(given, parts) & (parts[:, 1] > parts[:, 0])).float())
        rows = torch.cat(found, 2) if len(found) > 1 else rows
        if not rows.shape[1] and not is_traced():
            rows = rows.new_zeros(len(rows), 1, self.width)
        return rows.where(real(lengths, rows.shape[1])[:, :, None], 0), lengths.clamp(min=1)

    def _fewer(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        if not self.frames:
            return rows, lengths
        if self.sampling == "means":
            return averaged(rows, lengths, self.frames, self.get_buffer("told_by"))
        return thinned(rows, lengths, self.frames)

    def _normalized(self, rows: Tensor, lengths: Tensor) -> Tensor:
        if self.normalize == "clip":
            return within_clips(rows, lengths)
        if self.normalize == "train":
            return (rows - self.get_buffer("mean")) / self.get_buffer("deviation")
        return rows

    def _motion(self, rows: Tensor, given: Tensor) -> list[Tensor]:
        """`(B, T, D)` differences of rows, where the rows that were given show the value in both."""
        if not self.motions:
            return []
        seen, found = shown(given, self.get_buffer("told_by")), list[Tensor]()
        for steps, times in self.motions:
            both = seen & _before(seen, steps)
            found.append(times * (rows - _before(rows, steps)).where(both, 0))
        return found

    def _levels(self, rows: Tensor, lengths: Tensor) -> Tensor:
        values, known = levels(rows, lengths, self.get_buffer("told_by"))
        return ((values - self.get_buffer("level_mean")) / self.get_buffer("level_deviation")).where(known, 0)


def _before(rows: Tensor, steps: int) -> Tensor:
    """`(B, T, D)`: of each row the one so many steps before; of the first ones themselves."""
    return torch.cat([rows[:, :steps], rows[:, :-steps]], 1)[:, : rows.shape[1]]


def told_by(train: Training, stages: Sequence[str]) -> Tensor:
    """`(D, 2)` of the fused rows of stages, as `shown` takes it."""
    parts, width = [], 0
    for stage in stages:
        layout = train.stages[stage].layout
        told = torch.from_numpy(layout.told_by) if layout else torch.zeros(train.dims[stage], 2, dtype=torch.int64)
        parts.append(told + width)
        width += train.dims[stage]
    return torch.cat(parts)


def parts_of(train: Training, stages: Sequence[str]) -> Tensor:
    """`(BITS, 2)` as `shown` takes it: the columns of each part of the fused rows that tells by itself that it is missing."""
    found, width = list[list[int]](), 0
    for stage in stages:
        layout = train.stages[stage].layout
        found += [[width + part.start, width + part.stop] for part in (layout.missable.values() if layout else ())]
        width += train.dims[stage]
    if len(found) > BITS:
        raise UserError(f"presence=true tells of {BITS} parts at most, and {', '.join(stages)} have {len(found)}; set presence=false")
    return torch.tensor(found + [[0, 0]] * (BITS - len(found)))


def _over_clips(train: Training, stages: Sequence[str], told: Tensor) -> tuple[Array, Array]:
    """`(2 * D,)` mean of the levels of all clips that have them, and their deviation; 1 where they never differ."""

    def levels_of(batch: Batch) -> Array:
        return np.stack([values.numpy() for values in levels(*fused(batch, stages), told)])

    values, known = train.each(levels_of, axis=1)
    found = np.ma.masked_array(values, known == 0)
    deviation = found.std(0).filled(1)
    return found.mean(0).filled(0), np.where(deviation > 1e-6, deviation, 1.0)
