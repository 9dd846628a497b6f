"""Training clips varied anew in every epoch, each from (seed, epoch, id) alone; off by default, and never where a clip scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import numpy as np
import torch
import xxhash
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field
from scipy.spatial.transform import Rotation
from torch import Tensor

from pipeline.batch import Batch
from pipeline.data import Table
from pipeline.errors import UserError
from pipeline.layouts import Layout, layout_of
from pipeline.types import Array

Share = Annotated[float, Field(ge=0, lt=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Degrees = Annotated[float, Field(ge=0, le=180)]
KNOTS = 5
"""Places of a clip where a warped time has a speed of its own."""
GEOMETRY = ("mirror", "rotate", "turn", "scale", "shift", "part_dropout")
SKELETAL = ("bones", "limbs")


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
    mixup: Amount = 0.0
    """Above 0: every clip is blended with another of its batch, by shares of Beta(mixup, mixup), and so are their losses."""

    def variation(self, train: Table, epoch: int) -> Variation | None:
        """What changes the clips of an epoch; None where all is off. Raises UserError where a stage's rows are no points."""
        if not any(getattr(self, name) for name in Augmentation.model_fields if name != "mixup"):
            return None
        layouts = {stage: _layout(train, stage) for stage in train.stages}
        self._refuse(GEOMETRY + SKELETAL, layouts, any(layouts.values()), "rows", "no points")
        self._refuse(SKELETAL, layouts, any(layout and layout.parents for layout in layouts.values()), "bones", "not known")
        return Variation(self, layouts, train.seed, epoch)

    def _refuse(self, names: Sequence[str], stages: Iterable[str], are_there: bool, what: str, are: str) -> None:
        """Raise UserError where one of the fields is on that moves what is not there."""
        moving = {name: getattr(self, name) for name in names if getattr(self, name)}
        if moving and not are_there:
            said, off = ", ".join(f"{name}={value}" for name, value in moving.items()), " ".join(f"--set {name}=0" for name in moving)
            raise UserError(f"the {what} of {', '.join(stages)} are {are}, which an augmentation moves ({said}); leave it out: {off}")

    def blended(self, batch: Batch, seed: int, epoch: int) -> Blend | None:
        """The clips of a batch, each with a share of the one before it; None where that is off."""
        if not self.mixup:
            return None
        shares = torch.tensor([_random(seed, epoch, f"mixup {clip}").beta(self.mixup, self.mixup) for clip in batch.ids]).float()
        shares = torch.maximum(shares, 1 - shares)  # the clip itself is the larger part
        for lengths in batch.lengths.values():
            shares = shares.where((lengths > 0) & (lengths.roll(1) > 0), 1)
        features = {stage: _blend(values, batch.lengths[stage], shares) for stage, values in batch.features.items()}
        return Blend(replace(batch, features=features), batch.labels.roll(1), shares)


@dataclass(frozen=True)
class Blend:
    """A batch whose clips hold, beside their own `(B,)` shares, some of the clips that have these other `(B,)` labels."""

    batch: Batch
    labels: Tensor
    shares: Tensor


def _blend(values: Tensor, lengths: Tensor, shares: Tensor) -> Tensor:
    """`(B, T, ...)`: each clip with the one before it, whose rows are taken at the same normalised times."""
    steps = torch.arange(values.shape[1])
    theirs = lengths.roll(1)[:, None]
    places = (2 * steps + 1) * theirs // (2 * lengths[:, None]).clamp(min=1)
    others = values.roll(1, 0)[torch.arange(len(values))[:, None], places.clamp(max=max(values.shape[1] - 1, 0))]
    share = shares.view(-1, *[1] * (values.ndim - 1))
    own = (steps < lengths[:, None]).view(*values.shape[:2], *[1] * (values.ndim - 2))
    return (share * values + (1 - share) * others).where(own & (share < 1), values)


def _random(seed: int, epoch: int, text: str) -> Generator:
    number = xxhash.xxh64_intdigest(text.encode(errors="surrogateescape"))
    return np.random.default_rng([seed & 0xFFFF_FFFF_FFFF_FFFF, epoch, number])


def _layout(train: Table, stage: str) -> Layout | None:
    """Where the points of a stage's rows are, by what is published of it."""
    said: Any = getattr(train.stages[stage], "said", None)
    kind, fields = (said.stage, said.identity["fields"]) if said else (stage, {})
    shape = train.row_shapes[stage]
    return layout_of(kind, shape[0], fields) if len(shape) == 1 else None


