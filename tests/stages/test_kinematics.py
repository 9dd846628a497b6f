"""Features of how hands and body move: their dimensions, what they do not depend on, and what smoothing may not touch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import registry
from pipeline.cache.identity import fingerprint
from pipeline.errors import ClipError, UserError
from pipeline.types import Array, Extractor
from stages._points import FINGERS, LIMBS

GROUPS = {"absolute": 126, "angles": 78, "motion": 252, "shape": 4, "trajectory": 30, "pose": 75}
BODY = {"absolute": 60, "angles": 42, "motion": 120, "trajectory": 30}
MIRRORED = np.array([0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9, *(n + (1 if n % 2 else -1) for n in range(11, 33))])
"""MediaPipe's pose with left and right exchanged."""


def kinematics(**fields: Any) -> Extractor:
    stage: Extractor = registry.create("stage", "kinematics", fields)
    return stage


def made(rows: Array, **fields: Any) -> Array:
    return np.stack(list(kinematics(**fields).prepare((row,) for row in rows)))


def clip(frames: int = 24, seed: int = 0) -> Array:
    """`(T, 75, 3)` points of a body and two hands that move smoothly, with some noise."""
    random = np.random.default_rng(seed)
    phase = np.linspace(0, 2 * np.pi, frames)[:, None, None]
    rest = random.random((1, 75, 3))
    return np.asarray(0.3 + 0.4 * rest + 0.1 * np.sin(phase * random.integers(1, 3, (1, 75, 3))) + random.normal(0, 0.003, (frames, 75, 3)))


def holistic(points: Array, face: bool = True) -> Array:
    """Rows of the stage `holistic`; a hand of zeros stays one."""
    frames = len(points)
    pose = np.concatenate([points[:, :33], np.ones((frames, 33, 1))], axis=2).reshape(frames, -1)
    middle = [np.full((frames, 1404), 0.5)] if face else []
    return np.concatenate([pose, *middle, points[:, 33:].reshape(frames, -1)], axis=1).astype(np.float32)


def flat(points: Array) -> Array:
    """Rows of the stage `keypoints`."""
    return points[..., :2].reshape(len(points), -1).astype(np.float32)


@pytest.mark.parametrize("group", GROUPS)
def test_each_group_of_hands_and_pose_has_its_size(group: str) -> None:
    for source in ("stage:holistic", "stage:keypoints"):
        assert kinematics(source=source, groups=group).row_shape == (GROUPS[group],)
    assert made(holistic(clip()), groups=group).shape == (24, GROUPS[group])
    assert made(flat(clip()), groups=group, layout="keypoints").shape == (24, GROUPS[group])


def test_all_groups_follow_one_another_in_one_order() -> None:
    rows = holistic(clip())
    whole = made(rows)
    assert whole.shape == (24, 565)
    np.testing.assert_array_equal(whole, np.concatenate([made(rows, groups=group) for group in GROUPS], axis=1))
    np.testing.assert_array_equal(made(rows, groups="pose,absolute"), whole[:, [*range(126), *range(490, 565)]])


@pytest.mark.parametrize("group", BODY)
def test_sizes_of_a_skeleton_follow_from_its_joints(group: str) -> None:
    rows = clip(30)[:, :20].reshape(30, 60).astype(np.float32)
    assert made(rows, source="stage:skeleton", groups=group).shape == (30, BODY[group])
    assert kinematics(source="stage:skeleton").row_shape == (252,)


def test_points_from_their_own_wrist_are_only_there_where_asked() -> None:
    rows = holistic(clip())
    assert made(rows, groups="local").shape == (24, 126)
    whole = made(rows, groups="absolute,local")
    hands, local = whole[:, :126].reshape(24, 2, 21, 3), whole[:, 126:].reshape(24, 2, 21, 3)
    assert not local[:, :, 0].any()
    lengths = np.median(np.linalg.norm((hands - hands[:, :, :1])[:, :, 9, :2], axis=-1), axis=0)
    np.testing.assert_allclose(local, (hands - hands[:, :, :1]) / lengths[None, :, None, None], rtol=1e-3, atol=1e-4)
    assert kinematics(source="stage:skeleton", groups="absolute,local").row_shape == (60,)


