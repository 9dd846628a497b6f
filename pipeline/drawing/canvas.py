"""A pinhole camera and the few shapes a figure is made of, each with a darker outline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.drawing.body import Floats
from pipeline.drawing.signers import Colour, Signer

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTH, HEIGHT, OVERSAMPLING = 640, 480, 2
DISTANCE = 2.0
FOCAL = 880.0
"""Metres from the lens to the shoulders; focal length in pixels of the final picture, where a metre at the shoulders is 440 pixels."""
HORIZON = 0.43
"""Height of the shoulders in the picture, of 1 from the top."""
Point = tuple[float, float]


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter (above 1)."""
    red, green, blue = (int(min(255.0, value * factor)) for value in colour)
    return (red, green, blue)


class Canvas:
    """A picture at `OVERSAMPLING` times the final size, drawn on in metres."""

    def __init__(self, image: Image, signer: Signer) -> None:
        from PIL import ImageDraw

        self.image = image
        self.draw = ImageDraw.Draw(image)
        self.focal = FOCAL * signer.zoom * OVERSAMPLING
        self.centre = ((WIDTH / 2 + signer.shift[0]) * OVERSAMPLING, (HEIGHT * HORIZON + signer.shift[1]) * OVERSAMPLING)

    def scale(self, depth: float) -> float:
        """Pixels a metre at `depth` metres in front of the shoulders."""
        return self.focal / (DISTANCE - depth)

    def project(self, points: Floats | Sequence[Sequence[float]]) -> list[Point]:
        """(n, 3) metres -> n pairs (right, down) in pixels."""
        array = np.asarray(points, dtype=np.float64)
        scale = self.focal / (DISTANCE - array[:, 2])
        return list(zip((self.centre[0] + scale * array[:, 0]).tolist(), (self.centre[1] - scale * array[:, 1]).tolist(), strict=True))

    def chain(self, points: Floats, radii: Sequence[float], fill: Colour, outline: float = 0.003) -> None:
        """A rounded limb through (n, 3) points, as thick as the n radii (metres) say."""
        scale = self.scale(float(points[:, 2].mean()))
        dots = self.project(points)
        for extra, colour in ((outline, shade(fill, 0.62)), (0.0, fill)):
            self._rounded(dots, [scale * (radius + extra) for radius in radii], colour)

    def patch(self, points: Floats, rounding: float, fill: Colour, outline: float = 0.003) -> None:
        """A filled polygon of (n, 3) corners, rounded by `rounding` metres, so that it keeps a thickness when seen edge-on."""
        scale = self.scale(float(points[:, 2].mean()))
        dots = self.project(points)
        for extra, colour in ((outline, shade(fill, 0.62)), (0.0, fill)):
            self.draw.polygon(dots, fill=colour)
            self._rounded([*dots, dots[0]], [scale * (rounding + extra)] * (len(dots) + 1), colour)

    def oval(self, centre: Point, half: Point, fill: Colour, outline: Colour | None = None) -> None:
        """An ellipse in pixels, half-axes `half`."""
        box = (centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
        self.draw.ellipse(box, fill=fill, outline=outline, width=3)

    def _rounded(self, dots: Sequence[Point], radii: Sequence[float], colour: Colour) -> None:
        for (x, y), radius in zip(dots, radii, strict=True):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        for i in range(len(dots) - 1):
            (x0, y0), (x1, y1) = dots[i], dots[i + 1]
            length = float(np.hypot(x1 - x0, y1 - y0))
            if length < 0.5:
                continue
            across, down = (y1 - y0) / length, (x0 - x1) / length
            a, b = radii[i], radii[i + 1]
            corners = [(x0 + across * a, y0 + down * a), (x1 + across * b, y1 + down * b)]
            self.draw.polygon([*corners, (x1 - across * b, y1 - down * b), (x0 - across * a, y0 - down * a)], fill=colour)