@dataclass(frozen=True)
class Variation:
    """Changes the rows of a clip in all stages: `(T, D)` each, which come out longer or shorter but never empty."""

    how: Augmentation
    layouts: Mapping[str, Layout | None]
    seed: int
    epoch: int

    def __call__(self, clip: str, rows: Mapping[str, Array]) -> dict[str, Array]:
        random = _random(self.seed, self.epoch, clip)
        curve, kept, drawn = self._curve(random), random.random(4096), self._drawn(random)
        found = {}
        for stage, values in rows.items():
            varied = values[self._places(len(values), curve, kept)] if len(values) else values
            found[stage] = self._varied(varied.astype(np.float32), self.layouts[stage], drawn, random) if len(values) else values
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

    def _drawn(self, random: Generator) -> tuple[Array, Array, bool]:
        """The turning and growing of points, `(3, 3)`; their shift in deviations, `(3,)`; whether they are mirrored."""
        how = self.how
        plane, upright = np.radians(random.uniform(-1, 1, 2) * (how.rotate, how.turn))
        across = np.array([[np.cos(plane), -np.sin(plane), 0], [np.sin(plane), np.cos(plane), 0], [0, 0, 1]])
        about = np.array([[np.cos(upright), 0, np.sin(upright)], [0, 1, 0], [-np.sin(upright), 0, np.cos(upright)]])
        growth = 1 + how.scale * random.uniform(-1, 1)
        shift, is_mirrored = how.shift * random.uniform(-1, 1, 3), bool(random.random() < how.mirror)
        return growth * across @ about, shift, is_mirrored

    def _varied(self, rows: Array, layout: Layout | None, drawn: tuple[Array, Array, bool], random: Generator) -> Array:
        """`(T, D)` rows with their points moved, noise on them, and parts left out; what was not seen (zero) stays so."""
        seen = rows != 0
        if layout and layout.parents and (self.how.bones or self.how.limbs):
            rows = _rebuilt(rows, layout, self.how, random)
        if layout and (layout.positions or layout.directions) and any(getattr(self.how, name) for name in GEOMETRY):
            rows, seen = _moved(rows, seen, layout, drawn)
            for part in layout.parts:
                if random.random() < self.how.part_dropout:
                    seen[:, part] = False
        if self.how.jitter:
            rows = rows + self.how.jitter * rows.std(0) * random.normal(size=rows.shape).astype(np.float32)
        return np.where(seen, rows, 0).astype(np.float32)


def _moved(rows: Array, seen: Array, layout: Layout, drawn: tuple[Array, Array, bool]) -> tuple[Array, Array]:
    """Rows whose points are mirrored, turned, grown and shifted, and which of their values are seen."""
    matrix, shift, is_mirrored = drawn
    rows = rows.copy()
    if is_mirrored:
        rows, seen = rows[:, layout.swapped], seen[:, layout.swapped]
        matrix = matrix @ np.diag([-1.0, 1, 1])
    for columns, is_place in ((layout.positions, True), (layout.directions, False)):
        if columns:
            places = np.array(columns)
            there = places >= 0
            points = np.where(there, rows[:, places], 0)  # (T, P, 3)
            shown: Array = np.any(seen[:, places] & there, axis=2)
            middle = points[shown].mean(0) if is_place and shown.any() else np.zeros(3)
            spread = points[shown].std(0) if is_place and shown.any() else np.zeros(3)
            moved = (points - middle) @ matrix.T + middle + shift * spread
            rows[:, places[there]] = np.where(shown[:, :, None], moved, points)[:, there]
            seen = seen.copy()
            seen[:, places[there]] = np.broadcast_to(shown[:, :, None], points.shape)[:, there]
    return rows, seen


def _rebuilt(rows: Array, layout: Layout, how: Augmentation, random: Generator) -> Array:
    """Rows whose bones have other lengths and directions; a bone of which one end is not seen only moves along."""
    places, parents = np.array(layout.positions), np.array(layout.parents)
    points = rows[:, places]  # (T, P, 3)
    shown: Array = np.any(points != 0, axis=2)
    hangs = (parents >= 0)[:, None]
    axes, angles = random.normal(size=points.shape[1:]), how.limbs * random.uniform(-1, 1, hangs.shape) * hangs
    turns = Rotation.from_rotvec(angles * axes / np.linalg.norm(axes, axis=1, keepdims=True), degrees=True).as_matrix()
    growth = 1 + how.bones * random.uniform(-1, 1, hangs.shape) * hangs
    order = [joint for joint in _from_root(layout.parents) if hangs[joint]]
    for joint in order:
        turns[joint] = turns[joint] @ turns[parents[joint]]
    changes = np.einsum("tpi,pji->tpj", points - points[:, parents], growth[:, :, None] * turns - np.eye(3))
    moved = np.where((shown & shown[:, parents])[:, :, None], changes, 0)
    for joint in order:
        moved[:, joint] += moved[:, parents[joint]]
    rows = rows.copy()
    rows[:, places] = np.where(shown[:, :, None], points + moved, points)
    return rows


@cache
def _from_root(parents: tuple[int, ...]) -> tuple[int, ...]:
    """Every joint after the one that it hangs on."""
    found: list[int] = []
    while len(found) < len(parents):
        found += [joint for joint, parent in enumerate(parents) if joint not in found and (parent < 0 or parent in found)]
    return tuple(found)
