"""Three radars' view: range-Doppler maps of the same body, (128, 256) uint8 gray a frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from pipeline.datasets._drawing.body import TICK_HZ, Arm, Floats, Motion
from pipeline.datasets._drawing.signers import Signer

RADAR_HZ = 20
RECEIVERS = ((-0.75, -0.35, 1.35), (0.0, 0.55, 1.45), (0.75, -0.35, 1.35))
"""Metres from the middle of the shoulders, as in glosses: beside, above and beside the camera, so that each sees other radial speeds."""
RANGES, NEAREST, RANGE_STEP = 128, 0.80, 0.01
DOPPLERS, FASTEST = 256, 4.0
"""Rows start at 0.80 m, 0.01 m each; columns run from -4 m/s (going away) to 4 m/s (coming nearer), zero in the middle."""
RANGE_SIGMA, SPEED_SIGMA = 0.04, 0.11
"""Of the blob of one point in metres and metres a second: about a chirp of 2 GHz bandwidth at 77 GHz, seen for 10 ms."""
SMEAR = 4
"""Instants within a frame that add up, so that a fast hand is drawn out."""
MARGIN = 64
"""Noise is drawn once a clip, larger than a map by this, and moved about at random: gamma numbers cost more than all the rest. Their
shape is 4: the power of complex Gaussian noise, averaged over four chirps."""
UNSTEADY_DB = 1.5
"""Deviation of a receiver's noise from frame to frame, as its gain follows what it hears."""
DISTURBED, DISTURBANCE_DB = 0.3, (3.0, 10.0)
"""Share of a receiver's frames over which another radar sends, and by how much its chirps, which fit none of ours, raise the noise."""
AIM_DB = 0.7
"""Deviation of what a receiver hears of the room from clip to clip, as nobody stands twice in the middle of its beam."""
FADING = 0.3
"""Variance of a point's echo from frame to frame, where 1 is Swerling's (1960) of many small scatterers that turn, and 0 a sphere's."""
FLOOR_DB, SPAN_DB = -6.0, 46.0
"""Gray 0, and what lies between it and gray 255, over the mean noise."""


