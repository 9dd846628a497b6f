"""Frames of cameras that leave the colours to the reader: mosaics become RGB by the pattern that their modality names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.decoding.decode import decoded
from pipeline.decoding.mosaic import MOSAICS, developer
from pipeline.errors import ClipError
from pipeline.types import Array


def cells(pattern: str, image: Array) -> Array:
    """What photocells behind red, green and blue filters in this order see of an RGB image."""
    mosaic = np.zeros(image.shape[:2], np.uint8)
    for place, letter in enumerate(pattern):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = image[row::2, column::2, "rgb".index(letter)]
    return mosaic


@pytest.mark.parametrize("modality", MOSAICS)
def test_a_mosaic_becomes_the_picture_that_the_camera_saw(modality: str) -> None:
    y, x = np.mgrid[:40, :60]
    image = np.stack([40 + 2 * x, 30 + 3 * y, 200 - x - y], -1).astype(np.uint8)  # bilinear interpolation gives planes back
    found = developer(modality)(cells(modality.removeprefix("bayer_"), image))
    np.testing.assert_allclose(found[2:-2, 2:-2].astype(int), image[2:-2, 2:-2].astype(int), atol=1)


def test_frames_of_a_folder_are_developed_by_their_modality_and_by_no_other(tmp_path: Path) -> None:
    image = np.zeros((8, 10, 3), np.uint8)
    image[:] = 200, 100, 50
    for frame in (1, 2):
        Image.fromarray(cells("grbg", image)).save(tmp_path / f"{frame}.pgm")
    developed, plain = (
        decoded([tmp_path], lambda clip: [frame for (frame,) in clip.frames(np.arange(clip.length))], modality=modality)
        for modality in ("bayer_grbg", "rgb")
    )
    assert all((frame == image).all() for frame in developed)
    assert all((frame == cells("grbg", image)[..., None]).all() for frame in plain)
    assert not developed[0].flags.writeable, "every stage is given the same"


@pytest.mark.parametrize("image", [np.zeros((4, 4, 3), np.float32), np.full((4, 4, 3), (1, 2, 3), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_mosaic_fails_the_clip(image: Array) -> None:
    with pytest.raises(ClipError, match="a frame of bayer_grbg is no mosaic of one byte a pixel"):
        developer("bayer_grbg")(image)
