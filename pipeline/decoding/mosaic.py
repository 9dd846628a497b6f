"""Frames as a colour filter left them: cameras that write what each photocell saw, which stages are to read as RGB."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from pipeline.errors import ClipError
from pipeline.types import Array

MOSAICS = tuple(f"bayer_{pattern}" for pattern in ("rggb", "bggr", "grbg", "gbrg"))
"""Modalities whose frames are mosaics: red, green and blue of the first two pixels of the first line, then of the second."""


def developer(modality: str) -> Callable[[Array], Array]:
    """What turns the frames of a modality into what stages read: RGB of a mosaic; all others are that already."""
    return partial(demosaiced, modality) if modality in MOSAICS else as_it_is


def as_it_is(image: Array) -> Array:
    """The same."""
    return image


def demosaiced(modality: str, image: Array) -> Array:
    """`(H, W, 3)` uint8 RGB by OpenCV's bilinear interpolation, of a mosaic `(H, W)` or of three equal channels of it."""
    import cv2

    grey = image[..., 0] if image.ndim == 3 else image
    if grey.ndim != 2 or grey.dtype != np.uint8 or (image.ndim == 3 and (image != grey[..., None]).any()):
        raise ClipError(
            f"a frame of {modality} is no mosaic of one byte a pixel: it is {image.shape} {image.dtype}, with colours of its own"
        )
    whole: Any = cv2
    rgb: Array = whole.cvtColor(np.ascontiguousarray(grey), getattr(whole, f"COLOR_Bayer{modality.partition('_')[2].upper()}2RGB"))
    return rgb
