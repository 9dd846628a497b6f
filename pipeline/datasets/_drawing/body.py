"""The arms of a clip in metres over time: the one truth that camera, radars and wrist sensor look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets._drawing.glosses import RELAXED, Gloss, Stroke
from pipeline.datasets._drawing.signers import Signer

Floats = NDArray[np.float64]

TICK_HZ = 200
"""Rate of the kinematics; the camera, the radars and the sensor take every 8th, 10th and 4th tick."""
CAMERA_HZ = 25
SHOULDER = (0.185, 0.0, 0.0)
UPPER_ARM = 0.30
FOREARM = 0.26
HEAD = (0.0, 0.235, 0.03)
REST_PLACE = (-0.25, -0.52, 0.10)
REST_FINGERS = (0.25, -0.75, 0.6)
REST_PALM = (1.0, 0.0, -0.2)
LEAD, RAISE, LOWER, TAIL = 0.08, 0.43, 0.43, 0.08
"""Seconds at common tempo of the rest before, the way up, the way down and the rest after a stroke."""

SHORTEST_LONGEST = (1.2, 2.2)
"""Seconds of a clip: whoever signs slower or faster than that is hurried or held back as a whole."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One arm, ticks first: `shoulder`, `elbow`, `wrist` (T, 3) in metres, `fingers` and `palm` (T, 3) unit vectors, `curls` (T, 5),
    `spread` (T,); `side` is -1 for the right arm, 1 for the left."""

    side: int
    shoulder: Floats
    elbow: Floats
    wrist: Floats
    fingers: Floats
    palm: Floats
    curls: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Motion:
    """A clip's body at `TICK_HZ`: both arms, and the `head` (T, 3); `pictures` is the number of camera frames."""

    right: Arm
    left: Arm
    head: Floats
    pictures: int

    @property
    def ticks(self) -> int:
        """T."""
        return len(self.head)

    @property
    def seconds(self) -> float:
        """Duration of the clip, the same for all media."""
        return self.ticks / TICK_HZ


