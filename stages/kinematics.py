"""How body and hands are held and move: features of RohanPatil2/sign-language-recognition (INCLUDE-50), from any landmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Literal, TypeAlias, get_args

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pipeline import layouts
from pipeline.errors import UserError
from pipeline.types import STAGE_PREFIX, Array, Extractor, Frame
from stages._motion import aligned, bridged, cosines, difference, hull_shapes, smoothed
from stages._points import FIGURES, KNUCKLE, Figure, Layout, Part, frame_of_reference, parts_of

Group: TypeAlias = Literal["absolute", "angles", "motion", "shape", "trajectory", "pose", "local"]
GROUPS: tuple[Group, ...] = get_args(Group)
SOURCES_OWN = GROUPS[:-1]


class Kinematics(Extractor):
    """`(T, D)` landmark rows -> `(T, 565)` float32: absolute 126, angles 78, motion 252, shape 4, trajectory 30, pose 75.

    Of holistic and keypoints (z = 0), in that order, the groups of `groups` only, left hand (or first) before right:
    absolute, 42 hand points x 3 from the clip's origin in its unit (`normalize`); angles, cosines at 13 finger joints a hand
    in the planes xy, yz, xz; motion, change of the absolute values a row, then change of that; shape, circularity and
    rectangularity of each hand's convex hull; trajectory, ten points of the arms, unsmoothed, aligned by dynamic time
    warping to their own smoothed path (`aligned`); pose, 25 points of head, arms and hips. Of a skeleton: absolute 60,
    angles 42 (14 joints), motion 120, trajectory 30; it has neither shape nor pose, and its rows are 252 long. Not the source's,
    so only where asked: local 126, hand points from their own wrist, in units of the hand's median length in the clip.

    The first 490 values, `groups=absolute,angles,motion,shape,trajectory`, are the block that the source describes: 42 hand points,
    26 angle triples, velocity and acceleration, two numbers of each hand's shape, ten paths; centroid-aligned, scaled by the largest
    distance, Savitzky-Golay (11, 3). It names neither the triples, the three values of each, the ten points, nor what the paths are
    aligned to, and has no code of it: 13 joints a hand in three planes, arm points and each path's own smoothed form are chosen here.

    Everything but the trajectory is of points smoothed by Savitzky-Golay (`window`, `order`) within each stretch of frames
    that show the part, never across a gap. A part that is not seen has zeros in every group; with `missing="interpolate"` its
    points are then on lines between the frames that show it, and only a part that no frame shows has zeros. x and z are
    multiplied by `aspect`, the width of the image by its height (1.7778 for 16:9), so that lengths compare. `layout` is how
    the source's rows are written: by default what its name says, `stage:keypoints`, `stage:skeleton`, else holistic.
    """

    source: str = "stage:holistic"
    layout: Literal["source", "holistic", "keypoints", "skeleton"] = "source"
    groups: tuple[Group, ...] = SOURCES_OWN
    normalize: Literal["centroid", "shoulder"] = "centroid"
    missing: Literal["zero", "interpolate"] = "zero"
    aspect: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    window: Annotated[int, Field(ge=3)] = 11
    order: PositiveInt = 3
    axes: Literal[2, 3] = 3
    """2 leaves out every z, and angles but those in the plane xy: of points without depth the rest says nothing."""

    @model_validator(mode="after")
    def _fits(self) -> Kinematics:
        if self.window % 2 == 0 or self.window <= self.order:
            raise UserError(f"stage 'kinematics': window={self.window} must be odd and more than order={self.order}")
        if not self.source.startswith(STAGE_PREFIX):
            raise UserError(f"stage 'kinematics': source={self.source!r} is no stage; give one of landmarks, as in source=stage:holistic")
        if not self._columns():
            raise UserError(f"stage 'kinematics': groups={','.join(self.groups)} leaves nothing of {self._layout} rows")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (sum(self._columns().values()),)

    @property
    def _layout(self) -> Layout:
        if self.layout != "source":
            return self.layout
        named: Mapping[str, Layout] = {"stage:keypoints": "keypoints", "stage:skeleton": "skeleton"}
        return named.get(self.source, "holistic")

    @property
    def row_layout(self) -> layouts.Layout:
        columns, figure, axes = self._columns(), FIGURES[self._layout], self.axes
        hands = "body" not in figure.moving
        turns: layouts.Turns = "any" if figure.is_spatial and axes == 3 else "plane"
        angle_turns: layouts.Turns = "plane" if axes == 2 else "never"
        hand_turns: layouts.Turns = "any" if self._layout == "holistic" and axes == 3 else "plane"
        pairs, limbs = ((), ()) if hands else (layouts.KINECT_PAIRS, layouts.LIMB_PAIRS)
        key_pairs = layouts.POSE_KEY_PAIRS if hands else layouts.KINECT_KEY_PAIRS
        pose_pairs = tuple(pair for pair in layouts.POSE_PAIRS if pair[1] < figure.pose)
        told_by = next((group for group in ("absolute", "local", "angles") if group in columns), None)
        part, points = partial(layouts.Part, axes=axes, size=axes, turns=turns), figure.points
        rate = partial(part, points=points, kind="change", pairs=pairs, told_by=told_by, is_rate=True)
        every: Mapping[Group, Sequence[layouts.Part]] = {
            "absolute": [part("absolute", points, pairs=pairs)],
            "angles": [layouts.Part("angles", len(figure.triples), 0, self._size("angles"), "number", angle_turns, limbs)],
            "motion": [rate("velocity"), rate("acceleration")],
            "shape": [layouts.Part("shape", 1, 0, 2, "number", "plane", told_by=told_by)],
            "trajectory": [part("trajectory", len(figure.key), pairs=key_pairs)],
            "pose": [part("pose", figure.pose, pairs=pose_pairs)],
            "local": [part("local", points, kind="direction", turns=hand_turns)],
        }
        parts = [(one, hands and group not in ("trajectory", "pose")) for group in columns for one in every[group]]
        return layouts.Layout(tuple(side for one, is_hand in parts for side in (layouts.both(one) if is_hand else (one,))))

    def _columns(self) -> dict[Group, int]:
        """Values of each wanted group that the figure has, in the order of a row."""
        figure = FIGURES[self._layout]
        parts, points = len(figure.moving), len(figure.moving) * figure.points
        hands = 0 if "body" in figure.moving else parts
        every: Mapping[Group, int] = {
            "absolute": points * self._size("absolute"),
            "angles": parts * len(figure.triples) * self._size("angles"),
            "motion": 2 * points * self._size("motion"),
            "shape": 2 * hands,
            "trajectory": len(figure.key) * self._size("trajectory"),
            "pose": figure.pose * self._size("pose"),
            "local": hands * figure.points * self._size("local"),
        }
        return {group: every[group] for group in GROUPS if group in self.groups and every[group]}

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        rows = [tracks[0] for tracks in frames]
        if not rows:
            return
        figure = FIGURES[self._layout]
        raw = parts_of(np.stack(rows), self._layout, self.aspect)
        smooth = {name: self._smoothed(part) for name, part in raw.items()}
        origin, unit = frame_of_reference(smooth, figure, self.normalize)
        placed, unsmoothed = ({name: self._placed(part, origin, unit) for name, part in parts.items()} for parts in (smooth, raw))
        makers: Mapping[Group, Callable[[], Array]] = {
            "absolute": lambda: _flat(placed, figure),
            "angles": lambda: _masked(placed, figure, lambda part: cosines(part.positions, figure.triples)),
            "motion": lambda: _motion(placed, figure),
            "shape": lambda: _masked(placed, figure, lambda part: hull_shapes(part.positions)),
            "trajectory": lambda: _trajectory(unsmoothed["body"], placed["body"], figure),
            "pose": lambda: placed["body"].positions[:, : figure.pose].reshape(len(rows), -1),
            "local": lambda: _masked(placed, figure, _from_wrist),
        }
        yield from np.concatenate([self._kept(group, makers[group]()) for group in self._columns()], axis=1).astype(np.float32)

    def _kept(self, group: Group, values: Array) -> Array:
        """`(T, D)` values of a group -> those of them that `axes` asks for."""
        if group == "shape":
            return values
        return values.reshape(len(values), -1, 3)[:, :, : self._size(group)].reshape(len(values), -1)

    def _size(self, group: Group) -> int:
        """Values of a point, or of a joint."""
        return 1 if group == "angles" and self.axes == 2 else self.axes

    def _smoothed(self, part: Part) -> Part:
        flat = part.positions.reshape(len(part.positions), -1)
        return Part(smoothed(flat, part.seen, self.window, self.order).reshape(part.positions.shape), part.seen)

    def _placed(self, part: Part, origin: Array, unit: float) -> Part:
        """The part in the clip's frame of reference; where it is not seen it stays zero, or is bridged."""
        placed = np.where(part.seen[:, None, None], (part.positions - origin) / unit, 0)
        if self.missing == "zero" or not part.seen.any():
            return Part(placed, part.seen)
        return Part(bridged(placed.reshape(len(placed), -1), part.seen).reshape(placed.shape), np.ones_like(part.seen))