def test_where_a_hand_is_and_how_large_does_not_count_from_its_wrist() -> None:
    points = clip()
    moved = points.copy()
    moved[:, 33:54] = 0.7 * points[:, 33:54] + [0.2, -0.1, 0]
    np.testing.assert_allclose(made(holistic(moved), groups="local"), made(holistic(points), groups="local"), atol=2e-3)


def test_a_hand_that_is_not_seen_has_zeros_from_its_wrist() -> None:
    points = clip()
    points[:6, 33:54] = 0
    rows = made(holistic(points), groups="local").reshape(24, 2, 63)
    assert not rows[:6, 0].any()
    assert rows[6:, 0].any(axis=1).all()


def test_two_axes_are_the_values_in_the_image() -> None:
    rows = flat(clip())
    groups = "absolute,angles,motion,shape,trajectory,pose,local"
    whole, image = (made(rows, layout="keypoints", groups=groups, axes=axes) for axes in (3, 2))
    assert image.shape == (24, 84 + 26 + 168 + 4 + 20 + 50 + 84)
    start, kept = 0, list[int]()
    for width, count in ((126, 2), (78, 1), (252, 2), (0, 0), (30, 2), (75, 2), (126, 2)):
        kept += [start + 3 * point + axis for point in range(width // 3) for axis in range(count)] if width else range(start, start + 4)
        start += width or 4
    np.testing.assert_array_equal(image, whole[:, kept])
    assert kinematics(source="stage:skeleton", axes=2).row_shape == (40 + 14 + 80 + 20,)


@pytest.mark.parametrize("count", [len(FINGERS), len(LIMBS) - 1])
def test_a_hand_has_13_joints(count: int) -> None:
    assert count == 13
    assert len(set(FINGERS)) == 13


def test_rows_without_the_face_are_the_same() -> None:
    np.testing.assert_array_equal(made(holistic(clip())), made(holistic(clip(), face=False)))


def test_z_of_keypoints_is_zero() -> None:
    rows = made(flat(clip()), layout="keypoints")
    assert (rows[:, 2:126:3] == 0).all()
    without_z = clip() * [1, 1, 0]
    np.testing.assert_allclose(rows, made(holistic(without_z)), atol=2e-5)


@settings(max_examples=20)
@given(st.sampled_from(["centroid", "shoulder"]), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.2, 5), st.integers(0, 5))
def test_place_and_size_in_the_image_do_not_count(by: str, right: float, down: float, size: float, seed: int) -> None:
    points = clip(seed=seed)
    moved = points * size + [right, down, 0]
    before, after = (made(holistic(each), normalize=by) for each in (points, moved))
    np.testing.assert_allclose(after, before, atol=2e-3)


@settings(max_examples=10)
@given(st.sampled_from(["centroid", "shoulder"]), st.integers(0, 5))
def test_a_mirrored_signer_gives_mirrored_features(by: str, seed: int) -> None:
    points = clip(seed=seed)
    mirrored = np.concatenate([points[:, :33][:, MIRRORED], points[:, 54:], points[:, 33:54]], axis=1) * [-1, 1, 1]
    for group, turn in (("absolute", [-1, 1, 1]), ("angles", [1, 1, 1])):
        before, after = (made(holistic(each), normalize=by, groups=group).reshape(24, 2, -1, 3) for each in (points, mirrored))
        np.testing.assert_allclose(after, before[:, ::-1] * turn, atol=2e-4)
    hulls, turned = (made(holistic(each), normalize=by, groups="shape").reshape(24, 2, 2) for each in (points, mirrored))
    np.testing.assert_allclose(turned, hulls[:, ::-1], atol=2e-4)


def test_wide_images_are_scaled_back() -> None:
    points = clip()
    squeezed = points / [16 / 9, 1, 16 / 9]
    np.testing.assert_allclose(made(holistic(squeezed), aspect=16 / 9), made(holistic(points)), atol=2e-4)


def test_shoulders_are_one_apart_and_around_the_origin() -> None:
    pose = made(flat(clip()), layout="keypoints", normalize="shoulder", groups="pose").reshape(24, 25, 3)
    left, right = pose[:, 11], pose[:, 12]
    assert np.median(np.linalg.norm(left - right, axis=1)) == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(np.median((left + right) / 2, axis=0), 0, atol=1e-4)


def test_the_farthest_point_from_the_centroid_is_one_away() -> None:
    rows = made(flat(clip()), layout="keypoints", groups="absolute,pose")
    assert np.linalg.norm(rows.reshape(24, -1, 3), axis=2).max() == pytest.approx(1, abs=1e-5)


def test_a_missing_hand_is_zero_and_leaves_the_frames_around_it_alone() -> None:
    points = clip(40)
    gone = slice(15, 20)
    without = points.copy()
    without[gone, 33:54] = 0
    rows = made(holistic(without), normalize="shoulder")
    left = [*range(63), *range(126, 165), *range(204, 267), *range(330, 393), 456, 457]
    assert (rows[gone, :][:, left] == 0).all()
    before = made(holistic(points[:15]), normalize="shoulder", groups="angles,shape")
    np.testing.assert_allclose(made(holistic(without), normalize="shoulder", groups="angles,shape")[:15, :39], before[:, :39], atol=1e-5)


def test_a_gap_may_be_bridged_after_smoothing() -> None:
    points = clip(40)
    without = points.copy()
    without[15:20, 33:54] = 0
    zero, bridged = (made(holistic(without), missing=missing, groups="absolute") for missing in ("zero", "interpolate"))
    np.testing.assert_array_equal(np.delete(bridged, range(15, 20), axis=0), np.delete(zero, range(15, 20), axis=0))
    expected = zero[14, :63] + (zero[20, :63] - zero[14, :63]) * np.arange(1, 6)[:, None] / 6
    np.testing.assert_allclose(bridged[15:20, :63], expected, atol=1e-5)
    without[:, 33:54] = 0
    assert (made(holistic(without), missing="interpolate", groups="absolute")[:, :63] == 0).all()


def test_nan_is_a_missing_hand_as_zero_is() -> None:
    zero, nan = flat(clip()), flat(clip())
    zero[5:9, 66:108], nan[5:9, 66:108] = 0, np.nan
    np.testing.assert_array_equal(made(nan, layout="keypoints"), made(zero, layout="keypoints"))


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_the_shortest_clips_have_finite_rows(frames: int) -> None:
    for layout, rows in (("holistic", holistic(clip(frames))), ("keypoints", flat(clip(frames)))):
        found = made(rows, layout=layout)
        assert found.shape == (frames, 565)
        assert np.isfinite(found).all()
    assert list(kinematics().prepare(iter(()))) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"window": 10}, r"window=10 must be odd and more than order=3"),
        ({"window": 5, "order": 5}, r"window=5 must be odd and more than order=5"),
        ({"source": "rgb"}, r"source='rgb' is no stage; give one of landmarks, as in source=stage:holistic"),
        ({"source": "stage:skeleton", "groups": "shape,pose"}, r"groups=shape,pose leaves nothing of skeleton rows"),
        ({"groups": "speed"}, r"Input should be 'absolute', 'angles'"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"stage 'kinematics': .*{reason}"):
        kinematics(**fields)


