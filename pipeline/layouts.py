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
FACE_PAIRS: Pairs = (
    (3, 248), (7, 249), (20, 250), (21, 251), (22, 252), (23, 253), (24, 254), (25, 255), (26, 256), (27, 257), (28, 258),
    (29, 259), (30, 260), (31, 261), (32, 262), (33, 263), (34, 264), (35, 265), (36, 266), (37, 267), (38, 268), (39, 269),
    (40, 270), (41, 271), (42, 272), (43, 273), (44, 274), (45, 275), (46, 276), (47, 277), (48, 278), (49, 279), (50, 280),
    (51, 281), (52, 282), (53, 283), (54, 284), (55, 285), (56, 286), (57, 287), (58, 288), (59, 289), (60, 290), (61, 291),
    (62, 292), (63, 293), (64, 294), (65, 295), (66, 296), (67, 297), (68, 298), (69, 299), (70, 300), (71, 301), (72, 302),
    (73, 303), (74, 304), (75, 305), (76, 306), (77, 307), (78, 308), (79, 309), (80, 310), (81, 311), (82, 312), (83, 313),
    (84, 314), (85, 315), (86, 316), (87, 317), (88, 318), (89, 319), (90, 320), (91, 321), (92, 322), (93, 323), (95, 324),
    (96, 325), (97, 326), (98, 327), (99, 328), (100, 329), (101, 330), (102, 331), (103, 332), (104, 333), (105, 334), (106, 335),
    (107, 336), (108, 337), (109, 338), (110, 339), (111, 340), (112, 341), (113, 342), (114, 343), (115, 344), (116, 345),
    (117, 346), (118, 347), (119, 348), (120, 349), (121, 350), (122, 351), (123, 352), (124, 353), (125, 354), (126, 355),
    (127, 356), (128, 357), (129, 358), (130, 359), (131, 360), (132, 361), (133, 362), (134, 363), (135, 364), (136, 365),
    (137, 366), (138, 367), (139, 368), (140, 369), (141, 370), (142, 371), (143, 372), (144, 373), (145, 374), (146, 375),
    (147, 376), (148, 377), (149, 378), (150, 379), (153, 380), (154, 381), (155, 382), (156, 383), (157, 384), (158, 385),
    (159, 386), (160, 387), (161, 388), (162, 389), (163, 390), (165, 391), (166, 392), (167, 393), (169, 394), (170, 395),
    (171, 396), (172, 397), (173, 398), (174, 399), (176, 400), (177, 401), (178, 402), (179, 403), (180, 404), (181, 405),
    (182, 406), (183, 407), (184, 408), (185, 409), (186, 410), (187, 411), (188, 412), (189, 413), (190, 414), (191, 415),
    (192, 416), (193, 417), (194, 418), (196, 419), (198, 420), (201, 421), (202, 422), (203, 423), (204, 424), (205, 425),
    (206, 426), (207, 427), (208, 428), (209, 429), (210, 430), (211, 431), (212, 432), (213, 433), (214, 434), (215, 435),
    (216, 436), (217, 437), (218, 438), (219, 439), (220, 440), (221, 441), (222, 442), (223, 443), (224, 444), (225, 445),
    (226, 446), (227, 447), (228, 448), (229, 449), (230, 450), (231, 451), (232, 452), (233, 453), (234, 454), (235, 455),
    (236, 456), (237, 457), (238, 458), (239, 459), (240, 460), (241, 461), (242, 462), (243, 463), (244, 464), (245, 465),
    (246, 466), (247, 467),
)  # fmt: skip
"""Left and right points of MediaPipe's face: the reflection of the mean shape of 8,991 faces that it tracked, which keeps 1,316 of
the 1,322 edges of its mesh (FACEMESH_TESSELATION); the others are diagonals of three quadrangles."""
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
        if change == "box_mask" and not any(part.kind == "place" for part in self.parts):
            return "it has no places"
        return next(filter(None, (self._refusal(part, change) for part in self.parts)), "")

    def _refusal(self, part: Part, change: str) -> str:
        if change in TIMES and part.is_rate:
            return f"its {part.name} was stored at the speed of the clip"
        if change == "mirror" and (part.pairs is None or (part.partner and part.partner not in self.columns)):
            return f"what is left and right of its {part.name} is not known"
        if change == "shear":
            return f"its {part.name} cannot be sheared along" if part.kind in ("number", "spin") else ""
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
    "face": Part("face", 468, 3, 3, pairs=FACE_PAIRS),
    "left_hand": Part("left_hand", 21, 3, 3, partner="right_hand"),
    "right_hand": Part("right_hand", 21, 3, 3, partner="left_hand"),
}
"""Parts of MediaPipe Holistic: fractions of the picture, the z of each from an origin of its own."""
