"""Body by BlazePose and hands by Hands, MediaPipe's separate solutions, as the INCLUDE-50 ensemble reads its videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from typing import Literal

import numpy as np

from pipeline.layouts import LANDMARKS, Layout
from pipeline.types import Array, Extractor
from stages._solutions import Solution
from stages.blazepose import POINTS, BlazePose, body
from stages.hands import LEFT, NONE, RIGHT, WRIST, Hand, Hands, by_name, distinct, hands_of

WRISTS = (15, 16)
"""Left and right, among the points of the body."""


class PoseHands(Solution):
    """`(T, H, W, 3)` uint8 frames -> `(T, 258)` float32: body 132 as of `blazepose`, left hand 63 and right hand 63 as of `hands`.

    The rows of `holistic` without the face (`kinematics` reads them with `source=stage:pose_hands`), from the two solutions that
    RohanPatil2/sign-language-recognition runs side by side: hands are found anywhere in the picture, not where the body says.
    `sides="wrist"` gives each hand to the nearer wrist of the body, of two the pairing whose distances sum up to less, and goes
    by MediaPipe's name of it where nobody is found; `"name"` always does. `coordinates="world"`: metres from the middle of the
    hips, each hand moved so that its wrist is that of the body; hands are zeros where no body is. Of metres, `kinematics` takes
    `aspect=1`.
    """

    sides: Literal["wrist", "name"] = "wrist"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (4 * POINTS + 2 * len(NONE),)

    @property
    def row_layout(self) -> Layout:
        turns: Literal["any", "never"] = "any" if self.coordinates == "world" else "never"
        return Layout(tuple(replace(LANDMARKS[part], turns=turns) for part in ("pose", "left_hand", "right_hand")))

    @contextmanager
    def tracked(self) -> Iterator[Callable[[Array], Array]]:
        shared = self.model_dump(exclude={"sides"})
        with BlazePose(**shared).tracker() as pose, Hands(**shared).tracker() as hands:

            def row_of(image: Array) -> Array:
                aspect = image.shape[1] / image.shape[0]
                found, seen = pose.process(image), distinct(hands_of(hands.process(image), aspect))
                wrists = _points(body(found, "image"))[WRISTS, :2] * np.array([aspect, 1.0])
                placed = by_wrist(seen, wrists) if self.sides == "wrist" and wrists.any() else by_name(seen)
                return self._row(body(found, self.coordinates), placed)

            yield row_of

    def _row(self, points: Array, placed: dict[int, Hand]) -> Array:
        hands = {side: hand.points(self.coordinates) for side, hand in placed.items()}
        if self.coordinates == "world":
            hands = {side: _hung(hand, _points(points)[WRISTS[side]]) for side, hand in hands.items() if points.any()}
        return np.concatenate([points, hands.get(LEFT, NONE), hands.get(RIGHT, NONE)])


def by_wrist(found: list[Hand], wrists: Array) -> dict[int, Hand]:
    """`{place: hand}` of two hands at most, nearest in all to the `(2, 2)` left and right wrist of the body."""
    sides = [dict(zip(order, found, strict=True)) for order in permutations((LEFT, RIGHT), len(found))]
    return min(sides, key=lambda placed: sum(float(np.linalg.norm(hand.wrist - wrists[side])) for side, hand in placed.items()))


def _points(row: Array) -> Array:
    """`(33, 3)` of `(132,)` values of the body."""
    return row.reshape(POINTS, 4)[:, :3]


def _hung(hand: Array, wrist: Array) -> Array:
    """`(63,)` values of a hand, moved so that its wrist lies there."""
    points = hand.reshape(-1, 3)
    moved: Array = (points - points[WRIST] + wrist).reshape(-1)
    return moved


stage: type[Extractor] = PoseHands
