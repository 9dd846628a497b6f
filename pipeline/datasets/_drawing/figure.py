"""The camera's view: a frontal figure before a wall, (480, 640, 3) uint8 a picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets._drawing.body import CAMERA_HZ, TICK_HZ, Arm, Floats, Motion
from pipeline.datasets._drawing.canvas import HEIGHT, OVERSAMPLING, WIDTH, Canvas, shade
from pipeline.datasets._drawing.hands import paint_hand
from pipeline.datasets._drawing.head import Head
from pipeline.datasets._drawing.signers import Look, Signer

NOISE = 4.0
"""Standard deviation in gray levels, as of a small camera indoors."""
TORSO = ((0.045, 0.072), (0.10, 0.052), (0.155, 0.028), (0.185, -0.005), (0.196, -0.06), (0.180, -0.20), (0.162, -0.45), (0.190, -0.80))
"""Right half of the outline, from the neck down: metres from the middle of the shoulders."""
BLURRED = 3
"""Pixels around one that go into it."""
COLLAR = ((-0.045, 0.11), (-0.062, 0.078), (-0.035, 0.045), (0.0, 0.028), (0.035, 0.045), (0.062, 0.078), (0.045, 0.11))


def pictures(motion: Motion, signer: Signer, rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """(480, 640, 3) uint8 RGB, one every 1/25 s."""
    wall, soft_wall = _wall(signer.look)
    margin = 48
    grain = (NOISE * rng.standard_normal((HEIGHT + margin, WIDTH + margin, 3), np.float32)).astype(np.int16)
    canvas = Canvas(wall, signer)
    for number in range(motion.pictures):
        paint(canvas, motion, signer, number * TICK_HZ // CAMERA_HZ)
        shown = seen(canvas, soft_wall).astype(np.int16)
        down, right = rng.integers(0, margin, 2)
        shown += grain[down : down + HEIGHT, right : right + WIDTH]
        yield np.clip(shown, 0, 255, out=shown).astype(np.uint8)
        canvas.wipe()


def seen(canvas: Canvas, soft_wall: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(480, 640, 3): what was drawn at the final size and blurred; only what was painted differs from the wall."""
    rows, columns = canvas.painted(BLURRED)
    around = canvas.painted(2 * BLURRED)
    soft = _softened(canvas.image[tuple(slice(part.start * OVERSAMPLING, part.stop * OVERSAMPLING) for part in around)])
    shown = soft_wall.copy()
    shown[rows, columns] = soft[_within(rows, around[0]), _within(columns, around[1])]
    return shown


def _within(part: slice, around: slice) -> slice:
    """The part, counted from where `around` begins."""
    return slice(part.start - around.start, part.stop - around.start)


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
            canvas.line(canvas.project(ends), shade(look.cloth, 1.35), round(0.022 * canvas.scale(0.0)))
    collar = np.array([[x, y, 0.0] for x, y in COLLAR]) * size + sway
    canvas.polygon(canvas.project(collar), shade(look.skin, 0.94))
    canvas.line(canvas.project(collar[1:-1]), shade(look.cloth, 0.6), 7)


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


@lru_cache(maxsize=8)
def _wall(look: Look) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The room behind, as it is drawn and as it is seen: a wall lit from above, a shelf and a picture."""
    import cv2

    wide, high = WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING
    light = np.linspace(1.08, 0.86, high)[:, None] * np.linspace(1.03, 0.97, wide)
    image = np.clip(light[..., None] * np.array(look.wall), 0, 255).astype(np.uint8)
    cv2.rectangle(image, (60, 120), (300, 330), shade(look.wall, 1.12), cv2.FILLED)
    cv2.rectangle(image, (65, 125), (295, 325), look.furniture, 10)
    cv2.rectangle(image, (wide - 260, 250), (wide, 268), look.furniture, cv2.FILLED)
    for number, height in enumerate((120, 96, 132, 104, 116)):
        left = wide - 240 + number * 44
        cv2.rectangle(image, (left, 250 - height), (left + 36, 249), shade(look.furniture, 0.7 + 0.15 * number), cv2.FILLED)
    cv2.rectangle(image, (0, high - 150), (wide, high), shade(look.furniture, 0.9), cv2.FILLED)
    return image, _softened(image)


def _softened(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A part of what was drawn at the final size, blurred about as a lens does; what lies `BLURRED` inside is that of the whole."""
    import cv2

    size = (image.shape[1] // OVERSAMPLING, image.shape[0] // OVERSAMPLING)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (2 * BLURRED + 1, 2 * BLURRED + 1), 1.2, borderType=cv2.BORDER_REPLICATE), dtype=np.uint8)
