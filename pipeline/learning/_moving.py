"""Points of rows moved as a body or a camera moves them: mirrored, turned, grown, shifted, and with other bones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import Generator
from scipy.spatial.transform import Rotation

from pipeline.layouts import Kind, Layout, Part
from pipeline.types import Array


@dataclass(frozen=True)
class Drawn:
    """How the points of a clip turn and are sheared, `(3, 3)`, and grow; their shift in deviations, `(3,)`; whether they are mirrored."""

    turn: Array
    growth: float
    shift: Array
    is_mirrored: bool

    def matrix(self, kind: Kind) -> Array:
        """What a point of this kind is multiplied by, `(3, 3)`."""
        mirror = np.diag([-1.0 if self.is_mirrored else 1.0, 1, 1])
        if kind == "spin":
            return np.asarray(np.linalg.det(mirror) * self.turn @ mirror)
        return np.asarray((1 if kind == "direction" else self.growth) * self.turn @ mirror)


def moved(rows: Array, seen: Array, layout: Layout, drawn: Drawn) -> tuple[Array, Array]:
    """`(T, D)` rows whose points are mirrored, turned, grown and shifted, and which of their values are seen."""
    rows = rows.copy()
    if drawn.is_mirrored:
        rows, seen = rows[:, layout.swapped], seen[:, layout.swapped]
    middle, spread = _middle(rows, seen, layout)
    for part in layout.parts:
        if part.kind != "number":
            points, matrix = points_of(rows, layout, part), drawn.matrix(part.kind)[: part.axes, : part.axes]
            centre, shift = (_placed(part, values) for values in (middle, drawn.shift * spread))
            points[:] = (points - centre) @ matrix.T + centre + shift
    return rows, seen


def points_of(rows: Array, layout: Layout, part: Part) -> Array:
    """`(T, points, axes)` of a part, a view of its `(T, D)` rows."""
    points: Array = rows[:, layout.columns[part.name]].reshape(len(rows), part.points, part.size)[..., : part.axes]
    return points


def _placed(part: Part, values: Array) -> Array:
    """`(axes,)` of x, y, z: those along which the places of a part have one origin with all others, zeros along the rest."""
    shared = np.array([1, 1, part.turns == "any"]) * (part.kind == "place")
    return np.asarray(values * shared)[: part.axes]


def _middle(rows: Array, seen: Array, layout: Layout) -> tuple[Array, Array]:
    """`(3,)` mean and `(3,)` deviation of all places that are seen in a clip."""
    found = [np.zeros((0, 3))]
    for part in layout.parts:
        if part.kind == "place":
            there = seen[:, layout.columns[part.name].start]
            points = points_of(rows, layout, part)[there].reshape(-1, part.axes)
            found.append(np.pad(points, ((0, 0), (0, 3 - part.axes))))
    points = np.concatenate(found)
    return (points.mean(0), points.std(0)) if len(points) else (np.zeros(3), np.zeros(3))


def rebuilt(rows: Array, seen: Array, layout: Layout, most: tuple[float, float], random: Generator) -> Array:
    """`(T, D)` rows whose bones are longer or shorter by up to a share, `most[0]`, and turn by up to degrees, `most[1]`."""
    rows = rows.copy()
    for part in layout.parts:
        if part.parents:
            points, there = points_of(rows, layout, part), seen[:, layout.columns[part.name].start]
            points[there] = _with_other_bones(points[there], part.parents, most, random)
    return rows


def _with_other_bones(points: Array, parents: tuple[int, ...], most: tuple[float, float], random: Generator) -> Array:
    above = np.array(parents)
    hangs = (above >= 0)[:, None]
    axes, angles = random.normal(size=points.shape[1:]), most[1] * random.uniform(-1, 1, hangs.shape) * hangs
    turns = Rotation.from_rotvec(angles * axes / np.linalg.norm(axes, axis=1, keepdims=True), degrees=True).as_matrix()
    growth = 1 + most[0] * random.uniform(-1, 1, hangs.shape) * hangs
    order = [joint for joint in _from_root(parents) if hangs[joint]]
    for joint in order:
        turns[joint] = turns[joint] @ turns[above[joint]]
    changes = np.einsum("tpi,pji->tpj", points - points[:, above], growth[:, :, None] * turns - np.eye(3))
    for joint in order:
        changes[:, joint] += changes[:, above[joint]]
    return np.asarray(points + changes)


@cache
def _from_root(parents: tuple[int, ...]) -> tuple[int, ...]:
    """Every joint after the one that it hangs on."""
    found: list[int] = []
    while len(found) < len(parents):
        found += [joint for joint, parent in enumerate(parents) if joint not in found and (parent < 0 or parent in found)]
    return tuple(found)
