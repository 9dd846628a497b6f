"""What a live session shows: lines of text, or a window with landmarks, guess, confidence and history."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

import numpy as np

from pipeline.errors import UserError
from pipeline.layouts import LANDMARKS, Layout
from pipeline.spotting.glosses import NA
from pipeline.spotting.live.session import Live, Moment
from pipeline.spotting.windows import Streamed
from pipeline.types import Array

TITLE = "signcache live (q ends)"
SHOWN = 6
"""Words of the history."""
DARK, LIGHT, GREEN = (24, 24, 24), (255, 255, 255), (80, 200, 80)
COLOURS: Mapping[str, tuple[int, int, int]] = {
    **{"pose": (255, 160, 40), "face": (150, 150, 150), "left_hand": (80, 200, 255), "right_hand": (120, 255, 120)}
}
ESCAPE = 27


def has_display() -> bool:
    """Whether a window could open here."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


class Window:
    """OpenCV's window. Raises UserError where it cannot be opened."""

    def show(self, live: Live, moment: Moment, sentence: str) -> bool:
        """Whether to go on: no key said that this is the end."""
        import cv2

        try:
            cv2.imshow(TITLE, cv2.cvtColor(drawn(live, moment, sentence), cv2.COLOR_RGB2BGR))
            return cv2.waitKey(1) & 0xFF not in (ord("q"), ESCAPE)
        except cv2.error as error:
            raise UserError(f"no window can be opened here ({str(error).splitlines()[0]}); show lines: --text") from error

    def close(self) -> None:
        import cv2

        cv2.destroyAllWindows()


def drawn(live: Live, moment: Moment, sentence: str) -> Array:
    """The `(H, W, 3)` picture of a moment: landmarks; the guess with a bar of its confidence; what was believed, and the sentence."""
    import cv2

    picture = np.ascontiguousarray(moment.image).copy()
    for name, points in landmarks(live).items():
        for x, y in points:
            centre = (round(x * picture.shape[1]), round(y * picture.shape[0]))
            cv2.circle(picture, centre, 2, COLOURS.get(name, LIGHT), -1)
    height, width = picture.shape[:2]
    line, scale = max(14, height // 18), max(14, height // 18) / 32
    cv2.rectangle(picture, (0, 0), (width, line + 6), DARK, -1)
    cv2.rectangle(picture, (0, line), (round(width * moment.guess.probability), line + 6), GREEN, -1)
    guess = f"{moment.guess.label} {moment.guess.probability:.0%}" if moment.guess.label else "..."
    cv2.putText(picture, f"{guess}   {moment.word}", (6, line - 4), cv2.FONT_HERSHEY_SIMPLEX, scale, LIGHT, 1, cv2.LINE_AA)
    words = [gloss.label for gloss in live.tally.glosses] + ([moment.word] if moment.word != NA else [])
    texts = [" ".join(words[-SHOWN:]), sentence]
    for number, text in enumerate(filter(None, texts)):
        at = height - 8 - number * line
        cv2.rectangle(picture, (0, at - line + 6), (width, at + 6), DARK, -1)
        cv2.putText(picture, text, (6, at), cv2.FONT_HERSHEY_SIMPLEX, scale, LIGHT, 1, cv2.LINE_AA)
    return picture


def landmarks(live: Live) -> dict[str, Array]:
    """`{part: (points, 2)}` x and y, as fractions of the picture, of the parts that the stages see in the newest frame."""
    found: dict[str, Array] = {}
    for source in live.stream.sources.values():
        layout = source.extractor.row_layout
        if layout and source.forward is None and source.items:
            found |= _parts(source, layout)
    return found


def _parts(source: Streamed, layout: Layout) -> dict[str, Array]:
    row = np.asarray(source.items[-1])
    own = {part.name: row[layout.columns[part.name]].reshape(part.points, part.size) for part in layout.parts if part.name in LANDMARKS}
    return {name: points[:, :2] for name, points in own.items() if np.isfinite(points).all() and points.any()}
