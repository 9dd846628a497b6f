"""Cutting a video before anything is recognised: Insignia's rule, frame by frame, and what finds the file of a segmenter."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline import registry
from pipeline.decoding.decode import decoded
from pipeline.errors import UserError
from pipeline.spotting.segmenters.wrist_flow import WristFlow, sparse_flow
from pipeline.types import Array
from tests.video_files import write_clip

SIGNING = some.lists(some.tuples(some.booleans(), some.integers(1, 90)), max_size=8).map(
    lambda runs: [is_sign for is_sign, times in runs for _ in range(times)]
)


def plainly(signing: Sequence[bool], idle: int = 3, fewest: int = 50, most: int = 80) -> list[tuple[int, int]]:
    """The published rule: three idle frames end a segment, which is cut at 80 frames; those under 50 are dropped."""
    found, start, quiet = [], None, 0
    for number, is_sign in enumerate(signing):
        quiet = 0 if is_sign else quiet + 1
        if is_sign and start is None:
            start = number
        if start is not None and not is_sign and quiet >= idle:
            found.append((start, number - idle + 1))
            start = None
        if start is not None and number + 1 - start >= most:
            found.append((start, number + 1))
            start, quiet = None, 0
    if start is not None:
        found.append((start, len(signing)))
    return [(first, stop) for first, stop in found if stop - first >= fewest]


@given(signing=SIGNING)
def test_signs_are_cut_by_the_published_rule(signing: list[bool]) -> None:
    found = WristFlow().cut(signing)
    assert found == plainly(signing)
    assert all(50 <= stop - first <= 80 for first, stop in found)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(found))


def points(**places: tuple[float, float]) -> list[SimpleNamespace]:
    """33 points of a pose; `wrist=(y, visibility)` and the like."""
    at = {"shoulder": (11, 12), "wrist": (15, 16), "hip": (23, 24)}
    found = [SimpleNamespace(y=1.0, visibility=0.0) for _ in range(33)]
    for name, (y, visibility) in places.items():
        for point in at[name]:
            found[point] = SimpleNamespace(y=y, visibility=visibility)
    return found


def test_a_wrist_is_raised_where_it_is_a_share_of_the_torso_above_the_hips() -> None:
    rule = WristFlow()
    assert rule.is_raised(points(shoulder=(0.3, 1), hip=(0.8, 1), wrist=(0.70, 1)))
    assert not rule.is_raised(points(shoulder=(0.3, 1), hip=(0.8, 1), wrist=(0.72, 1)))
    assert not rule.is_raised(points(shoulder=(0.3, 1), hip=(0.8, 0.2), wrist=(0.4, 1)))
    assert not rule.is_raised(points(shoulder=(0.3, 1), hip=(0.8, 1), wrist=(0.4, 0.2)))
    assert WristFlow(torso="hips").is_raised(points(shoulder=(0.3, 1), hip=(0.8, 1), wrist=(0.79, 1)))


def pattern(shift: int) -> Array:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300), dtype=np.uint8)
    return np.asarray(np.roll(cv2.GaussianBlur(noise, (0, 0), 3), shift, axis=1))


def test_flow_is_how_far_corners_moved() -> None:
    assert sparse_flow(pattern(0), pattern(4)) == pytest.approx(4, abs=0.3)
    assert sparse_flow(pattern(0), pattern(0)) == pytest.approx(0, abs=0.01)
    assert sparse_flow(np.zeros((50, 50), np.uint8), np.zeros((50, 50), np.uint8)) == 0


def test_much_that_moves_is_a_sign_also_where_nobody_is_seen(tmp_path: Path) -> None:
    """Of frames 10 to 29 each is moved by eight pixels against the one before: by four, at half size."""

    def draw(number: int, size: tuple[int, int]) -> Array:
        return np.repeat(pattern(8 * min(max(number - 10, 0), 20))[:, :, None], 3, axis=2)

    video = write_clip(tmp_path / "moving.mp4", 40, size=(300, 200), draw=draw)
    found = decoded([video], WristFlow(flow=2.0, fewest=5).segments)
    assert found == [(10, 30)]


def test_a_segmenter_is_one_file_that_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "own_segmenters"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "halves.py").write_text(
        "from pipeline.spotting.segmenter import Segmenter\n\n\nclass Halves(Segmenter):\n    parts: int = 2\n\n\nsegmenter = Halves\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "PACKAGES", {**registry.PACKAGES, "segmenter": "own_segmenters"})
    assert registry.create("segmenter", "halves", {"parts": "3"}).parts == 3
    with pytest.raises(UserError, match=r"segmenter 'halves' has no field 'part'; did you mean 'parts'\? Fields: parts"):
        registry.create("segmenter", "halves", {"part": "3"})
    for name in ("own_segmenters", "own_segmenters.halves"):
        sys.modules.pop(name, None)


def test_settings_of_a_segmenter_are_checked() -> None:
    assert registry.names("segmenter") == ["wrist_flow"]
    assert registry.create("segmenter", "wrist_flow", {"fewest": "15"}).longest == 80
    with pytest.raises(UserError, match=r"segmenter 'wrist_flow': most='none'|segmenter 'wrist_flow': most"):
        registry.create("segmenter", "wrist_flow", {"most": "none"})
