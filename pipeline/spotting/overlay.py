"""A video with its glosses written on the frames that show them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import ClipError, UserError
from pipeline.spotting.glosses import Gloss
from pipeline.types import Array

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import OutputContainer

DARK, LIGHT = (24, 24, 24), (255, 255, 255)
USUAL_HZ = 25.0
"""Of a video that does not say."""
LINES = 16
"""Lines of text that would fill the height of a picture."""


def write(out: Path, video: Path, glosses: Sequence[Gloss], sentence: str = "") -> None:
    """An MP4 (H.264, no sound) of the video with each gloss and its probability below, and a sentence above, if there is one.

    It is whole or not there; raises UserError where it cannot be written. One frame is in memory at a time.
    """
    try:
        decoded([video], lambda clip: encoded(out, _captions(clip, glosses, sentence), clip.rate_hz or USUAL_HZ))
    except ClipError as error:
        raise UserError(f"cannot write {out}: {error}") from error
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; name another file with --out") from error


def _captions(clip: Clip, glosses: Sequence[Gloss], sentence: str) -> Iterator[Array]:
    rate = clip.rate_hz or USUAL_HZ
    for number, (image,) in enumerate(clip.frames(np.arange(clip.length))):
        yield captioned(image, said_at(glosses, number / rate), sentence)


def encoded(out: Path, pictures: Iterable[Array], rate_hz: float) -> None:
    """An MP4 (H.264, no sound) of `(H, W, 3)` uint8 pictures, whole or not there; an odd last line or column is left out."""
    import av

    part, rate = out.with_name(f".{out.name}.{secrets.token_hex(4)}"), Fraction(rate_hz).limit_denominator(60_000)
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream: Any = None
            for image in pictures:
                stream = stream or _stream(container, rate, image)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[: stream.height, : stream.width]), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def _stream(container: OutputContainer, rate: Fraction, image: Array) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast", "crf": "23"})
    stream.height, stream.width = (side // 2 * 2 for side in image.shape[:2])  # 4:2:0 has pairs of lines and columns
    stream.pix_fmt = "yuv420p"
    return stream


def said_at(glosses: Sequence[Gloss], seconds: float) -> str:
    """`HELLO 93%`, what is shown then; an empty text between glosses."""
    return "  ".join(f"{each.label} {each.probability:.0%}" for each in glosses if each.start <= seconds < each.end)


def captioned(image: Array, below: str, above: str = "") -> Array:
    """The `(H, W, 3)` uint8 picture with lines of white on dark, as large as fits."""
    if not (below or above):
        return image
    from PIL import Image, ImageDraw, ImageFont

    shown = Image.fromarray(image)
    draw, height = ImageDraw.Draw(shown), max(10, image.shape[0] // LINES)
    for text, top in ((above, 0), (below, image.shape[0] - height * 3 // 2)):
        if text:
            size = height
            while size > 8 and draw.textlength(text, font=ImageFont.load_default(size)) > image.shape[1]:
                size -= 1
            draw.rectangle((0, top, image.shape[1], top + height * 3 // 2), fill=DARK)
            draw.text((height // 3, top + height // 6), text, fill=LIGHT, font=ImageFont.load_default(size))
    return np.asarray(shown)
