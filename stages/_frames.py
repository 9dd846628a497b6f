"""Which frames of a clip I3D and optical flow see, and the part of each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.decoding.decode import resized
from pipeline.types import Array


def chosen(length: int, rate_hz: float, wanted_hz: float, frames: int | None) -> NDArray[np.int64]:
    """Ascending indices: of exactly so many `frames` at `int(i * length / frames)`, else the nearest in time to instants at `wanted_hz`.

    Instant k shows source frame `floor(k * rate_hz / wanted_hz + 0.5)`, as long as there is one; all of them where either rate is 0.
    """
    if frames:
        return np.arange(0, frames * length, length or 1, dtype=np.int64) // frames
    if not (wanted_hz and rate_hz):
        return np.arange(length, dtype=np.int64)
    step = rate_hz / wanted_hz
    instants = np.arange(int(np.ceil(length / step)) + 1)
    wanted: NDArray[np.int64] = np.floor(instants * step + 0.5).astype(np.int64)
    return wanted[wanted < length]


def shrunk(image: Array, short_side: int) -> Array:
    """`(H, W, 3)` uint8, bilinear and antialiased: the short side as asked, the long one `int(long * short_side / short)`."""
    height, width = image.shape[:2]
    scale = min(height, width)
    return resized(image, (height * short_side // scale, width * short_side // scale))


def centre(image: Array, side: int) -> Array:
    """The central `(side, side, ...)`, an odd pixel more left at the far end."""
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]
