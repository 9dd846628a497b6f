"""Points of the AI4Bharat form: their order in a row, whose hand is whose, and what stands for a missing hand."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.decoding.decode import open_clip
from pipeline.errors import ClipError
from pipeline.types import Array, Extractor
from stages.keypoints import POINTS, by_wrist, interpolated
from tests.shared_data import shared

LEFT, RIGHT = (0.7, 0.6), (0.3, 0.6)
"""Where the pose has its wrists."""


def keypoints(**fields: Any) -> Extractor:
    stage: Extractor = registry.create("stage", "keypoints", fields)
    return stage


def points(frames: int, first: Any = LEFT, second: Any = RIGHT, seed: int = 0) -> Array:
    """`(T, 75, 2)`: noise around a body whose wrists are at LEFT and RIGHT, and hands with wrists at these places; None is NaN."""
    found = np.random.default_rng(seed).normal(0.5, 0.1, (frames, 75, 2))
    found[:, 15], found[:, 16] = LEFT, RIGHT
    for start, place in ((33, first), (54, second)):
        if place is None:
            found[:, start : start + 21] = np.nan
        else:
            found[:, start] = place
    return found


def write(path: Path, found: Array, **changed: Any) -> Path:
    """A file of the AI4Bharat form with these points."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"uid": path.stem, "label": path.stem.partition("_")[0]}
    start = 0
    for part, count in POINTS.items():
        for axis, letter in enumerate("xy"):
            content[f"{part}_{letter}"] = found[:, start : start + count, axis].tolist()
        start += count
    path.write_text(json.dumps({**content, "n_frames": len(found), **changed}))
    return path


def read(path: Path, **fields: Any) -> Array:
    clip = open_clip([path], decord=True, lengths={})
    return np.stack(list(keypoints(**fields).prepare(clip.frames(np.arange(clip.length)))))


def test_a_row_holds_x_and_y_point_by_point(tmp_path: Path) -> None:
    found = points(4)
    rows = read(write(tmp_path / "bank_MVI_1.json", found))
    assert rows.shape == (4, 150)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, found.reshape(4, 150).astype(np.float32))


def test_a_missing_hand_is_kept_as_nan_and_may_be_zero(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", points(3, second=None))
    kept, zero = read(path), read(path, missing="zero")
    assert np.isnan(kept[:, 108:]).all()
    assert not np.isnan(kept[:, :108]).any()
    assert (zero[:, 108:] == 0).all()
    np.testing.assert_array_equal(zero[:, :108], kept[:, :108])


def test_a_hand_between_two_frames_is_interpolated_and_held_at_the_ends(tmp_path: Path) -> None:
    found = points(7)
    found[:, 33] = np.arange(7)[:, None]
    found[[0, 2, 3, 6], 33:54] = np.nan
    rows = read(write(tmp_path / "a.json", found), missing="interpolate")
    assert rows[:, 66].tolist() == [1, 1, 2, 3, 4, 5, 5]


def test_a_hand_that_is_never_seen_is_zero_when_interpolated(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "a.json", points(3, first=None)), missing="interpolate")
    assert (rows[:, 66:108] == 0).all()
    assert np.isfinite(rows).all()


@given(st.integers(1, 12), st.lists(st.booleans(), min_size=12, max_size=12), st.integers(0, 5))
def test_interpolation_keeps_what_is_known_and_stays_between(length: int, missing: list[bool], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(length, 2))
    values[np.array(missing[:length]), 0] = np.nan
    filled, known = interpolated(values), ~np.isnan(values)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[known], values[known])
    if known[:, 0].any():
        assert np.nanmin(values[:, 0]) <= filled[:, 0].min() <= filled[:, 0].max() <= np.nanmax(values[:, 0])


@pytest.mark.parametrize(
    ("first", "second", "turned"),
    [
        (LEFT, RIGHT, False),
        (RIGHT, LEFT, True),
        (LEFT, None, False),
        (RIGHT, None, True),
        (None, RIGHT, False),
        (None, LEFT, True),
        (None, None, False),
        ((0.55, 0.6), (0.65, 0.6), True),
    ],
)
def test_each_hand_goes_to_the_nearer_wrist(first: Any, second: Any, turned: bool) -> None:
    found = points(2, first, second)
    placed = by_wrist(found)
    expected = np.concatenate([found[:, :33], found[:, 54:], found[:, 33:54]], axis=1) if turned else found
    np.testing.assert_array_equal(placed, expected)


@given(st.integers(0, 50), st.booleans(), st.booleans())
def test_the_order_of_detection_does_not_count_when_hands_go_by_wrist(seed: int, without_first: bool, without_second: bool) -> None:
    places = np.random.default_rng(seed).random((2, 2))
    found = points(3, None if without_first else places[0], None if without_second else places[1], seed)
    turned = np.concatenate([found[:, :33], found[:, 54:], found[:, 33:54]], axis=1)
    np.testing.assert_array_equal(by_wrist(turned), by_wrist(found))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"hand2_y": None}, "no list 'hand2_y'; expected pose_x, pose_y, hand1_x"),
        ({"pose_x": [[0.0] * 25] * 3}, "pose_x has 25 points, 33 are expected"),
        ({"hand1_x": [[float("inf")] * 21] * 3}, "hand1_x holds a value that is not finite"),
        ({"hand1_x": [[0.0] * 21] * 2}, "its lists differ in length: .*hand1_x 2"),
    ],
)
def test_another_form_fails_its_clip(changed: Mapping[str, Any], reason: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", points(3), **changed)
    with pytest.raises(ClipError, match=reason):
        read(path)


@pytest.mark.parametrize("missing", [float("nan"), None])
def test_a_hand_of_a_whole_clip_may_be_one_nan_a_frame(missing: float | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", points(3), hand1_x=[missing] * 3, hand1_y=[missing] * 3)
    assert np.isnan(read(path)[:, 66:108]).all()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Some clips of INCLUDE-50's train and validation sides."""
    place = tmp_path_factory.mktemp("keypoints")
    with zipfile.ZipFile(shared("include50_keypoints/include50_keypoints_train_val.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")][::30]
        return [Path(archive.extract(name, place)) for name in names]


def test_real_clips_have_a_pose_in_every_frame_and_hands_in_most(real: list[Path]) -> None:
    clips = [read(path, hands="wrist") for path in real]
    rows = np.concatenate(clips)
    assert all(36 <= len(clip) <= 154 for clip in clips)
    assert np.isfinite(rows[:, :66]).all()
    assert 0.05 < np.isnan(rows[:, 66]).mean() < 0.6
    assert np.nanmax(rows) < 1.6


def test_hands_of_real_clips_lie_at_the_wrists_of_their_side(real: list[Path]) -> None:
    found = np.concatenate([read(path, hands="wrist") for path in real]).reshape(-1, 75, 2)
    for start, own, other in ((33, 15, 16), (54, 16, 15)):
        near, far = (np.linalg.norm(found[:, start] - found[:, wrist], axis=1) for wrist in (own, other))
        assert np.nanmean(near) < 0.3 * np.nanmean(far)