def perform(gloss: Gloss, signer: Signer, rng: np.random.Generator) -> Motion:
    """One repetition of `gloss` by `signer`: 30 to 55 camera frames."""
    tempo = signer.tempo * rng.normal(1.0, 0.04)
    amplitude = signer.amplitude * rng.normal(1.0, 0.05)
    spans = np.array([LEAD * rng.uniform(0.5, 1.5), RAISE, gloss.seconds, signer.hold * rng.uniform(0.7, 1.3), LOWER, TAIL]) * tempo
    spans *= np.clip(spans.sum(), *SHORTEST_LONGEST) / spans.sum()
    pictures = round(float(spans.sum()) * CAMERA_HZ)
    times = np.arange(pictures * TICK_HZ // CAMERA_HZ) / TICK_HZ
    ends = np.cumsum(spans)
    progress = steady((times - ends[1]) / spans[2])
    raised = minimum_jerk((times - ends[0]) / spans[1]) - minimum_jerk((times - ends[3]) / spans[4])
    sway = _wander(times, rng, 0.004, (0.3, 0.8))
    pace = (times, progress, raised)
    right = _arm(-1, gloss.right, signer, amplitude, pace, rng)
    left = _arm(1, gloss.left, signer, amplitude, pace, rng)
    return Motion(_shifted(right, sway), _shifted(left, sway), np.array(HEAD) * signer.size + 1.5 * sway, pictures)


def minimum_jerk(x: Floats) -> Floats:
    """0 before 0, 1 after 1, between them the smoothest way that starts and ends at rest (Flash and Hogan 1985)."""
    x = np.clip(x, 0.0, 1.0)
    return np.asarray(x**3 * (10 - 15 * x + 6 * x**2))


def steady(x: Floats) -> Floats:
    """0 before 0, 1 after 1, between them at an even pace, reached and left over a fifth each: people wave, circle and tap evenly."""
    x = np.clip(x, 0.0, 1.0)
    edge = 0.2
    starting, ending = np.minimum(x / edge, 1.0), np.minimum((1 - x) / edge, 1.0)
    way = [u**4 * (2.5 - 3 * u + u**2) for u in (starting, ending)]  # the integral of minimum_jerk, which is the speed here
    return np.asarray((edge * (way[0] + 0.5 - way[1]) + np.clip(x - edge, 0.0, 1 - 2 * edge)) / (1 - edge))


def _arm(
    side: int, stroke: Stroke | None, signer: Signer, amplitude: float, pace: tuple[Floats, Floats, Floats], rng: np.random.Generator
) -> Arm:
    """(T, ...) of one arm: from rest to the stroke and back, weighted by how far the arm is raised."""
    times, progress, raised = pace
    mirror = np.array([-side, 1.0, 1.0])
    resting = stroke is None
    stroke = stroke or Stroke(RELAXED, (0.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    up = (np.zeros_like(raised) if resting else raised)[:, None]
    along = progress[:, None]
    place = np.array(stroke.place) + rng.normal(0.0, 0.012, 3)
    wrist = up * (place + amplitude * _path(stroke, progress)) + (1 - up) * (np.array(REST_PLACE) * mirror)
    wrist = wrist * signer.size + _wander(times, rng, 0.0002, (7.0, 11.0)) + _wander(times, rng, 0.003, (0.5, 1.5))
    opened = stroke.opened or (stroke.fingers, stroke.palm)
    fingers = unit(stroke.fingers) * (1 - along) + unit(opened[0]) * along
    palm = unit(stroke.palm) * (1 - along) + unit(opened[1]) * along
    turned = _turned((np.array(REST_FINGERS) * mirror, np.array(REST_PALM) * mirror), (fingers, palm), raised * (not resting))
    curls = (1 - up) * np.array(RELAXED.curls) + up * np.array(stroke.shape.curls)
    spread = (1 - up[:, 0]) * RELAXED.spread + up[:, 0] * stroke.shape.spread
    return _jointed(side, wrist, turned, (curls, spread), signer)


def _path(stroke: Stroke, progress: Floats) -> Floats:
    """(T, 3) metres from the stroke's place, as the formula of `Stroke` says."""
    angle = 2 * np.pi * (stroke.turns * progress + stroke.phase)[:, None]
    swung, lifted = np.sin(angle) * np.array(stroke.swing), (1 - np.cos(angle)) / 2 * np.array(stroke.lift)
    return np.asarray(progress[:, None] * np.array(stroke.drift) + swung + lifted)


def _jointed(side: int, wrist: Floats, directions: tuple[Floats, Floats], hand: tuple[Floats, Floats], signer: Signer) -> Arm:
    """The arm whose hand is at `wrist`: the elbow from two bones, hanging down and outwards; out of reach is pulled in softly."""
    upper, fore = UPPER_ARM * signer.size, FOREARM * signer.size
    shoulder = np.array(SHOULDER) * (side * signer.build * signer.size, 1.0, 1.0)
    gap = wrist - shoulder
    distance = np.linalg.norm(gap, axis=1, keepdims=True)
    axis = gap / distance
    longest = upper + fore - 0.01
    distance = longest - 0.01 * np.logaddexp(0.0, (longest - distance) / 0.01)
    pole = np.array([0.55 * side, -1.0, -0.35])
    out = unit(pole - axis * (axis @ pole)[:, None])
    along = (upper**2 - fore**2 + distance**2) / (2 * distance)
    elbow = shoulder + axis * along + out * np.sqrt(np.maximum(upper**2 - along**2, 1e-6))
    return Arm(side, np.broadcast_to(shoulder, wrist.shape), elbow, shoulder + axis * distance, *directions, *hand)


def _turned(rest: tuple[Floats, Floats], signing: tuple[Floats, Floats], raised: Floats) -> tuple[Floats, Floats]:
    """(T, 3) fingers and palm at right angles: the rest's pose turned by the shortest way towards the sign's, as far as `raised` says."""
    from scipy.spatial.transform import Rotation

    start, end = Rotation.from_matrix(_axes(*rest)), Rotation.from_matrix(_axes(*signing))
    way = (start.inv() * end).as_rotvec()
    matrices = (start * Rotation.from_rotvec(raised[:, None] * way)).as_matrix()
    return matrices[..., 0], matrices[..., 1]


def _axes(fingers: Floats, palm: Floats) -> Floats:
    """(..., 3, 3) rotation matrices; columns are fingers, palm and what is square to both."""
    x = unit(fingers)
    y = unit(palm - x * (palm * x).sum(-1, keepdims=True))
    return np.stack([x, y, np.cross(x, y)], axis=-1)


def _shifted(arm: Arm, sway: Floats) -> Arm:
    moved = (arm.shoulder + sway, arm.elbow + sway, arm.wrist + sway)
    return Arm(arm.side, *moved, arm.fingers, arm.palm, arm.curls, arm.spread)


def _wander(times: Floats, rng: np.random.Generator, metres: float, band_hz: tuple[float, float]) -> Floats:
    """(T, 3) a smooth wandering of about `metres`, of three sines an axis within the band."""
    rates = rng.uniform(*band_hz, (3, 3))
    phases = rng.uniform(0, 2 * np.pi, (3, 3))
    return np.asarray(metres * np.sin(2 * np.pi * rates * times[:, None, None] + phases).mean(axis=1))


def unit(vectors: Floats | tuple[float, ...]) -> Floats:
    """The same directions, of length one; the last axis is the vector's."""
    array = np.asarray(vectors, dtype=np.float64)
    return np.asarray(array / np.linalg.norm(array, axis=-1, keepdims=True))
