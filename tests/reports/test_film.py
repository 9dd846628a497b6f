"""The film of an explanation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.decoding.decode import open_clip
from pipeline.reports.explaining.film import STRIP, WIDTH, strip, write
from pipeline.reports.explaining.overlay import Overlay


def test_a_film_shows_the_overlays_of_all_stages_over_time_and_what_each_moment_is_worth(tmp_path: Path) -> None:
    grey, light = np.full((5, 60, 80, 3), 90, np.uint8), np.full((10, 40, 80, 3), 230, np.uint8)
    light[5:] = 10
    why: Any = SimpleNamespace(label="HELLO", top=(("HELLO", 0.9),), hidden=SimpleNamespace(moments=np.array([0.0, 2.0, -1.0])))
    write(tmp_path, [Overlay("a", grey, ""), Overlay("b", light, "")], why)
    (film,) = tmp_path.iterdir()
    assert film.name == "explanation.mp4"
    clip = open_clip([film], decord=False, lengths={})
    pictures = [image for (image,) in clip.frames(np.arange(clip.length))]
    first, second = 60 * WIDTH // 80, 40 * WIDTH // 80
    assert (len(pictures), pictures[0].shape) == (10, (first + second + STRIP, WIDTH, 3))
    levels = [int(picture[first + 20 : first + second - 20].mean()) for picture in pictures]
    assert levels == pytest.approx([230] * 5 + [10] * 5, abs=6)
    drawn = strip(why.hidden.moments, 0.0)
    above, below = (drawn[rows, :, 2] > 100 for rows in (slice(0, STRIP // 2 - 2), slice(STRIP // 2 + 2, STRIP)))
    middle = slice(WIDTH // 3 + 4, 2 * WIDTH // 3 - 4)
    assert (above[:, middle].mean(), below[:, middle].sum()) == (pytest.approx(1, abs=0.1), 0)
    write(tmp_path / "none", [], why)
    assert not (tmp_path / "none").exists()
