"""A contact sheet: the chosen frames of a clip as one picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.decoding.decode import decoded
from pipeline.errors import ClipError, UserError
from pipeline.reports._pictures import is_image
from pipeline.types import Array, Frame

WIDTH, LINE, COLUMNS, MOST = 160, 14, 6, 60
"""Pixels of a thumbnail and of its caption; thumbnails in a line; frames of a sheet."""


def write(out: Path, files: Sequence[Path], wanted: NDArray[np.int64], title: str, modality: str) -> int:
    """Write the wanted frames as a PNG and say how many; beyond MOST they are thinned evenly.

    Raises UserError where the files cannot be decoded, or hold no pictures.
    """
    if not files:
        raise UserError(f"no picture of {title}: the clip has no such media")
    wanted = np.unique(wanted)
    if len(wanted) > MOST:
        wanted = wanted[np.linspace(0, len(wanted) - 1, MOST).astype(np.int64)]
    try:
        frames = decoded(files, lambda clip: list(clip.frames(wanted[wanted < clip.length])), modality=modality)
    except ClipError as error:
        raise UserError(f"no picture of {title}: {error}") from error
    if not frames or not all(map(is_image, frames[0])):
        raise UserError(f"no picture of {title}: {files[0].name if files else 'it'} holds no video frames")
    atomic.replace(out.absolute(), _png(frames, [str(index) for index in wanted.tolist()]))
    return len(frames)


def _png(frames: Sequence[Frame], captions: Sequence[str]) -> bytes:
    """Tracks of one instant stand side by side; instants go from left to right, then down."""
    from PIL import Image, ImageDraw

    thumbnails = [[_thumbnail(image) for image in frame] for frame in frames]
    width, height = len(thumbnails[0]) * WIDTH, max(image.shape[0] for images in thumbnails for image in images)
    columns = max(1, min(COLUMNS * WIDTH // width, len(frames)))
    sheet = Image.new("RGB", (columns * width, math.ceil(len(frames) / columns) * (height + LINE)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (images, caption) in enumerate(zip(thumbnails, captions, strict=True)):
        left, top = number % columns * width, number // columns * (height + LINE)
        for place, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (left + place * WIDTH, top + LINE))
        draw.text((left + 3, top + 1), caption, fill="black")
    out = BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _thumbnail(image: Array) -> Array:
    from PIL import Image

    size = (WIDTH - 4, max(1, round(image.shape[0] * (WIDTH - 4) / image.shape[1])))
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.BILINEAR))
