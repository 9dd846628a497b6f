"""Which columns of a row are joints, and which joint hangs on which, by what the stages say of their rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from pipeline.layouts import Layout, Part

AXES = 3
HAND_PARENTS = (-1, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19)
"""Of MediaPipe's points of a hand; all hang on the wrist."""
POSE_PARENTS = (
    *(11, 0, 1, 2, 0, 4, 5, 3, 6, 0, 9, -1, 11, 11, 12, 13, 14, 15, 16, 15, 16, 15, 16),
    *(11, 12, 23, 24, 25, 26, 27, 28, 29, 30),
)
"""Of its points of a body; all hang on the left shoulder."""
UPPER = 25
"""Of these the first: head, arms and hips."""
KNOWN: Mapping[int, tuple[int, ...]] = {21: HAND_PARENTS, 33: POSE_PARENTS, UPPER: POSE_PARENTS[:UPPER]}
WRISTS: Mapping[str, int] = {"left": 15, "right": 16}
"""Of the body, on which the hands hang."""


@dataclass(frozen=True)
class Joints:
    """`columns` `(J, 3)` of x, y, z of each joint, -1 where it has none; `parents` `(J,)`, a joint that hangs on none being its own."""

    columns: Tensor
    parents: Tensor

    def __len__(self) -> int:
        return len(self.parents)

    def adjacency(self) -> Tensor:
        """`(3, J, J)`: what a joint takes of itself, of the one that it hangs on, and of those that hang on it, evenly."""
        count = len(self)
        above = torch.zeros(count, count)
        above[torch.arange(count), self.parents] = 1
        above.fill_diagonal_(0)
        below = above.T / above.sum(0)[:, None].clamp(min=1)
        return torch.stack([torch.eye(count), above, below])


def joints_of(layouts: Sequence[Layout | None], dims: Sequence[int]) -> Joints:
    """Of the fused rows of stages: the places of their bodies and hands; where a stage has none whose bones are known, any places.

    Of a stage that does not say what its rows are, or has no places, every three values are a joint, none a neighbour of another.
    """
    columns, parents, start = list[list[int]](), list[int](), 0
    for layout, width in zip(layouts, dims, strict=True):
        found = _places(layout, width)
        firsts = dict(
            zip((part.name for part, _ in found), accumulate((part.points for part, _ in found), initial=len(parents)), strict=False)
        )
        for part, first in found:
            columns += _columns(part, start + first, start + width)
            parents += _hung(part, firsts, [other for other, _ in found])
        start += width
    return Joints(torch.tensor(columns), torch.tensor(parents))


def _places(layout: Layout | None, width: int) -> list[tuple[Part, int]]:
    """The parts of a row that are joints, and the column where each begins."""
    found = [(part, layout.columns[part.name].start) for part in layout.parts if part.kind == "place"] if layout else []
    return [(part, first) for part, first in found if _bones(part)] or found or [(Part("any", -(-width // AXES), AXES, AXES), 0)]


def _bones(part: Part) -> tuple[int, ...]:
    return part.parents or KNOWN.get(part.points, ())


def _columns(part: Part, start: int, stop: int) -> list[list[int]]:
    """`(points, 3)`: the columns of each point, of those before `stop`."""
    every = [[start + point * part.size + axis for axis in range(AXES)] for point in range(part.points)]
    return [[column if axis < part.axes and column < stop else -1 for axis, column in enumerate(point)] for point in every]


def _hung(part: Part, firsts: Mapping[str, int], parts: Sequence[Part]) -> list[int]:
    """The joint on which each joint of a part hangs: a hand's wrist on that of the body, where there is one."""
    first = firsts[part.name]
    bones = _bones(part) if len(_bones(part)) == part.points else (-1,) * part.points
    found = [first + (above if above >= 0 else joint) for joint, above in enumerate(bones)]
    body = next((other for other in parts if other.points in (UPPER, 33)), None)
    wrist = next((place for side, place in WRISTS.items() if part.name.startswith(side)), None)
    if body and wrist is not None and part.points == len(HAND_PARENTS):
        found[0] = firsts[body.name] + wrist
    return found
