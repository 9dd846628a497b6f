"""Augmentation of points: turned, shifted, scaled, mirrored, with other bones and limbs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import registry
from pipeline.augment import Augmentation, Variation
from pipeline.errors import UserError
from pipeline.layouts import KINECT_PARENTS, Layout, layout_of
from pipeline.types import Array
from tests.test_augment import rows_of, table_of, variation, varied

torch.set_num_threads(1)


def distances(rows: Array) -> Array:
    points = rows.reshape(len(rows), -1, 3)
    found: Array = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    return found


@pytest.mark.parametrize("settings", [{"rotate": 30.0}, {"turn": 30.0}, {"rotate": 20.0, "turn": 20.0, "shift": 0.5}])
def test_turned_and_shifted_points_keep_their_distances(settings: dict[str, float]) -> None:
    rows = rows_of(7)
    found = varied(rows, settings=settings)
    assert np.abs(found - rows).max() > 0.01
    np.testing.assert_allclose(distances(found), distances(rows), atol=1e-4)
    if settings == {"rotate": 30.0}:
        np.testing.assert_allclose(found[:, 2::3], rows[:, 2::3], atol=1e-5)
    if settings == {"turn": 30.0}:
        np.testing.assert_allclose(found[:, 1::3], rows[:, 1::3], atol=1e-5)


def test_scaled_points_keep_their_shape() -> None:
    rows = rows_of(7)
    ratio = distances(varied(rows, scale=0.3)).sum() / distances(rows).sum()
    assert 0.7 <= ratio <= 1.3
    assert abs(ratio - 1) > 1e-3
    np.testing.assert_allclose(distances(varied(rows, scale=0.3)), ratio * distances(rows), atol=1e-3)


def mirroring(stage: str = "skeleton") -> Variation:
    """Of clips that are all mirrored."""
    found = variation(stage=stage, mirror=0.5)
    return Variation(found.how.model_copy(update={"mirror": 1.0}), found.layouts, found.seed, found.epoch)


def test_a_mirrored_signer_has_the_other_hand_where_this_one_was() -> None:
    rows = rows_of(5)
    found = mirroring()("clip0", {"skeleton": rows})["skeleton"].reshape(5, 20, 3)
    points = rows.reshape(5, 20, 3)
    middle = points[..., 0].mean()
    np.testing.assert_allclose(found[:, 7, 0], 2 * middle - points[:, 11, 0], atol=1e-5)
    np.testing.assert_allclose(found[:, 12, 1:], points[:, 16, 1:], atol=1e-5)
    np.testing.assert_allclose(found[:, 0, 1:], points[:, 0, 1:], atol=1e-5)


@pytest.mark.parametrize(("stage", "width"), [("skeleton", 60), ("keypoints", 150), ("inertial", 6)])
def test_mirrored_twice_is_as_before(stage: str, width: int) -> None:
    rows = rows_of(5, width)
    once = mirroring(stage)("clip0", {stage: rows})[stage]
    np.testing.assert_allclose(mirroring(stage)("clip0", {stage: once})[stage], rows, atol=1e-4)


def lengths_of_bones(rows: Array) -> Array:
    """`(T, 19)` of a Kinect's skeleton."""
    points = rows.reshape(len(rows), 20, 3)
    ends = [(joint, parent) for joint, parent in enumerate(KINECT_PARENTS) if parent >= 0]
    return np.stack([np.linalg.norm(points[:, joint] - points[:, parent], axis=1) for joint, parent in ends], 1)


def test_bones_have_other_lengths_each_its_own_and_the_same_in_the_whole_clip() -> None:
    rows = rows_of(9)
    ratios = lengths_of_bones(varied(rows, bones=0.2)) / lengths_of_bones(rows)
    np.testing.assert_allclose(ratios, np.broadcast_to(ratios[:1], ratios.shape), rtol=1e-4)
    assert ratios.min() >= 0.8 - 1e-4
    assert ratios.max() <= 1.2 + 1e-4
    assert len(np.unique(ratios[0].round(4))) > 10


