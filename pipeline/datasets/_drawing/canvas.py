"""A pinhole camera and the few shapes a figure is made of, each with a darker outline."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets._drawing.body import Floats
from pipeline.datasets._drawing.signers import Colour, Signer

WIDTH, HEIGHT, OVERSAMPLING = 640, 480, 2
DISTANCE = 2.0
FOCAL = 880.0
"""Metres from the lens to the shoulders; focal length in pixels of the final picture, where a metre at the shoulders is 440 pixels."""
HORIZON = 0.43
"""Height of the shoulders in the picture, of 1 from the top."""
BITS = 3
"""OpenCV takes places as whole eighths of a pixel."""
Point = tuple[float, float]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter (above 1)."""
    red, green, blue = (int(min(255.0, value * factor)) for value in colour)
    return (red, green, blue)


class Canvas:
    """A picture at `OVERSAMPLING` times the final size, drawn on in metres."""

    def __init__(self, wall: NDArray[np.uint8], signer: Signer) -> None:
        self.wall, self.image = wall, wall.copy()
        self.focal = FOCAL * signer.zoom * OVERSAMPLING
        self.centre = ((WIDTH / 2 + signer.shift[0]) * OVERSAMPLING, (HEIGHT * HORIZON + signer.shift[1]) * OVERSAMPLING)
        self._box = (wall.shape[1], wall.shape[0], 0, 0)

    def painted(self, margin: int) -> tuple[slice, slice]:
        """Rows and columns, in final pixels, of what was painted since the last `wipe`, `margin` wider."""
        height, width = (size // OVERSAMPLING for size in self.image.shape[:2])
        left, top, right, bottom = (side // OVERSAMPLING for side in self._box)
        rows = slice(max(0, top - margin), min(height, bottom + 1 + margin))
        return rows, slice(max(0, left - margin), min(width, right + 1 + margin))

    def wipe(self) -> None:
        """Puts the wall where something was painted."""
        rows, columns = (slice(part.start * OVERSAMPLING, part.stop * OVERSAMPLING) for part in self.painted(0))
        self.image[rows, columns] = self.wall[rows, columns]
        self._box = (self.wall.shape[1], self.wall.shape[0], 0, 0)

    def scale(self, depth: float) -> float:
        """Pixels a metre at `depth` metres in front of the shoulders."""
        return self.focal / (DISTANCE - depth)

    def project(self, points: Floats | Sequence[Sequence[float]]) -> Floats:
        """(n, 3) metres -> (n, 2) pixels: right, down."""
        array = np.asarray(points, dtype=np.float64)
        scale = self.focal / (DISTANCE - array[:, 2:])
        return np.asarray(self.centre + scale * array[:, :2] * (1, -1))

    def chain(self, points: Floats, radii: Sequence[float], fill: Colour, outline: float = 0.003) -> None:
        """A rounded limb through (n, 3) points, as thick as the n radii (metres) say."""
        import cv2

        scale = self.scale(float(points[:, 2].sum()) / len(points))
        dots = self._placed(self.project(points), scale * (max(radii) + outline))
        for extra, colour in ((outline, shade(fill, 0.62)), (0.0, fill)):
            for i in range(len(dots) - 1):
                width = round(scale * (radii[i] + radii[i + 1] + 2 * extra))
                cv2.polylines(self.image, [dots[i : i + 2]], False, colour, width, cv2.LINE_8, BITS)

    def patch(self, points: Floats, rounding: float, fill: Colour, outline: float = 0.003) -> None:
        """A filled polygon of (n, 3) corners, rounded by `rounding` metres, so that it keeps a thickness when seen edge-on."""
        import cv2

        scale = self.scale(float(points[:, 2].sum()) / len(points))
        dots = [self._placed(self.project(points), scale * (rounding + outline))]
        for extra, colour in ((outline, shade(fill, 0.62)), (0.0, fill)):
            cv2.fillPoly(self.image, dots, colour, cv2.LINE_8, BITS)
            cv2.polylines(self.image, dots, True, colour, round(2 * scale * (rounding + extra)), cv2.LINE_8, BITS)

    def polygon(self, dots: Floats | Sequence[Point], fill: Colour) -> None:
        """A filled polygon in pixels."""
        import cv2

        cv2.fillPoly(self.image, [self._placed(dots, 0)], fill, cv2.LINE_8, BITS)

    def line(self, dots: Floats | Sequence[Point], fill: Colour, width: int) -> None:
        """A line through pixels, round where it bends and ends."""
        import cv2

        cv2.polylines(self.image, [self._placed(dots, width / 2)], False, fill, width, cv2.LINE_8, BITS)

    def oval(self, centre: Point, half: Point, fill: Colour, outline: Colour | None = None) -> None:
        """An ellipse in pixels, half-axes `half`."""
        import cv2

        middle = self._placed([centre], max(half))[0].tolist()
        axes = [round(axis * (1 << BITS)) for axis in half]
        cv2.ellipse(self.image, middle, axes, 0, 0, 360, fill, cv2.FILLED, cv2.LINE_8, BITS)
        if outline:
            cv2.ellipse(self.image, middle, axes, 0, 0, 360, outline, 3, cv2.LINE_8, BITS)

    def _placed(self, dots: Floats | Sequence[Point], beyond: float) -> NDArray[np.int32]:
        """The pixels as OpenCV takes them; that something is painted there, and `beyond` around them, is remembered."""
        array = np.asarray(dots, dtype=np.float64)
        (left, top), (right, bottom) = array.min(axis=0).tolist(), array.max(axis=0).tolist()
        reach, box = math.ceil(beyond) + 2, self._box
        first = min(box[0], int(left) - reach), min(box[1], int(top) - reach)
        self._box = (*first, max(box[2], int(right) + reach), max(box[3], int(bottom) + reach))
        return np.rint(array * (1 << BITS)).astype(np.int32)
