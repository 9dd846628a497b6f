"""Training clips varied anew in every epoch, each from (seed, epoch, id) alone; off by default, and never where a clip scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import xxhash
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pipeline.data.batch import Batch, shown
from pipeline.errors import UserError
from pipeline.layouts import TIMES, Layout
from pipeline.learning._hiding import Hidden, hide, hiding
from pipeline.learning._moving import Drawn, moved, rebuilt
from pipeline.learning.recipe import Training
from pipeline.types import Array

Share = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Degrees = Annotated[float, Field(ge=0, le=180)]
KNOTS = 5
"""Places of a clip where a warped time has a speed of its own."""
BODY = ("mirror", "rotate", "turn", "shear", "scale", "shift")
"""What is of the whole signer, so that every stage has to follow; the others change what has points, or bones, and time and noise any."""
PARTIAL = ("part_dropout", "box_mask", "bones", "limbs")


class Augmentation(BaseModel):
    """How training clips are varied. Changes of time are the same for all stages of a clip, on normalised time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_warp: Amount = 0.0
    """Deviation of the logarithm of the speed at five places of the clip."""
    crop: Share = 0.0
    """Most of a clip that is cut away, at both ends together."""
    resample: Share = 0.0
    """The clip gets up to this share shorter, or as much longer: `1 / (1 - resample)` times at most."""
    frame_drop: Share = 0.0
    """Probability with which each row is left out."""
    mirror: Share = 0.0
    """Probability of a mirrored signer: x turned round about the clip's middle, left and right points exchanged."""
    rotate: Degrees = 0.0
    """Most degrees by which points turn in the image's plane, about the clip's middle."""
    turn: Degrees = 0.0
    """Most degrees by which points turn about the vertical axis, where they have a z."""
    shear: Amount = 0.0
    """Points move along x by up to this times their height above the clip's middle."""
    scale: Share = 0.0
    """Points grow or shrink about the clip's middle by up to this share."""
    shift: Amount = 0.0
    """Points move by up to this many of the deviations of the clip's points, each axis by itself."""
    bones: Share = 0.0
    """Each bone is longer or shorter by up to this share, the same in the whole clip; what hangs on it moves along."""
    limbs: Degrees = 0.0
    """Most degrees by which each bone turns about the joint it hangs on, the same in the whole clip, and what hangs on it along."""
    jitter: Amount = 0.0
    """Noise on every value, in deviations of that value in the clip."""
    part_dropout: Share = 0.0
    """Probability with which a part (hand, pose, face, group of features) is zero in the whole clip."""
    time_mask: Share = 0.0
    """Most of a clip that is not seen, in one piece of half as much or more, in every other clip: parts that can be missing are zero,
    other values their mean in the clip."""
    box_mask: Share = 0.0
    """Most of the width and of the height of a clip's points that a box covers, in every other clip; places in it are zero."""
    mixup: Amount = 0.0
    """Above 0: every clip is blended with another of its batch, by shares of Beta(mixup, mixup), and so are their losses."""

    def variation(self, train: Training, epoch: int) -> Variation | None:
        """What changes the clips of an epoch; None where all is off. Raises UserError where the rows of a stage cannot be changed so."""
        if not any(getattr(self, name) for name in Augmentation.model_fields if name != "mixup"):
            return None
        layouts = {stage: features.layout for stage, features in train.stages.items()}
        self.refuse(layouts)
        return Variation(self, layouts, train.seed, epoch)

    def refuse(self, layouts: Mapping[str, Layout | None]) -> None:
        """Raise UserError where rows of these layouts cannot be changed so."""
        for stage in layouts:
            refused = {name: why for name, why in self._refusals(layouts, stage) if why}
            if refused:
                said = ", ".join(f"{name}={getattr(self, name)} ({why})" for name, why in refused.items())
                off = " ".join(f"--set {name}=0" for name in refused)
                raise UserError(f"rows of stage {stage!r} cannot take {said}; leave it out: {off}")

    def _refusals(self, layouts: Mapping[str, Layout | None], stage: str) -> Iterator[tuple[str, str]]:
        """Each field that is on, and why the rows of a stage cannot take it: nothing where it is PARTIAL and those of another can."""
        for name in (*BODY, *PARTIAL, *TIMES):
            whys = {other: refusal(layout, name) for other, layout in layouts.items()}
            if getattr(self, name) and (name not in PARTIAL or all(whys.values())):
                yield name, whys[stage]

    def blended(self, batch: Batch, train: Training, epoch: int) -> Blend | None:
        """The clips of a batch, each with a share of the one before it; None where that is off.

        A part stays the clip's own where the other clip misses it at an instant at which this one does not.
        """
        if not self.mixup:
            return None
        shares = torch.tensor([generator_of(train.seed, epoch, f"mixup {clip}").beta(self.mixup, self.mixup) for clip in batch.ids]).float()
        shares = torch.maximum(shares, 1 - shares)  # the clip itself is the larger part
        for lengths in batch.lengths.values():
            shares = shares.where((lengths > 0) & (lengths.roll(1) > 0), 1)
        features = {
            stage: _blend(values, batch.lengths[stage], shares, train.stages[stage].layout) for stage, values in batch.features.items()
        }
        return Blend(replace(batch, features=features), batch.labels.roll(1), shares)


@dataclass(frozen=True)
class Blend:
    """A batch whose clips hold, beside their own `(B,)` shares, some of the clips that have these other `(B,)` labels."""

    batch: Batch
    labels: Tensor
    shares: Tensor


