"""Images of training clips varied anew in every epoch, all of a clip alike: cut, coloured, mirrored, with a part covered."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.random import Generator
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision.transforms.v2 import functional as images_of

from pipeline.types import Array

Share = Annotated[float, Field(ge=0, lt=1)]
USUAL = 0.2
"""Of `crop` and `jitter`, where the items are images in colour."""
ASPECT = 4 / 3
COVERED = (0.02, 0.2)
"""Least and most of an image's area that is covered, as in random erasing (Zhong et al., AAAI 2020), where it is up to 0.4."""


class Pixels(BaseModel):
    """How the images of training clips are varied. None of `crop` and `jitter`: 0.2 of images in colour, 0 of others, as radar maps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Share | None = None
    """Most of the image's area that is cut away; the rest, up to 4:3 wider or taller than the image, is scaled to the whole."""
    jitter: Share | None = None
    """Brightness, contrast and saturation change by up to this share, the hue by up to a tenth of it of the circle."""
    mirror: Share = 0.0
    """Probability of a mirrored image. Off: a mirrored sign may be another sign."""
    erase: Share = 0.0
    """Probability that a rectangle of 2 to 20 % of the image is black."""

    def altered(self, items: Array, axes: str, random: Generator) -> Array:
        """`(N, *item_shape)` items whose axes are `HWC` or `CHW`, of the same shape and type; of other axes, as they are."""
        if axes not in ("HWC", "CHW") or not len(items):
            return items
        images = torch.from_numpy(np.ascontiguousarray(items))
        images = images.permute(0, 3, 1, 2) if axes == "HWC" else images
        images = self._coloured(self._cut(images, axes, random), axes, random)
        if random.random() < self.mirror:
            images = images_of.horizontal_flip(images)
        if random.random() < self.erase:
            images = images_of.erase(images, *_box(images, random.uniform(*COVERED), random), v=torch.zeros((), dtype=images.dtype))
        found: Array = (images.permute(0, 2, 3, 1) if axes == "HWC" else images).numpy()
        return found

    def _cut(self, images: Tensor, axes: str, random: Generator) -> Tensor:
        most = self._usual(self.crop, axes)
        if not most:
            return images
        found: Tensor = images_of.resized_crop(
            images, *_box(images, 1 - most * random.random(), random), list(images.shape[-2:]), antialias=True
        )
        return found

    def _coloured(self, images: Tensor, axes: str, random: Generator) -> Tensor:
        most = self._usual(self.jitter, axes)
        if not most:
            return images
        brightness, contrast, saturation = 1 + most * random.uniform(-1, 1, 3)
        single = images.reshape(-1, 1, *images.shape[-2:]) if axes == "CHW" else images
        single = images_of.adjust_contrast(images_of.adjust_brightness(single, brightness), contrast)
        if axes == "HWC":
            single = images_of.adjust_hue(images_of.adjust_saturation(single, saturation), most / 10 * random.uniform(-1, 1))
        found: Tensor = single.reshape(images.shape)
        return found

    @staticmethod
    def _usual(amount: float | None, axes: str) -> float:
        return (USUAL if axes == "HWC" else 0.0) if amount is None else amount


def _box(images: Tensor, share: float, random: Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a rectangle of this share of an image's area."""
    height, width = images.shape[-2:]
    stretch = np.sqrt(ASPECT ** random.uniform(-1, 1))
    tall, wide = (
        min(max(round(side), 1), whole)
        for side, whole in zip((height * share**0.5 * stretch, width * share**0.5 / stretch), (height, width), strict=True)
    )
    return int(random.integers(height - tall + 1)), int(random.integers(width - wide + 1)), tall, wide
