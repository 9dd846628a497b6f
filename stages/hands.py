"""Landmarks of both hands by MediaPipe's Hands alone, as the INCLUDE-50 ensemble runs it (RohanPatil2/sign-language-recognition)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from pipeline.layouts import LANDMARKS, Layout, Part
from pipeline.types import Array, Extractor
from stages._solutions import Coordinates, Solution, positions, tracker

POINTS = 21
WRIST, KNUCKLE = 0, 9
"""The latter that of the middle finger."""
LEFT, RIGHT = 0, 1
"""Places of a row."""
SIDES: Mapping[str, int] = {"Right": LEFT, "Left": RIGHT}
"""What MediaPipe calls a hand -> the signer's own: it takes every picture for that of a mirror, and a camera shows none."""


class Hands(Solution):
    """`(T, H, W, 3)` uint8 frames -> `(T, 126)` float32, x, y, z of 21 points of the signer's left, then of the right hand.

    The source runs it beside BlazePose, not within Holistic, over frames at 30 a second. MediaPipe tells hands apart as if
    the picture were a mirror: what it calls "Right" is the left hand of a signer before a camera, and comes first here. Of videos
    that are mirrored already, left and right change places. Two hands of one name: the surer is that hand, the other takes the other
    side, or is left out where its wrist is nearer than the length of the surer's palm, for then one hand was found twice.
    `order="detected"` writes all hands in the order of detection, which says nothing of sides, as AI4Bharat's files do. A hand
    that was not found is zeros. `coordinates="world"`: metres from the middle of each hand.
    """

    order: Literal["sides", "detected"] = "sides"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (2 * 3 * POINTS,)

    @property
    def row_layout(self) -> Layout:
        sides = (LANDMARKS["left_hand"], LANDMARKS["right_hand"])
        if self.order == "detected":
            sides = (replace(sides[0], name="hand1", partner=""), replace(sides[1], name="hand2", partner=""))
        return Layout(tuple(map(in_metres, sides)) if self.coordinates == "world" else sides)

    @contextmanager
    def tracked(self) -> Iterator[Callable[[Array], Array]]:
        with self.tracker() as solution:
            yield lambda image: self._row(hands_of(solution.process(image), image.shape[1] / image.shape[0]))

    def tracker(self) -> Any:
        """A fresh one."""
        confidences = {"min_detection_confidence": self.detection_confidence, "min_tracking_confidence": self.tracking_confidence}
        return tracker("hands", "Hands", max_num_hands=2, **confidences)

    def _row(self, found: list[Hand]) -> Array:
        placed = dict(enumerate(found)) if self.order == "detected" else by_name(distinct(found))
        return np.concatenate([placed[side].points(self.coordinates) if side in placed else NONE for side in (LEFT, RIGHT)])


NONE = np.zeros(3 * POINTS, np.float32)


@dataclass(frozen=True)
class Hand:
    """A hand that was found: `(21, 3)` points in the image and in the world; `wrist` and `palm` in units of the image's height."""

    side: int
    sureness: float
    image: Array
    world: Array
    wrist: Array
    palm: float

    def points(self, coordinates: Coordinates) -> Array:
        """`(63,)`."""
        points: Array = (self.image if coordinates == "image" else self.world).reshape(-1)
        return points


def hands_of(found: Any, aspect: float) -> list[Hand]:
    """The hands of a frame in the order of detection; `aspect` is the width of the image by its height."""
    named = (said.classification[0] for said in found.multi_handedness or ())
    every = zip(named, found.multi_hand_landmarks or (), found.multi_hand_world_landmarks or (), strict=True)
    return [_hand(said, positions(image.landmark), positions(world.landmark), aspect) for said, image, world in every]


def _hand(said: Any, image: Array, world: Array, aspect: float) -> Hand:
    flat = image[:, :2] * np.array([aspect, 1.0])
    return Hand(SIDES[said.label], float(said.score), image, world, flat[WRIST], float(np.linalg.norm(flat[KNUCKLE] - flat[WRIST])))


def distinct(found: list[Hand]) -> list[Hand]:
    """The hands, the surest first, without one that has the name of a surer and its wrist within that one's palm."""
    kept: list[Hand] = []
    for hand in sorted(found, key=lambda hand: -hand.sureness):
        if not any(hand.side == other.side and np.linalg.norm(hand.wrist - other.wrist) < other.palm for other in kept):
            kept.append(hand)
    return kept


def by_name(found: list[Hand]) -> dict[int, Hand]:
    """`{place: hand}` of the hands, the surest first: each on its side, or on the other where a surer one took it."""
    placed: dict[int, Hand] = {}
    for hand in found:
        placed.setdefault(hand.side if hand.side not in placed else LEFT + RIGHT - hand.side, hand)
    return placed


def in_metres(part: Part) -> Part:
    """A hand whose points are measured from a place of its own, in one unit on every axis."""
    return replace(part, kind="direction", turns="any")


stage: type[Extractor] = Hands
