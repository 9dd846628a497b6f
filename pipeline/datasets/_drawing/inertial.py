"""The view of a sensor on the right wrist: accelerometer and gyroscope of the same movement, (T, 6) float32."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets._drawing.body import TICK_HZ, Arm, Floats, Motion

SENSOR_HZ = 50
GRAVITY = 9.80665
"""Metres per second squared in one g."""
NOISE_G, BIAS_G = 0.02, 0.015
NOISE_DEG, BIAS_DEG = 1.5, 1.0
"""Standard deviations of noise (each value) and bias (each clip) of a cheap wrist sensor."""


def track(motion: Motion, rng: np.random.Generator) -> NDArray[np.float32]:
    """(T, 6) float32 at 50 Hz: acceleration x, y, z in g, gravity included, then turning rate x, y, z in degrees a second.

    The sensor turns with the hand: x along the fingers, y across to the thumb, z out of the back of the hand.
    """
    axes = wrist_axes(motion.right)
    velocity = np.gradient(motion.right.wrist, 1 / TICK_HZ, axis=0)
    force = np.gradient(velocity, 1 / TICK_HZ, axis=0) / GRAVITY + (0.0, 1.0, 0.0)
    acceleration = np.einsum("tij,tj->ti", axes, force)
    values = np.concatenate([acceleration, turning(axes)], axis=1)
    picked = np.round(np.arange(round(motion.seconds * SENSOR_HZ)) * (TICK_HZ / SENSOR_HZ)).astype(int)
    values = values[picked]
    noise = np.repeat([NOISE_G, NOISE_DEG], 3) * rng.standard_normal(values.shape)
    bias = np.repeat([BIAS_G, BIAS_DEG], 3) * rng.standard_normal(6)
    return np.asarray(values + noise + bias, dtype=np.float32)


def wrist_axes(arm: Arm) -> Floats:
    """(T, 3, 3): the sensor's x, y and z as rows, in the room's axes."""
    return np.stack([arm.fingers, np.cross(-arm.palm, arm.fingers), -arm.palm], axis=1)


def turning(axes: Floats) -> Floats:
    """(T, 3) degrees a second about the sensor's own axes, from how they turn."""
    change = np.gradient(axes, 1 / TICK_HZ, axis=0)
    x, y, z = axes[:, 0], axes[:, 1], axes[:, 2]
    about = [(change[:, 1] * z).sum(1), (change[:, 2] * x).sum(1), (change[:, 0] * y).sum(1)]
    return np.asarray(np.rad2deg(np.stack(about, axis=1)))
