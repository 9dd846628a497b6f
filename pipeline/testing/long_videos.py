"""Long videos of which every gloss is known: clips in a seeded order, with pauses between, written as one file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from pipeline.decoding.decode import Clip, decoded
from pipeline.spotting.glosses import Gloss
from pipeline.types import Array

PAUSE_SECONDS = (0.6, 1.6)
"""Of a pause, at least and at most."""


def compose(clips: Sequence[tuple[Path, str]], out: Path, *, seed: int, pause: tuple[float, float] = PAUSE_SECONDS) -> list[Gloss]:
    """A video of all clips, each with its label, and what it shows: a gloss a clip, from its first to its last frame.

    Order and pauses come from the seed. In a pause the end of the clip before stands still, then the beginning of the next; there is one
    before the first clip and one after the last. All clips have the rate and size of the first; equal clips and seeds give equal bytes.
    """
    random = np.random.default_rng(seed)
    order = [clips[i] for i in random.permutation(len(clips)).tolist()]
    rate = decoded([order[0][0]], lambda clip: clip.rate_hz)
    pauses = np.rint(random.uniform(*pause, len(order) + 1) * rate).astype(int).tolist()
    glosses: list[Gloss] = []
    with av.open(str(out), "w", options={"fflags": "bitexact"}) as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1001), options={"preset": "ultrafast", "threads": "1"}
        )
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(_frames(order, pauses, rate, glosses)):
            if not number:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return glosses


def _frames(order: Sequence[tuple[Path, str]], pauses: Sequence[int], rate: float, glosses: list[Gloss]) -> Iterator[Array]:
    """The frames of the long video; each gloss is told when its clip begins."""
    count = 0
    last: Array | None = None
    for (path, label), still in zip(order, pauses, strict=False):
        images = decoded([path], _images)
        halves = (still // 2, still - still // 2) if last is not None else (0, still)
        yield from [images[0] if last is None else last] * halves[0]
        yield from [images[0]] * halves[1]
        count += still
        glosses.append(Gloss(label, count / rate, (count + len(images)) / rate, 1.0))
        yield from images
        count, last = count + len(images), images[-1]
    if last is not None:
        yield from [last] * pauses[-1]


def _images(clip: Clip) -> list[Array]:
    return [image for (image,) in clip.frames(np.arange(clip.length))]
