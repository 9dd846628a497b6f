"""Draws README's picture from the demo corpus: `make demo`, then `.venv/bin/python .readme/landmarks.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.cache import open_stage
from pipeline.corpus.manifest import Home, read
from pipeline.decoding.decode import open_clip
from stages.holistic import POINTS, blocks

CLIPS = ("HELLO/signer3_rep1", "SIGN/signer1_rep2", "RAIN/signer5_rep3")
COLOURS = {"pose": "#ffd166", "face": "#8ecae6", "left_hand": "#ef476f", "right_hand": "#06d6a0"}


def drawn(clip: str, row: int) -> Image.Image:
    """A clip's frame with the landmarks of one of its rows."""
    table = read(Home(), "demo")
    rows = open_stage("demo", "holistic")[clip]
    media = open_clip(table.paths(next(s for s in table.samples if s.id == clip), "rgb"), decord=True, lengths={})
    frame = np.rint(np.linspace(0, media.length - 1, len(rows))).astype(np.int64)[row]
    (pixels,) = next(iter(media.frames(np.array([frame]))))
    image = Image.fromarray(pixels)
    brush = ImageDraw.Draw(image)
    for part, block in blocks().items():
        points = rows[row, block].reshape(POINTS[part])[:, :2] * image.size
        size = 1 if part == "face" else 3
        for x, y in points[points.any(1)]:
            brush.ellipse((x - size, y - size, x + size, y + size), COLOURS[part])
    return image


def main() -> None:
    images = [drawn(clip, 6) for clip in CLIPS]
    sheet = Image.new("RGB", (sum(image.width for image in images), images[0].height))
    for number, image in enumerate(images):
        sheet.paste(image, (number * image.width, 0))
    sheet.thumbnail((1200, 400))
    sheet.save(Path(__file__).with_name("landmarks.jpg"), quality=85)


if __name__ == "__main__":
    main()
