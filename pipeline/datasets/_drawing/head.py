"""The head of the figure: hair, ears, face, eyes, brows, nose and lips."""

from __future__ import annotations

import numpy as np

from pipeline.datasets._drawing.body import Floats
from pipeline.datasets._drawing.canvas import Canvas, Point, shade
from pipeline.datasets._drawing.signers import Look

FACE = (0.076, 0.108)
"""Half width and half height of the face in metres."""
EYE = (0.0175, 0.0088)


class Head:
    """One head at one instant; places are metres from the middle of the face, right and up in the picture."""

    def __init__(self, canvas: Canvas, look: Look, centre: Floats, size: float) -> None:
        self.canvas = canvas
        self.look = look
        self.scale = canvas.scale(float(centre[2])) * size
        self.middle = canvas.project(centre[None])[0].tolist()

    def at(self, right: float, up: float) -> Point:
        """Pixels of a place."""
        return (self.middle[0] + right * self.scale, self.middle[1] - up * self.scale)

    def oval(self, place: Point, half: Point, fill: tuple[int, int, int], lined: bool = False) -> None:
        """An ellipse at a place."""
        outline = shade(fill, 0.6) if lined else None
        self.canvas.oval(self.at(*place), (half[0] * self.scale, half[1] * self.scale), fill, outline)

    def curve(self, places: list[Point], fill: tuple[int, int, int], metres: float) -> None:
        """A line of the given thickness through places."""
        self.canvas.line([self.at(*place) for place in places], fill, max(2, round(metres * self.scale)))

    def paint_behind(self) -> None:
        """Hair that hangs behind neck and shoulders."""
        hair, style = self.look.hair, self.look.style
        if style == "long":
            self.oval((0.0, 0.005), (0.104, 0.135), hair, lined=True)
            self.canvas.polygon([self.at(-0.104, 0.0), self.at(0.104, 0.0), self.at(0.112, -0.19), self.at(-0.112, -0.19)], hair)
        elif style == "bun":
            self.oval((0.0, 0.132), (0.038, 0.034), hair, lined=True)
            self.oval((0.0, 0.022), (0.086, 0.108), hair, lined=True)
        elif style == "curly":
            for angle in np.linspace(-0.35 * np.pi, 1.35 * np.pi, 15):
                self.oval((0.082 * float(np.cos(angle)), 0.035 + 0.085 * float(np.sin(angle))), (0.030, 0.030), hair)
        else:
            self.oval((0.0, 0.022), (0.084, 0.106), hair, lined=True)

    def paint_face(self) -> None:
        """Everything in front."""
        skin = self.look.skin
        for side in (-1, 1):
            self.oval((0.078 * side, -0.004), (0.013, 0.026), shade(skin, 0.93), lined=True)
            self.oval((0.078 * side, -0.004), (0.006, 0.015), shade(skin, 0.78))
        self.oval((0.0, 0.0), FACE, skin, lined=True)
        self.oval((0.0, -0.060), (0.050, 0.046), shade(skin, 1.02))
        self._paint_fringe()
        for side in (-1, 1):
            self.oval((0.047 * side, -0.032), (0.020, 0.015), shade(skin, 0.96))
            self._paint_eye(side)
        self._paint_nose()
        self._paint_lips()

    def _paint_fringe(self) -> None:
        """The hair line above the forehead: the upper cap of the face, in hair colour."""
        low = {"cropped": 0.078, "short": 0.060, "bun": 0.068, "long": 0.062, "curly": 0.058}[self.look.style]
        edge = float(np.arcsin(low / FACE[1]))
        angles = np.linspace(edge, np.pi - edge, 24)
        cap = [self.at(1.05 * FACE[0] * float(np.cos(a)), 1.04 * FACE[1] * float(np.sin(a))) for a in angles]
        across = np.linspace(-0.86, 0.86, 12).tolist()
        arch = [self.at(x * FACE[0], low - 0.012 + 0.030 * (1 - x**2)) for x in across]
        self.canvas.polygon(cap + arch, self.look.hair)

    def _paint_eye(self, side: int) -> None:
        x, y = 0.032 * side, 0.013
        self.oval((x, y), (EYE[0] + 0.003, EYE[1] + 0.003), shade(self.look.skin, 0.80))
        self.oval((x, y), EYE, (244, 244, 240))
        self.oval((x, y), (0.0082, 0.0084), (92, 66, 44))
        self.oval((x, y), (0.0040, 0.0042), (16, 14, 14))
        self.oval((x - 0.003, y + 0.003), (0.0018, 0.0018), (250, 250, 250))
        lid = [(x + EYE[0] * 1.1 * float(np.cos(a)), y + EYE[1] * 1.15 * float(np.sin(a))) for a in np.linspace(0.15, np.pi - 0.15, 9)]
        self.curve(lid, shade(self.look.skin, 0.35), 0.0032)
        brow = [(x - 0.021 * side, y + 0.024), (x, y + 0.030), (x + 0.022 * side, y + 0.023)]
        self.curve(brow, shade(self.look.hair, 0.75), 0.0065)

    def _paint_nose(self) -> None:
        skin = self.look.skin
        self.curve([(-0.008, 0.014), (-0.010, -0.012), (-0.016, -0.027)], shade(skin, 0.80), 0.003)
        self.oval((0.0, -0.025), (0.0125, 0.0095), shade(skin, 1.05))
        self.curve([(-0.016, -0.029), (-0.006, -0.035), (0.006, -0.035), (0.016, -0.029)], shade(skin, 0.62), 0.003)
        for side in (-1, 1):
            self.oval((0.0075 * side, -0.0325), (0.0035, 0.0022), shade(skin, 0.45))

    def _paint_lips(self) -> None:
        lips = self.look.lips
        upper = [(-0.027, -0.0585), (-0.008, -0.0515), (0.0, -0.0535), (0.008, -0.0515), (0.027, -0.0585), (0.0, -0.0605)]
        lower = [(-0.027, -0.0585), (-0.012, -0.0690), (0.0, -0.0710), (0.012, -0.0690), (0.027, -0.0585), (0.0, -0.0605)]
        self.canvas.polygon([self.at(*place) for place in upper], shade(lips, 0.92))
        self.canvas.polygon([self.at(*place) for place in lower], shade(lips, 1.06))
        self.curve([(-0.028, -0.0580), (0.0, -0.0600), (0.028, -0.0580)], shade(lips, 0.5), 0.0024)