def maps(motion: Motion, signer: Signer, rng: np.random.Generator) -> NDArray[np.uint8]:
    """(3, n, 128, 256) uint8, in dB: a frame every 1/20 s of each receiver; rows are ranges, columns radial speeds.

    As with real ones, noise, fading and aim change what no movement changed, so that a network has to learn what to look at.
    """
    points, weights = scatterers(motion, signer)
    frames = round(motion.seconds * RADAR_HZ)
    ticks = TICK_HZ // RADAR_HZ
    instants = np.arange(frames)[:, None] * ticks + np.arange(SMEAR) * (ticks // SMEAR)
    instants = np.minimum(instants, motion.ticks - 1)
    shown = np.empty((len(RECEIVERS), frames, RANGES, DOPPLERS), np.uint8)
    standing = _clutter()
    hiss = rng.standard_gamma(4.0, (RANGES + MARGIN, DOPPLERS + MARGIN), dtype=np.float32) / 4
    with threadpool_limits(limits=1):  # the same sums in the same order, however many threads the caller has
        for number, receiver in enumerate(RECEIVERS):
            distance, speed = seen(points, np.array(receiver))
            aim, noise = decibels(rng.normal(0, AIM_DB)), _noise(frames, rng)
            for frame, at in enumerate(instants):
                echoes = np.tile(weights * rng.gamma(1 / FADING, FADING, len(weights)), SMEAR) / SMEAR
                power = _power(distance[at].ravel(), speed[at].ravel(), echoes)
                down, right = rng.integers(0, MARGIN, 2)
                heard = noise[frame] * hiss[down : down + RANGES, right : right + DOPPLERS]
                shown[number, frame] = gray(aim * (power + standing) + heard)
    return shown


def seen(points: Floats, receiver: Floats) -> tuple[Floats, Floats]:
    """(T, n, 3) points -> (T, n) metres from the receiver and (T, n) metres a second towards it."""
    distance = np.linalg.norm(points - receiver, axis=2)
    return distance, -np.gradient(distance, 1 / TICK_HZ, axis=0)


def scatterers(motion: Motion, signer: Signer) -> tuple[Floats, Floats]:
    """(T, n, 3) metres and (n,) echo powers of points along torso, head, upper arms, forearms and hands."""
    trunk = np.stack([motion.head + np.array([x, y, 0.08]) for y in (-0.30, -0.45, -0.60) for x in (-0.10, 0.10)], axis=1)
    arms = [_along(arm, signer.size) for arm in (motion.right, motion.left)]
    points = np.concatenate([trunk, motion.head[:, None], *arms], axis=1)
    limb = [0.5] * 4 + [0.6] * 5 + [1.4] * 4
    return points, decibels(signer.echo) * 400.0 * np.array([2.0] * 6 + [1.0] + limb + limb)


def _along(arm: Arm, size: float) -> Floats:
    """(T, 13, 3): four points on the upper arm, five on the forearm, four on the hand, which is shorter with bent fingers."""
    length = size * (0.18 - 0.09 * arm.curls[:, 1:].mean(axis=1))[:, None]
    tip = arm.wrist + length * arm.fingers
    upper = [arm.shoulder + s * (arm.elbow - arm.shoulder) for s in (0.2, 0.4, 0.6, 0.8)]
    fore = [arm.elbow + s * (arm.wrist - arm.elbow) for s in (0.1, 0.3, 0.5, 0.7, 0.9)]
    hand = [arm.wrist + s * (tip - arm.wrist) for s in (0.25, 0.5, 0.75, 1.0)]
    return np.stack([*upper, *fore, *hand], axis=1)


def _power(distance: Floats, speed: Floats, weights: Floats) -> NDArray[np.float32]:
    """(128, 256): each point a Gaussian blob, weaker with the fourth power of its distance; too fast ones fold over, as they do."""
    ranges = NEAREST + RANGE_STEP * np.arange(RANGES)
    speeds = np.linspace(-FASTEST, FASTEST, DOPPLERS, endpoint=False)
    folded = (speed + FASTEST) % (2 * FASTEST) - FASTEST
    rows = np.exp(-0.5 * ((ranges[:, None] - distance) / RANGE_SIGMA) ** 2) * (weights / distance**4)
    columns = np.exp(-0.5 * ((speeds - folded[:, None]) / SPEED_SIGMA) ** 2)
    return rows.astype(np.float32) @ columns.astype(np.float32)


def _noise(frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n,): the noise of each frame over its usual mean."""
    raised = rng.uniform(*DISTURBANCE_DB, frames) * (rng.random(frames) < DISTURBED)
    return decibels(rng.normal(0, UNSTEADY_DB, frames) + raised).astype(np.float32)


def decibels(level: float | Floats) -> Floats:
    """The power that is so many dB."""
    return np.asarray(10 ** (np.asarray(level) / 10))


def _clutter() -> NDArray[np.float32]:
    """(128, 256): the room, which stands still, at all ranges and strongest at the wall behind."""
    ranges = NEAREST + RANGE_STEP * np.arange(RANGES, dtype=np.float32)
    speeds = np.linspace(-FASTEST, FASTEST, DOPPLERS, endpoint=False, dtype=np.float32)
    room = 4.0 + 40.0 * np.exp(-0.5 * ((ranges - 1.98) / 0.03) ** 2)
    return np.asarray(room[:, None] * np.exp(-0.5 * (speeds / (0.6 * SPEED_SIGMA)) ** 2), dtype=np.float32)


def gray(power: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Power over the mean noise -> gray, linear in dB."""
    return np.asarray(np.clip((10 * np.log10(power) - FLOOR_DB) * (255 / SPAN_DB), 0, 255), dtype=np.uint8)
