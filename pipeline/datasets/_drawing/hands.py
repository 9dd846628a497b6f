"""Hands in metres, and painted: a palm, four fingers of three bones and a thumb."""

from __future__ import annotations

import numpy as np

from pipeline.datasets._drawing.body import Arm, Floats, unit
from pipeline.datasets._drawing.canvas import Canvas, shade
from pipeline.datasets._drawing.signers import Colour

KNUCKLES = np.array([(0.088, 0.034), (0.094, 0.011), (0.089, -0.012), (0.079, -0.033)])
"""Of index, middle, ring and little finger: metres from the wrist along the fingers, and towards the thumb."""
BONES = np.array([(0.040, 0.026, 0.022), (0.044, 0.029, 0.023), (0.041, 0.027, 0.022), (0.032, 0.021, 0.019)])
BENDS = np.cumsum([1.35, 1.75, 1.05])
"""Radians by which each bone of a closed finger is bent away from the palm's plane."""
FAN = np.array([1.5, 0.5, -0.5, -1.5])
"""Of the fingers, in angles between two neighbours that are spread."""
PALM = np.array(
    [(0.004, 0.022), (0.035, 0.034), (0.084, 0.037), (0.092, 0.011), (0.087, -0.014), (0.076, -0.034), (0.030, -0.034), (0.004, -0.022)]
)
THUMB_ROOT = np.array([0.022, 0.024, 0.0])
THUMB_BONES = np.array([[0.040], [0.034], [0.027]])
OPENED = np.array([(0.70, 0.70, 0.20), (0.85, 0.52, 0.15), (0.93, 0.36, 0.10)])
CLOSED = np.array([(0.70, 0.45, 0.55), (0.55, -0.45, 0.70), (0.25, -0.95, 0.20)])
"""Where the bones of a thumb point: along the fingers, towards the thumb, out of the palm."""
FINGER_RADII = (0.0100, 0.0094, 0.0086, 0.0074)
THUMB_RADII = (0.0150, 0.0120, 0.0104, 0.0084)


def joints(arm: Arm, tick: int, size: float) -> tuple[Floats, list[Floats]]:
    """The palm (8, 3) and thumb, index, middle, ring and little finger (4, 3) of a hand, in metres, root first."""
    wrist, along, normal = arm.wrist[tick], arm.fingers[tick], arm.palm[tick]
    axes = np.stack([along, -arm.side * np.cross(along, normal), normal])
    curls = arm.curls[tick]
    fan = float(arm.spread[tick]) * FAN[:, None, None]
    ahead = np.cos(fan) * axes[0] + np.sin(fan) * axes[1]
    angles = (curls[1:, None] * BENDS)[..., None]
    bones = size * BONES[..., None] * (np.cos(angles) * ahead + np.sin(angles) * normal)
    roots = wrist + size * KNUCKLES @ axes[:2]
    return wrist + size * PALM @ axes[:2], [_thumb(wrist, axes, float(curls[0]), size), *_chained(roots, bones)]


def _chained(roots: Floats, bones: Floats) -> Floats:
    """(..., 4, 3) joints of bones (..., 3, 3) that begin at (..., 3)."""
    return np.cumsum(np.concatenate([roots[..., None, :], bones], axis=-2), axis=-2)


def _thumb(wrist: Floats, axes: Floats, curl: float, size: float) -> Floats:
    """(4, 3) joints: open it stands off beside the index, closed it lies across the fingers."""
    ahead = ((1 - curl) * OPENED + curl * CLOSED) @ axes
    return _chained(wrist + size * THUMB_ROOT @ axes, size * THUMB_BONES * unit(ahead))


def paint_hand(canvas: Canvas, arm: Arm, tick: int, size: float, skin: Colour) -> None:
    """Draws the hand, what is farther from the camera first."""
    palm, fingers = joints(arm, tick, size)
    facing = float(arm.palm[tick, 2])
    parts = [(float(points[1:, 2].mean()), number) for number, points in enumerate(fingers)]
    order = [number for _, number in sorted([*parts, (float(palm[:, 2].mean()), -1)])]
    for number in order:
        if number < 0:
            canvas.patch(palm, 0.008 * size, skin)
            _paint_creases(canvas, palm, skin, facing)
        else:
            radii = [size * radius for radius in (FINGER_RADII if number else THUMB_RADII)]
            canvas.chain(fingers[number], radii, shade(skin, 1.03), 0.0022)
            _paint_nail(canvas, fingers[number], radii[-1], skin, facing)


def _paint_creases(canvas: Canvas, palm: Floats, skin: Colour, facing: float) -> None:
    """Two lines in a palm that looks at the camera."""
    if facing < 0.3:
        return
    for start, middle, end in ((1, 3, 6), (2, 4, 6)):
        bend = 0.5 * palm[middle] + 0.5 * palm[[0, 7]].mean(axis=0)
        line = np.array([0.8 * palm[start] + 0.2 * bend, bend, 0.7 * palm[end] + 0.3 * bend])
        canvas.line(canvas.project(line), shade(skin, 0.78), 3)


def _paint_nail(canvas: Canvas, finger: Floats, radius: float, skin: Colour, facing: float) -> None:
    """A light spot at the tip of a finger whose back looks at the camera."""
    if facing > -0.3:
        return
    (tip,) = canvas.project(0.75 * finger[-1:] + 0.25 * finger[-2:-1]).tolist()
    half = 0.6 * radius * canvas.scale(float(finger[-1, 2]))
    canvas.oval(tip, (half, half), shade(skin, 1.15))