def _blend(values: Tensor, lengths: Tensor, shares: Tensor, layout: Layout | None) -> Tensor:
    """`(B, T, ...)`: each clip with the one before it, whose rows are taken at the same normalised times."""
    steps = torch.arange(values.shape[1])
    theirs = lengths.roll(1)[:, None]
    places = (2 * steps + 1) * theirs // (2 * lengths[:, None]).clamp(min=1)
    others = values.roll(1, 0)[torch.arange(len(values))[:, None], places.clamp(max=max(values.shape[1] - 1, 0))]
    share = shares.view(-1, *[1] * (values.ndim - 1))
    own = (steps < lengths[:, None]).view(*values.shape[:2], *[1] * (values.ndim - 2))
    mixed = own & (share < 1)
    if layout:
        told_by = torch.from_numpy(layout.told_by)
        seen = shown(values, told_by) & own
        mixed = mixed & seen & (shown(others, told_by) | ~seen).all(1, keepdim=True)
    return (share * values + (1 - share) * others).where(mixed, values)


def generator_of(seed: int, epoch: int, text: str) -> Generator:
    """What draws the changes of a clip in an epoch."""
    number = xxhash.xxh64_intdigest(text.encode(errors="surrogateescape"))
    return np.random.default_rng([seed & 0xFFFF_FFFF_FFFF_FFFF, epoch, number])


def refusal(layout: Layout | None, change: str) -> str:
    """Why rows cannot take a change, a field of `Augmentation`, as a body would; empty where they can."""
    if layout is None:
        return "" if change in TIMES else "they are no points that it knows"
    return layout.refusal(change)


@dataclass(frozen=True)
class Variation:
    """Changes the rows of a clip in all stages: `(T, D)` each, which come out longer or shorter but never empty."""

    how: Augmentation
    layouts: Mapping[str, Layout | None]
    seed: int
    epoch: int

    def __call__(self, clip: str, rows: Mapping[str, Array]) -> dict[str, Array]:
        random = generator_of(self.seed, self.epoch, clip)
        curve, kept, drawn = self._curve(random), random.random(4096), self._drawn(random)
        hidden = self._hidden(clip)
        found = {}
        for stage, values in rows.items():
            varied = values[self._places(len(values), curve, kept)] if len(values) else values
            found[stage] = self._varied(varied.astype(np.float32), self.layouts[stage], (drawn, hidden), random) if len(values) else values
        return found

    def _curve(self, random: Generator) -> tuple[Array, float]:
        """Where in the clip each of the knots of the new time lies, 0 to 1, and how long the new clip is against the old."""
        how = self.how
        speeds = np.exp(how.time_warp * random.normal(size=KNOTS))
        times = np.concatenate([[0], np.cumsum(speeds) / speeds.sum()])
        length = 1 - how.crop * random.random()
        begin = (1 - length) * random.random()
        stretch = np.exp(random.uniform(-1, 1) * -np.log1p(-how.resample))
        return begin + length * times, float(length * stretch)

    def _places(self, count: int, curve: tuple[Array, float], kept: Array) -> Array:
        """Rows of the new clip, by their number in the old one: the nearest in time, so that no two are blended."""
        times, growth = curve
        steps = max(round(count * growth), 1)
        at = np.interp((np.arange(steps) + 0.5) / steps, np.linspace(0, 1, len(times)), times)
        places = np.clip(np.floor(at * count), 0, count - 1).astype(np.int64)
        left = places[kept[np.arange(steps) * len(kept) // steps] >= self.how.frame_drop] if self.how.frame_drop else places
        return left if len(left) else places[:1]

    def _hidden(self, clip: str) -> Hidden:
        if not (self.how.time_mask or self.how.box_mask):
            return Hidden()
        return hiding(self.how.time_mask, self.how.box_mask, generator_of(self.seed, self.epoch, f"hidden {clip}"))

    def _drawn(self, random: Generator) -> Drawn:
        how = self.how
        plane, upright = np.radians(random.uniform(-1, 1, 2) * (how.rotate, how.turn))
        across = np.array([[np.cos(plane), -np.sin(plane), 0], [np.sin(plane), np.cos(plane), 0], [0, 0, 1]])
        about = np.array([[np.cos(upright), 0, np.sin(upright)], [0, 1, 0], [-np.sin(upright), 0, np.cos(upright)]])
        growth = 1 + how.scale * random.uniform(-1, 1)
        drawn = Drawn(across @ about, growth, how.shift * random.uniform(-1, 1, 3), bool(random.random() < how.mirror))
        if not how.shear:
            return drawn
        sheared = np.eye(3)
        sheared[0, 1] = how.shear * random.uniform(-1, 1)
        return replace(drawn, turn=drawn.turn @ sheared)

    def _varied(self, rows: Array, layout: Layout | None, how: tuple[Drawn, Hidden], random: Generator) -> Array:
        """`(T, D)` rows with their points moved, noise on them, and parts, times or places left out; what is missing stays so."""
        seen, (drawn, hidden) = np.ones(rows.shape, np.bool_), how
        if layout:
            seen = shown(torch.from_numpy(rows), torch.from_numpy(layout.told_by)).numpy()
            if self.how.bones or self.how.limbs:
                rows = rebuilt(rows, seen, layout, (self.how.bones, self.how.limbs), random)
            if any(getattr(self.how, name) for name in (*BODY, "part_dropout")):
                rows, seen = moved(rows, seen, layout, drawn)
                for part in layout.columns.values():
                    if random.random() < self.how.part_dropout:
                        seen[:, part] = False
        if self.how.jitter:
            deviation = np.ma.masked_array(rows, ~seen).std(0).filled(0)
            rows = rows + self.how.jitter * deviation * random.normal(size=rows.shape).astype(np.float32)
        if hidden != Hidden():
            rows, seen = hide(rows, seen, layout, hidden)
        return np.where(seen, rows, 0).astype(np.float32)
