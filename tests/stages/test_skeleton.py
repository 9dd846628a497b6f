"""Joints of a skeleton are rows, joint by joint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from pipeline import registry
from pipeline.decoding.decode import open_clip
from pipeline.errors import ClipError, UserError
from pipeline.types import Array, Extractor
from tests.shared_data import shared

JOINTS = np.random.default_rng(0).normal(size=(20, 3, 7))


def skeleton(**fields: Any) -> Extractor:
    stage: Extractor = registry.create("stage", "skeleton", fields)
    return stage


def read(path: Path, stage: Extractor) -> Array:
    clip = open_clip([path], decord=True, lengths={})
    return np.stack(list(stage.prepare(clip.frames(np.arange(clip.length)))))


def test_a_matlab_skeleton_is_a_row_an_instant(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"d_skel": JOINTS})
    rows = read(tmp_path / "a.mat", skeleton())
    assert rows.shape == (7, 60)
    assert rows.dtype == np.float32
    for joint in range(20):
        for axis in range(3):
            np.testing.assert_array_equal(rows[:, 3 * joint + axis], JOINTS[joint, axis].astype(np.float32))


def test_rows_of_arrays_are_the_same_skeleton(tmp_path: Path) -> None:
    positions = np.moveaxis(JOINTS, 2, 0)
    np.save(tmp_path / "a.npy", positions)
    np.save(tmp_path / "b.npy", positions.reshape(7, 60))
    np.testing.assert_array_equal(read(tmp_path / "a.npy", skeleton()), read(tmp_path / "b.npy", skeleton()))


def test_another_camera_has_other_joints() -> None:
    stage = skeleton(joints=25)
    assert stage.row_shape == (75,)
    assert np.stack(list(stage.prepare(iter([(np.zeros((25, 3)),)])))).shape == (1, 75)


def test_other_joints_fail_their_clip() -> None:
    with pytest.raises(ClipError, match=r"joints are \(25, 3\), where \(20, 3\) is expected \(--set joints=N\)"):
        list(skeleton().prepare(iter([(np.zeros((25, 3)),)])))
    with pytest.raises(ClipError, match="frame 0 has a joint whose place is no finite number"):
        list(skeleton().prepare(iter([(np.full((20, 3), np.nan),)])))


def of(positions: Array, **fields: Any) -> Array:
    """`(T, 20, 3)` as the stage gives them."""
    return np.stack(list(skeleton(**fields).prepare(iter([(row,) for row in positions])))).reshape(len(positions), -1, 3)


def test_from_the_start_it_does_not_matter_where_a_person_stands_but_where_they_go() -> None:
    positions = np.moveaxis(JOINTS, 2, 0)
    found = of(positions, origin="start")
    np.testing.assert_allclose(found, of(positions + np.array([1, -2, 3]), origin="start"), atol=1e-6)
    np.testing.assert_allclose(found[0].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(found - found[0], positions - positions[0], atol=1e-6)


def test_by_the_torso_a_tall_person_is_like_a_short_one() -> None:
    positions = np.moveaxis(JOINTS, 2, 0)
    found = of(positions, unit="torso")
    np.testing.assert_allclose(found, of(1.3 * positions, unit="torso"), rtol=1e-5)
    assert np.median(np.linalg.norm(found[:, 1] - found[:, 3], axis=1)) == pytest.approx(1)


def test_a_row_in_which_nobody_was_seen_stays_zeros_and_counts_for_nothing() -> None:
    positions = np.moveaxis(JOINTS, 2, 0)
    gaps = np.concatenate([np.zeros((2, 20, 3)), positions, np.zeros((9, 20, 3))])
    found = of(gaps, origin="start", unit="torso")
    np.testing.assert_array_equal(found[2:9], of(positions, origin="start", unit="torso"))
    assert not found[:2].any()
    assert not found[9:].any()


def test_the_torso_is_a_kinects_and_has_a_length() -> None:
    with pytest.raises(UserError, match="unit=torso knows the torso of 20 joints, not of joints=25; use unit=stored"):
        skeleton(joints=25, unit="torso")
    with pytest.raises(ClipError, match="the torso has no length"):
        of(np.zeros((2, 20, 3)), unit="torso")


def test_a_real_skeleton_has_its_head_up() -> None:
    rows = read(shared("utd_mhad/Skeleton/a1_s1_t1_skeleton.mat"), skeleton())
    assert rows.shape[1] == 60
    assert 41 <= len(rows) <= 125
    joints = rows.reshape(-1, 20, 3)
    assert (joints[:, 0, 1] > joints[:, 3, 1]).all()