@pytest.mark.parametrize(
    ("rows", "fields", "reason"),
    [
        (np.ones((3, 150)), {}, r"rows of 150 values are none of holistic, which has 1662, or 258 without the face; .*--set layout="),
        (np.ones((3, 1662)), {"layout": "skeleton"}, "rows of 1662 values are none of skeleton, which has 60"),
        (np.zeros((3, 1662)), {}, "no frame shows the body, so there is nothing to measure from"),
        (np.ones((3, 1662)), {"normalize": "shoulder"}, "the body has no size: its points lie on one another"),
    ],
)
def test_rows_that_cannot_be_measured_fail_their_clip(rows: Array, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ClipError, match=reason):
        made(rows, **fields)


def test_the_identity_holds_the_files_that_the_stage_imports() -> None:
    code = fingerprint(kinematics(), "upstream").identity["code"]
    assert set(code) == {"stages/kinematics.py", "stages/_motion.py", "stages/_points.py"}


def test_parts_of_stages_are_no_stages() -> None:
    folder = Path(str(registry.find("stage", "kinematics").__module__).partition(".")[0])
    assert (Path(__file__).resolve().parents[2] / folder / "_motion.py").exists()
    assert not [name for name in registry.names("stage") if name.startswith("_")]
    with pytest.raises(UserError, match="no stage called '_motion'"):
        registry.find("stage", "_motion")