def _flat(parts: Mapping[str, Part], figure: Figure) -> Array:
    return np.concatenate([parts[name].positions.reshape(len(parts[name].seen), -1) for name in figure.moving], axis=1)


def _masked(parts: Mapping[str, Part], figure: Figure, feature: Callable[[Part], Array]) -> Array:
    """A feature of every moving part, zero where the part is not seen."""
    return np.concatenate([np.where(parts[name].seen[:, None], feature(parts[name]), 0) for name in figure.moving], axis=1)


def _motion(parts: Mapping[str, Part], figure: Figure) -> Array:
    velocities = {name: difference(parts[name].positions.reshape(len(parts[name].seen), -1), parts[name].seen) for name in figure.moving}
    accelerations = [difference(velocity, parts[name].seen) for name, velocity in velocities.items()]
    return np.concatenate([*velocities.values(), *accelerations], axis=1)


def _from_wrist(hand: Part) -> Array:
    """`(T, 63)`: a hand's points from its wrist, by the median way from there to the middle finger's knuckle in the image."""
    points = hand.positions - hand.positions[:, :1]
    lengths = np.linalg.norm(points[hand.seen, KNUCKLE, :2], axis=1)
    unit = float(np.median(lengths)) if len(lengths) else 1.0
    return (points / max(unit, 1e-3)).reshape(len(points), -1)


def _trajectory(raw: Part, smooth: Part, figure: Figure) -> Array:
    """Paths of the key points over the frames that show the body; zeros in the others."""
    seen, key = raw.seen, list(figure.key)
    path = np.zeros((len(seen), 3 * len(key)))
    before, after = (part.positions[seen][:, key].reshape(int(seen.sum()), -1) for part in (raw, smooth))
    path[seen] = aligned(before, after)
    return path


stage: type[Extractor] = Kinematics
