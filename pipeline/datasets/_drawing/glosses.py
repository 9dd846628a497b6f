"""The invented signs of the demo corpus: where the hands are, how they are shaped and how they move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Vector: TypeAlias = tuple[float, float, float]
"""Metres from the middle of the shoulders: x to the signer's left (right in the picture), y up, z to the camera."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A hand shape: `curls` of thumb, index, middle, ring and little finger (0 straight, 1 closed), `spread` between fingers in radians."""

    curls: tuple[float, float, float, float, float]
    spread: float


RELAXED = Shape((0.25, 0.30, 0.35, 0.40, 0.45), 0.06)
FLAT = Shape((0.0, 0.0, 0.0, 0.0, 0.0), 0.09)
FIST = Shape((0.9, 1.0, 1.0, 1.0, 1.0), 0.0)
POINT = Shape((0.9, 0.0, 1.0, 1.0, 1.0), 0.0)
VEE = Shape((0.9, 0.0, 0.0, 1.0, 1.0), 0.28)
CLAW = Shape((0.25, 0.45, 0.45, 0.45, 0.45), 0.24)


@dataclass(frozen=True, slots=True)
class Stroke:
    """What one hand does; the wrist at `s` in 0..1 of the movement, with a = 2 pi (turns s + phase), is at
    `place + drift s + swing sin(a) + lift (1 - cos(a)) / 2`: straight lines, circles, zigzags and taps are all of this form.

    `fingers` and `palm` are the directions in which the fingers and the palm look, `opened` those at the end of the movement.
    """

    shape: Shape
    place: Vector
    fingers: Vector
    palm: Vector
    drift: Vector = (0.0, 0.0, 0.0)
    swing: Vector = (0.0, 0.0, 0.0)
    lift: Vector = (0.0, 0.0, 0.0)
    turns: float = 1.0
    phase: float = 0.0
    opened: tuple[Vector, Vector] | None = None

    def mirrored(self, phase: float = 0.0) -> Stroke:
        """The same stroke of the other hand, `phase` turns ahead."""
        place, fingers, palm, drift, swing, lift = map(_mirror, (self.place, self.fingers, self.palm, self.drift, self.swing, self.lift))
        opened = None if self.opened is None else (_mirror(self.opened[0]), _mirror(self.opened[1]))
        return Stroke(self.shape, place, fingers, palm, drift, swing, lift, self.turns, self.phase + phase, opened)


@dataclass(frozen=True, slots=True)
class Gloss:
    """A sign: its stroke takes `seconds` at common tempo; `left` is None where the left hand rests."""

    name: str
    seconds: float
    right: Stroke
    left: Stroke | None = None


def _mirror(vector: Vector) -> Vector:
    return (-vector[0], vector[1], vector[2])


HELLO = Gloss(  # a flat hand waves beside the head
    "HELLO", 0.85, Stroke(FLAT, (-0.30, 0.13, 0.20), (0.0, 1.0, 0.1), (0.0, 0.0, 1.0), swing=(0.12, 0.0, 0.0), turns=2.0)
)
THANKS = Gloss(  # a flat hand goes from the chin forward and down
    "THANKS",
    0.55,
    Stroke(
        FLAT,
        (-0.08, 0.03, 0.17),
        (0.1, 1.0, 0.1),
        (0.0, 0.0, -1.0),
        drift=(-0.10, -0.26, 0.20),
        opened=((-0.2, 0.8, 0.9), (0.0, 1.0, -0.6)),
    ),
)
YES = Gloss(  # a fist knocks three times in front of the shoulder
    "YES", 0.95, Stroke(FIST, (-0.28, 0.02, 0.24), (0.0, 1.0, 0.2), (0.1, 0.0, 1.0), lift=(0.0, -0.18, 0.05), turns=3.0)
)
PLEASE = Gloss(  # a flat hand circles on the chest
    "PLEASE",
    0.85,
    Stroke(FLAT, (-0.14, -0.33, 0.16), (1.0, 0.35, 0.1), (0.0, 0.0, -1.0), swing=(0.10, 0.0, 0.0), lift=(0.0, 0.24, 0.0), turns=2.0),
)
LOOK = Gloss(  # two fingers go from the eyes outwards
    "LOOK",
    0.42,
    Stroke(
        VEE, (-0.15, 0.06, 0.18), (0.0, 1.0, 0.1), (0.0, 0.0, 1.0), drift=(-0.27, 0.12, 0.10), opened=((-0.4, 1.0, 0.3), (0.0, 0.0, 1.0))
    ),
)
_PAGE = Stroke(
    FLAT, (-0.04, -0.20, 0.27), (0.1, 1.0, 0.25), (1.0, 0.0, 0.15), drift=(-0.25, 0.0, 0.02), opened=((-0.35, 1.0, 0.2), (0.1, 0.0, 1.0))
)
BOOK = Gloss("BOOK", 0.55, _PAGE, _PAGE.mirrored())  # two flat hands open from the middle
_FINGER = Stroke(POINT, (-0.16, -0.24, 0.24), (0.35, 1.0, 0.2), (0.1, 0.0, 1.0), swing=(-0.10, 0.0, 0.0), lift=(0.0, 0.26, 0.0), turns=2.0)
SIGN = Gloss("SIGN", 0.90, _FINGER, _FINGER.mirrored(phase=0.5))  # two pointing hands circle in turn
_DROPS = Stroke(CLAW, (-0.27, 0.16, 0.22), (0.1, 1.0, 0.3), (0.0, 0.0, 1.0), drift=(0.0, -0.42, 0.05), swing=(0.08, 0.0, 0.0), turns=3.0)
RAIN = Gloss("RAIN", 0.95, _DROPS, _DROPS.mirrored())  # two clawed hands zigzag down from the head

GLOSSES = {gloss.name: gloss for gloss in (HELLO, THANKS, YES, PLEASE, LOOK, BOOK, SIGN, RAIN)}
