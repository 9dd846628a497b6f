"""A part of a video as a file of its own whose frames are the same, pixel for pixel."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import ClipError

SAME: dict[str, str] = {"qp": "0", "preset": "ultrafast", "threads": "1"}
"""Of libx264rgb: without loss."""


def cut(video: Path, out: Path, start: float, end: float, most_seconds: float) -> None:
    """Write the frames shown from `start` up to `end` seconds, the nearest one at least, as an .mkv: equal frames, equal bytes.

    Raises ClipError where the video tells no times, ends before, or where the part lasts longer than `most_seconds`.
    """
    if end - start > most_seconds:
        raise ClipError(f"the part lasts {end - start:.1f} s, at most {most_seconds:g} s are read")
    decoded([video], lambda clip: _write(clip, out, start, end))


def _write(clip: Clip, out: Path, start: float, end: float) -> None:
    import av

    if not clip.rate_hz:
        raise ClipError("it does not say how many frames a second it has, so times cannot be told")
    first = round(start * clip.rate_hz)
    if first >= clip.length:
        raise ClipError(f"it lasts {clip.length / clip.rate_hz:.2f} s, and the part begins at {start:g} s")
    wanted = np.arange(first, min(max(first + 1, round(end * clip.rate_hz)), clip.length))
    with av.open(str(out), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream("libx264rgb", rate=Fraction(clip.rate_hz).limit_denominator(60_000), options=SAME)
        stream.pix_fmt = "rgb24"
        for number, (image,) in enumerate(clip.frames(wanted)):
            if not number:
                stream.height, stream.width = image.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
