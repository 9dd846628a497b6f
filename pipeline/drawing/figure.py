"""The camera's view: a frontal figure before a wall, (480, 640, 3) uint8 a picture."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.drawing.body import CAMERA_HZ, TICK_HZ, Arm, Floats, Motion
from pipeline.drawing.canvas import HEIGHT, OVERSAMPLING, WIDTH, Canvas, shade
from pipeline.drawing.hands import paint_hand
from pipeline.drawing.head import Head
from pipeline.drawing.signers import Look, Signer

if TYPE_CHECKING:
    from PIL.Image import Image

NOISE = 4.0
"""Standard deviation in gray levels, as of a small camera indoors."""
TORSO = ((0.045, 0.072), (0.10, 0.052), (0.155, 0.028), (0.185, -0.005), (0.196, -0.06), (0.180, -0.20), (0.162, -0.45), (0.190, -0.80))
"""Right half of the outline, from the neck down: metres from the middle of the shoulders."""
COLLAR = ((-0.045, 0.11), (-0.062, 0.078), (-0.035, 0.045), (0.0, 0.028), (0.035, 0.045), (0.062, 0.078), (0.045, 0.11))


def pictures(motion: Motion, signer: Signer, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """(480, 640, 3) uint8 RGB, one every 1/25 s."""
    wall = _wall(signer.look)
    margin = 48
    grain = rng.normal(0.0, NOISE, (HEIGHT + margin, WIDTH + margin, 3)).astype(np.int16)
    for number in range(motion.pictures):
        canvas = Canvas(wall.copy(), signer)
        paint(canvas, motion, signer, number * TICK_HZ // CAMERA_HZ)
        down, right = rng.integers(0, margin, 2)
        soft = _softened(np.asarray(canvas.image.reduce(OVERSAMPLING)))
        yield np.clip(soft + grain[down : down + HEIGHT, right : right + WIDTH], 0, 255).astype(np.uint8)


def paint(canvas: Canvas, motion: Motion, signer: Signer, tick: int) -> None:
    """Draws the whole figure, from back to front."""
    head = Head(canvas, signer.look, motion.head[tick], signer.size)
    head.paint_behind()
    _paint_torso(canvas, motion.head[tick] - motion.head.mean(axis=0), signer)
    head.paint_face()
    for arm in sorted((motion.right, motion.left), key=lambda arm: float(arm.wrist[tick, 2])):
        _paint_arm(canvas, arm, tick, signer)


def _paint_torso(canvas: Canvas, sway: Floats, signer: Signer) -> None:
    look, size = signer.look, signer.size
    neck = np.array([[0.0, 0.15, -0.01], [0.0, 0.03, -0.01]]) * size + sway
    canvas.chain(neck, [0.050 * size, 0.056 * size], shade(look.skin, 0.88))
    half = np.array([[x * signer.build, y, 0.0] for x, y in TORSO]) * size
    outline = np.concatenate([half, half[::-1] * (-1, 1, 1)]) + sway * 0.7
    canvas.patch(outline, 0.012, look.cloth)
    if look.stripes:
        for y in np.arange(-0.10, -0.75, -0.10).tolist():
            width = float(np.interp(-y, [0.0, 0.20, 0.45, 0.80], [0.185, 0.18, 0.162, 0.19])) * signer.build
            ends = np.array([[-width, y, 0.0], [width, y, 0.0]]) * size + sway * 0.7
            canvas.draw.line(canvas.project(ends), fill=shade(look.cloth, 1.35), width=round(0.022 * canvas.scale(0.0)))
    collar = np.array([[x, y, 0.0] for x, y in COLLAR]) * size + sway
    canvas.draw.polygon(canvas.project(collar), fill=shade(look.skin, 0.94))
    canvas.draw.line(canvas.project(collar[1:-1]), fill=shade(look.cloth, 0.6), width=7, joint="curve")


def _paint_arm(canvas: Canvas, arm: Arm, tick: int, signer: Signer) -> None:
    """Upper arm, forearm and hand, of which the nearer of the last two covers the other."""
    look, wide = signer.look, signer.size * signer.build
    elbow, wrist = arm.elbow[tick], arm.wrist[tick]
    hand_in_front = float(arm.fingers[tick, 2]) > 0 or not look.long_sleeves
    if not hand_in_front:
        paint_hand(canvas, arm, tick, signer.size, look.skin)
    thick, above = _paint_upper_arm(canvas, arm, tick, signer)
    colour, thin, reach = (look.cloth, 0.036, 0.97) if look.long_sleeves else (look.skin, 0.027, 1.0)
    canvas.chain(np.stack([elbow, elbow + reach * (wrist - elbow)]), [thick, thin * wide], colour)
    canvas.chain(np.stack([above, elbow]), [0.98 * thick, 0.98 * thick], colour, outline=0.0)  # no line across the elbow
    if hand_in_front:
        paint_hand(canvas, arm, tick, signer.size, look.skin)


def _paint_upper_arm(canvas: Canvas, arm: Arm, tick: int, signer: Signer) -> tuple[float, Floats]:
    """The thickness at the elbow (metres) and a point just above it (3,); the sleeve goes over into the torso without a line."""
    look, wide = signer.look, signer.size * signer.build
    elbow = arm.elbow[tick]
    inner = arm.shoulder[tick] - np.array([arm.side * 0.022, 0.035, 0.0])
    hem = inner + 0.62 * (elbow - inner)
    if look.long_sleeves:
        thick = 0.048 * wide
        canvas.chain(np.stack([inner, elbow]), [0.060 * wide, thick], look.cloth)
    else:
        thick = 0.040 * wide
        canvas.chain(np.stack([hem, elbow]), [0.044 * wide, thick], look.skin)
        canvas.chain(np.stack([inner, hem]), [0.060 * wide, 0.055 * wide], look.cloth)
    seam = np.stack([inner - (0.035 * arm.side * wide, -0.006, 0.0), inner - (0.0, 0.02 * wide, 0.0)])
    canvas.chain(seam, [0.052 * wide, 0.050 * wide], look.cloth, outline=0.0)
    return thick, elbow + 0.06 * (inner - elbow)


def _wall(look: Look) -> Image:
    """The room behind, at twice the size: a wall lit from above, a shelf and a picture."""
    from PIL import Image, ImageDraw

    wide, high = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    light = np.linspace(1.08, 0.86, high)[:, None] * np.linspace(1.03, 0.97, wide)
    image = Image.fromarray(np.clip(light[..., None] * np.array(look.wall), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((60, 120, 300, 330), fill=shade(look.wall, 1.12), outline=look.furniture, width=10)
    draw.rectangle((wide - 260, 250, wide, 268), fill=look.furniture)
    for number, height in enumerate((120, 96, 132, 104, 116)):
        left = wide - 240 + number * 44
        draw.rectangle((left, 250 - height, left + 36, 249), fill=shade(look.furniture, 0.7 + 0.15 * number))
    draw.rectangle((0, high - 150, wide, high), fill=shade(look.furniture, 0.9))
    return image


def _softened(image: NDArray[np.uint8]) -> NDArray[np.int16]:
    """The picture blurred three times by 1-2-1 both ways: a sigma of 1.2 pixels, about a lens's, in a tenth of a Gaussian's time."""
    values = image.astype(np.int16)
    for _ in range(3):
        values[1:-1] = (values[:-2] + 2 * values[1:-1] + values[2:] + 2) >> 2
        values[:, 1:-1] = (values[:, :-2] + 2 * values[:, 1:-1] + values[:, 2:] + 2) >> 2
    return values
