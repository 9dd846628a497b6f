"""What is drawn over the frames of a clip, as a film: slow enough to look at, with what each moment is worth below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pipeline.reports.explaining.overlay import Overlay
from pipeline.reports.explaining.why import Why
from pipeline.spotting.overlay import captioned, encoded
from pipeline.types import Array

RATE_HZ = 6.0
"""Of the film, whose frames are those of the overlays: at most 24 of a clip."""
WIDTH, STRIP = 480, 48
"""Pixels."""
DARK, SPEAKS, AGAINST, NOW = (24, 24, 24), (31, 119, 180), (214, 39, 40), (255, 255, 255)


def write(out: Path, drawn: Sequence[Overlay], why: Why) -> None:
    """`explanation.mp4` in the folder, where there are overlays. Raises OSError."""
    if drawn:
        encoded(out / "explanation.mp4", _frames(drawn, why), RATE_HZ)


def _frames(drawn: Sequence[Overlay], why: Why) -> Iterator[Array]:
    """The stages one below the other, of unlike numbers of frames on normalised time, and the strip of moments."""
    count = max(len(each.frames) for each in drawn)
    share = dict(why.top).get(why.label)
    label = why.label if share is None else f"{why.label} {share:.0%}"
    for number in range(count):
        time = (number + 0.5) / count
        parts = [_wide(each.frames[int(time * len(each.frames))]) for each in drawn]
        yield np.concatenate([captioned(parts[0], "", label), *parts[1:], strip(why.hidden.moments, time)])


def _wide(image: Array) -> Array:
    from PIL import Image

    height = round(image.shape[0] * WIDTH / image.shape[1])
    return np.asarray(Image.fromarray(image).resize((WIDTH, height)))


def strip(moments: Array, time: float) -> Array:
    """`(STRIP, WIDTH, 3)` uint8: a bar each moment, up where it speaks for the label down where against, a line at `time`, 0 to 1."""
    found, middle = np.full((STRIP, WIDTH, 3), DARK, np.uint8), STRIP // 2
    most = np.abs(moments).max(initial=0) or 1
    edges = np.linspace(0, WIDTH, len(moments) + 1).astype(int)
    for left, right, worth in zip(edges[:-1], edges[1:], moments, strict=True):
        height = round(abs(worth) / most * (middle - 1))
        rows = slice(middle - height, middle) if worth >= 0 else slice(middle, middle + height)
        found[rows, left : max(left + 1, right - 1)] = SPEAKS if worth >= 0 else AGAINST
    at = min(int(time * WIDTH), WIDTH - 2)
    found[:, at : at + 2] = NOW
    return found
