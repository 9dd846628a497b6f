"""What the values of a row are: parts, in them points, directions or numbers, and what tells that a part is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Kind: TypeAlias = Literal["place", "change", "direction", "spin", "number"]
"""Places turn, grow and shift; changes of places and accelerations turn and grow; directions turn. So does a spin, the axis and speed
of a turning, of which a mirror leaves the x that it flips of all others and flips the rest. Numbers stay."""
Turns: TypeAlias = Literal["any", "plane", "never"]
"""How points may be turned, and how a body may turn whose numbers stay as they are: any way where x, y and z have one unit and one
origin; in the plane of x and y where only these have; never where these are fractions of the width and height of a picture."""
Pairs: TypeAlias = Sequence[tuple[int, int]]
POSE_PAIRS: Pairs = ((1, 4), (2, 5), (3, 6), (7, 8), (9, 10), *((left, left + 1) for left in range(11, 33, 2)))
"""Left and right points of MediaPipe's pose."""
KINECT_PAIRS: Pairs = tuple((left, left + 4) for left in (4, 5, 6, 7, 12, 13, 14, 15))
KINECT_PARENTS = (1, 2, 3, -1, *(1, 4, 5, 6), *(1, 8, 9, 10), *(3, 12, 13, 14), *(3, 16, 17, 18))
"""Of each of a Kinect's joints the one that it hangs on; all hang on the hip centre."""
POSE_KEY_PAIRS: Pairs = tuple((left, left + 1) for left in range(0, 10, 2))
"""Of shoulders, elbows, wrists, little and index fingers."""
KINECT_KEY_PAIRS: Pairs = tuple((left, left + 4) for left in (2, 3, 4, 5))
"""Of head, hip centre, and shoulder, elbow, wrist, hand of both arms."""
LIMB_PAIRS: Pairs = ((2, 5), (3, 6), (4, 7), (8, 11), (9, 12), (10, 13))
"""Of 14 joints of a Kinect's skeleton: neck, spine, and shoulder, elbow, wrist, hip, knee, ankle of both sides."""
TIMES = ("time_warp", "resample", "frame_drop")
"""Changes of time at which a change a row, which was stored, is no longer that of the rows."""


@dataclass(frozen=True)
class Part:
    """Values beside one another that are there or missing together: `points` of `size` values, of which the first `axes` are x, y, z."""

    name: str
    points: int
    axes: int
    size: int
    kind: Kind = "place"
    turns: Turns = "never"
    pairs: Pairs | None = ()
    """Left and right points, which change places in a mirror; None where they are not known."""
    partner: str = ""
    """The part of the same form with which this one changes places in a mirror."""
    told_by: str | None = ""
    """The part that holds nothing but zeros, or no numbers, where this one is missing; empty: this one. None: it never is missing."""
    is_rate: bool = False
    """Whether its values are changes from row to row."""
    parents: tuple[int, ...] = ()
    """Of each point the one that it hangs on by a bone, -1 where there is none; empty where that is not known."""


@dataclass(frozen=True)
class Layout:
    """The parts of a row in their order."""

    parts: tuple[Part, ...]

    @cached_property
    def columns(self) -> Mapping[str, slice]:
        """Where each part lies."""
        found, start = {}, 0
        for part in self.parts:
            found[part.name] = slice(start, start + part.points * part.size)
            start = found[part.name].stop
        return found

    @property
    def width(self) -> int:
        return sum(part.points * part.size for part in self.parts)

    @cached_property
    def swapped(self) -> NDArray[np.int64]:
        """`(D,)`: for each column the one whose value it takes in a mirror."""
        found = np.arange(self.width)
        for part in self.parts:
            points = np.arange(part.points)
            for left, right in part.pairs or ():
                points[[left, right]] = right, left
            start = self.columns[part.partner if part.partner in self.columns else part.name].start
            found[self.columns[part.name]] = (start + points[:, None] * part.size + np.arange(part.size)).reshape(-1)
        return found

    @cached_property
    def told_by(self) -> NDArray[np.int64]:
        """`(D, 2)`: for each column from which to which one tells that it is missing, by zeros; the same twice where it never is."""
        found = np.zeros((self.width, 2), np.int64)
        for part in self.parts:
            if part.told_by is not None:
                teller = self.columns[part.told_by or part.name]
                found[self.columns[part.name]] = teller.start, teller.stop
        return found

    @property
    def missable(self) -> Mapping[str, slice]:
        """Where each part lies that tells by itself that it is missing."""
        return {part.name: self.columns[part.name] for part in self.parts if part.told_by == ""}

    def refusal(self, change: str) -> str:
        """Why rows cannot take a change, a field of `Augmentation`, as a body would; empty where they can."""
        if change in ("bones", "limbs") and not any(part.parents for part in self.parts):
            return "its bones are not known"
        return next(filter(None, (self._refusal(part, change) for part in self.parts)), "")

    def _refusal(self, part: Part, change: str) -> str:
        if change in TIMES and part.is_rate:
            return f"its {part.name} was stored at the speed of the clip"
        if change == "mirror" and (part.pairs is None or (part.partner and part.partner not in self.columns)):
            return f"what is left and right of its {part.name} is not known"
        if change not in ("rotate", "turn") or part.turns == "any" or (change, part.turns) == ("rotate", "plane"):
            return ""
        if part.kind == "number":
            return f"its {part.name} cannot be turned along"
        if part.turns == "never":
            return f"x and y of its {part.name} are fractions of the picture's width and height"
        return f"its {part.name} has no depth that is measured as x and y are"


def both(part: Part) -> tuple[Part, Part]:
    """A part for the left hand, then one for the right, which change places in a mirror."""

    def of(side: str, other: str) -> Part:
        told_by = f"{side} {part.told_by}" if part.told_by else part.told_by
        return replace(part, name=f"{side} {part.name}", partner=f"{other} {part.name}", told_by=told_by)

    return of("left", "right"), of("right", "left")


LANDMARKS: Mapping[str, Part] = {
    "pose": Part("pose", 33, 3, 4, pairs=POSE_PAIRS),
    "face": Part("face", 468, 3, 3, pairs=None),
    "left_hand": Part("left_hand", 21, 3, 3, partner="right_hand"),
    "right_hand": Part("right_hand", 21, 3, 3, partner="left_hand"),
}
"""Parts of MediaPipe Holistic: fractions of the picture, the z of each from an origin of its own."""