def test_turned_limbs_keep_the_lengths_of_all_bones_and_the_hip_centre_its_place() -> None:
    rows = rows_of(9)
    found = varied(rows, limbs=20.0)
    np.testing.assert_allclose(lengths_of_bones(found), lengths_of_bones(rows), rtol=1e-4)
    np.testing.assert_array_equal(found[:, 9:12], rows[:, 9:12])
    assert np.abs(found - rows).max() > 0.1


def test_what_hangs_on_a_bone_moves_along_with_its_end() -> None:
    rows = rows_of(1).reshape(1, 20, 3)
    rows[:, 5] = rows[:, 4]  # an elbow in its shoulder: a bone without length neither grows nor turns
    found = varied(rows.reshape(1, 60), bones=0.2, limbs=20.0).reshape(1, 20, 3)
    assert np.abs(found[:, 4] - rows[:, 4]).max() > 0.01
    np.testing.assert_allclose(found[:, 5], found[:, 4], atol=1e-6)


def test_a_joint_that_is_not_seen_stays_zero_under_other_bones() -> None:
    rows = rows_of(6)
    rows[2:4, 15:18] = 0  # an elbow
    found = varied(rows, bones=0.2, limbs=20.0)
    assert not found[2:4, 15:18].any()
    assert (found != 0).sum() == 6 * 60 - 6


def test_bones_asked_of_points_that_hang_on_nothing_are_one_line() -> None:
    text = "the bones of keypoints are not known, which an augmentation moves (bones=0.1); leave it out: --set bones=0"
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        Augmentation(bones=0.1).variation(table_of([3], "keypoints", 150), 0)


def test_a_sensors_triples_turn_and_do_not_shift() -> None:
    rows = rows_of(6, 6)
    found = varied(rows, stage="inertial", rotate=40.0, turn=40.0, shift=2.0)
    np.testing.assert_allclose(np.linalg.norm(found[:, :3], axis=1), np.linalg.norm(rows[:, :3], axis=1), rtol=1e-5)
    assert np.abs(found - rows).max() > 0.01


FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("skeleton", {}), ("keypoints", {}), ("holistic", {}), ("inertial", {}), ("kinematics", {}),
    ("kinematics", {"source": "stage:skeleton"}), ("kinematics", {"groups": ("absolute", "motion", "pose")}),
    ("kinematics", {"source": "stage:keypoints", "groups": ("absolute", "angles", "shape", "trajectory", "local"), "axes": 2}),
    ("kinematics", {"source": "stage:other", "layout": "skeleton", "groups": ("angles", "trajectory")}),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "fields"), FIELDS)
def test_the_layout_of_a_stage_has_its_width_and_every_column_a_partner(stage: str, fields: dict[str, Any]) -> None:
    extractor = registry.create("stage", stage, fields)
    (width,) = extractor.row_shape
    layout = layout_of(stage, width, extractor.model_dump(mode="json"))
    assert isinstance(layout, Layout)
    assert layout.width == width
    assert [layout.swapped[partner] for partner in layout.swapped] == list(range(width))
    assert [part.start for part in layout.parts][1:] == [part.stop for part in layout.parts][:-1]
    assert all(-1 <= column < width for columns in [*layout.positions, *layout.directions] for column in columns)


def test_points_asked_of_a_stage_without_any_are_one_line() -> None:
    said = "the rows of resnet50 are no points, which an augmentation moves (rotate=5.0, limbs=3.0)"
    with pytest.raises(UserError, match=f"^{re.escape(said)}; leave it out: --set rotate=0 --set limbs=0$"):
        Augmentation(rotate=5, limbs=3).variation(table_of([3], "resnet50", 8), 0)
    assert Augmentation(time_warp=0.2, jitter=0.1).variation(table_of([3], "resnet50", 8), 0) is not None
    with pytest.raises(UserError, match="model 'bilstm_attention': crop='1'"):
        registry.create("model", "bilstm_attention", {"crop": "1"})
