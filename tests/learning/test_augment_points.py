"""Augmentation of points: turned, shifted, scaled, mirrored, with other bones and limbs."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import registry
from pipeline.data.batch import shown
from pipeline.errors import UserError
from pipeline.layouts import KINECT_PARENTS
from pipeline.learning._moving import Drawn, moved
from pipeline.learning.augment import Augmentation, Variation
from pipeline.testing.models import Rows
from pipeline.types import Array
from tests.learning.test_augment import rows_of, table_of, variation, varied
from tests.shared_data import shared
from tests.stages.test_kinematics import MIRRORED, clip

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


def test_a_body_that_is_missing_stays_so_under_other_bones() -> None:
    rows = rows_of(6)
    rows[2:4] = 0
    found = varied(rows, bones=0.2, limbs=20.0)
    assert not found[2:4].any()
    assert np.abs(found - rows)[[0, 1, 4, 5]].max() > 0.1


def test_a_sensors_triples_turn_and_do_not_shift() -> None:
    rows = rows_of(6, 6)
    found = varied(rows, stage="inertial", rotate=40.0, turn=40.0, shift=2.0)
    np.testing.assert_allclose(np.linalg.norm(found[:, :3], axis=1), np.linalg.norm(rows[:, :3], axis=1), rtol=1e-5)
    assert np.abs(found - rows).max() > 0.01


def test_a_stage_that_cannot_take_an_augmentation_is_one_line() -> None:
    said = (
        "rows of stage 'resnet50' cannot take rotate=5.0 (they are no points that it knows), limbs=3.0 (they are no points that it knows)"
    )
    with pytest.raises(UserError, match=f"^{re.escape(said)}; leave it out: --set rotate=0 --set limbs=0$"):
        Augmentation(rotate=5, limbs=3).variation(table_of([3], "resnet50", 8), 0)
    assert Augmentation(time_warp=0.2, jitter=0.1).variation(table_of([3], "resnet50", 8), 0) is not None
    with pytest.raises(UserError, match="model 'bilstm_attention': crop='1'"):
        registry.create("model", "bilstm_attention", {"crop": "1"})


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("keypoints", {}, "turn", "x and y of its pose are fractions of the picture's width and height"),
    ("keypoints", {}, "rotate", "x and y of its pose are fractions of the picture's width and height"),
    ("holistic", {}, "turn", "x and y of its pose are fractions of the picture's width and height"),
    ("holistic", {"include": "left_hand"}, "mirror", "what is left and right of its left_hand is not known"),
    ("skeleton", {"joints": 25}, "mirror", "what is left and right of its body is not known"),
    ("keypoints", {}, "bones", "its bones are not known"),
    ("kinematics", {"groups": "absolute"}, "turn", "its left absolute has no depth that is measured as x and y are"),
    ("kinematics", {"groups": "angles"}, "rotate", "its left angles cannot be turned along"),
    ("kinematics", {"groups": "angles", "axes": 2}, "turn", "its left angles cannot be turned along"),
    ("kinematics", {"groups": "shape"}, "turn", "its left shape cannot be turned along"),
    ("kinematics", {"groups": "angles", "source": "stage:skeleton"}, "turn", "its angles cannot be turned along"),
    ("kinematics", {"groups": "shape"}, "shear", "its left shape cannot be sheared along"),
    ("inertial", {}, "shear", "its deg/s 3 cannot be sheared along"),
    ("inertial", {}, "box_mask", "it has no places"),
    ("kinematics", {"groups": "motion"}, "time_warp", "its left velocity was stored at the speed of the clip"),
    ("kinematics", {"groups": "motion"}, "resample", "its left velocity was stored at the speed of the clip"),
    ("kinematics", {"groups": "motion"}, "frame_drop", "its left velocity was stored at the speed of the clip"),
]


@pytest.mark.parametrize(("stage", "fields", "name", "why"), REFUSED)
def test_what_a_stage_says_of_its_values_refuses_what_would_bend_them(stage: str, fields: dict[str, Any], name: str, why: str) -> None:
    table = table_of([3])
    rows = Rows({"clip0": rows_of(3)}, registry.create("stage", stage, fields).row_shape)
    rows.layout = registry.create("stage", stage, fields).row_layout
    table.stages = {stage: rows}  # type: ignore[dict-item]
    text = f"rows of stage {stage!r} cannot take {name}=0.1 ({why}); leave it out: --set {name}=0"
    with pytest.raises(UserError, match=f"^{re.escape(text)}$"):
        Augmentation.model_validate({name: 0.1}).variation(table, 0)


def test_every_stage_that_is_read_follows_what_is_of_the_whole_signer_and_any_one_may_have_the_bones() -> None:
    table = table_of([3], inertial=6)
    assert Augmentation(bones=0.1, limbs=5, part_dropout=0.1, turn=20).variation(table, 0) is not None
    with pytest.raises(UserError, match=r"^rows of stage 'resnet50' cannot take turn=20\.0 \(they are no points that it knows\); leave"):
        Augmentation(bones=0.1, turn=20).variation(table_of([3], resnet50=8), 0)


def by_hand(stage: str, rows: Array, drawn: Drawn, **fields: Any) -> Array:
    """The rows of a stage moved so."""
    layout = registry.create("stage", stage, fields).row_layout
    return np.where(*moved(rows, np.ones(rows.shape, bool), layout, drawn)[::-1], 0)


MIRROR = Drawn(np.eye(3), 1.0, np.zeros(3), True)


def turning(degrees: float) -> Array:
    angle = np.radians(degrees)
    return np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])


def test_a_mirror_flips_the_x_of_an_acceleration_and_the_y_and_z_of_a_spin() -> None:
    rows = rows_of(6, 6)
    np.testing.assert_allclose(by_hand("inertial", rows, MIRROR), rows * [-1, 1, 1, 1, -1, -1])
    one, other = rows_of(6, 3), rows_of(6, 3, 1)  # a spin is a product of two directions, and goes with them
    every = np.concatenate([one, other, np.cross(one, other)], 1)
    for drawn in (MIRROR, Drawn(turning(30), 1.0, np.zeros(3), False), Drawn(turning(30), 1.0, np.zeros(3), True)):
        found = by_hand("inertial", every, drawn, channels=9, stored_units=("g",) * 6 + ("deg/s",) * 3)
        np.testing.assert_allclose(found[:, 6:], np.cross(found[:, :3], found[:, 3:6]), atol=1e-5)


def test_a_larger_signer_accelerates_more_and_turns_as_fast() -> None:
    rows = rows_of(6, 6)
    found = by_hand("inertial", rows, Drawn(np.eye(3), 1.5, np.ones(3), False))
    np.testing.assert_allclose(found, rows * [1.5, 1.5, 1.5, 1, 1, 1], rtol=1e-6)


def test_a_sensor_of_unknown_units_has_no_vectors() -> None:
    for fields in ({"stored_units": ("other",) * 6}, {"columns": (0, 1)}, {"columns": (1, 2, 3)}, {"channels": 12}):
        assert registry.create("stage", "inertial", fields).row_layout is None
    (spin,) = registry.create("stage", "inertial", {"columns": (3, 4, 5)}).row_layout.parts
    assert spin.kind == "spin"


def test_a_depth_with_an_origin_of_its_own_has_no_middle_and_does_not_shift() -> None:
    rows = rows_of(6, 1662)
    rows[:, [1538, 1601]] = 0  # both wrists, from which the depths of the hands are measured
    found = by_hand("holistic", rows, Drawn(np.eye(3), 1.5, np.ones(3), False))
    np.testing.assert_allclose(found[:, 2:132:4], 1.5 * rows[:, 2:132:4], rtol=1e-5)
    assert not found[:, [1538, 1601]].any()
    np.testing.assert_allclose(found[:, 3:132:4], rows[:, 3:132:4])  # visibility


@pytest.mark.parametrize("drawn", [Drawn(turning(25), 1.0, np.zeros(3), False), MIRROR, Drawn(turning(25), 1.0, np.zeros(3), True)])
def test_moved_kinematics_are_the_kinematics_of_a_signer_who_moved_so(drawn: Drawn) -> None:
    fields = {"source": "stage:keypoints", "normalize": "shoulder", "axes": 2, "aspect": 1.5}
    fields["groups"] = ("absolute", "angles", "motion", "shape", "trajectory", "pose", "local")
    stage = registry.create("stage", "kinematics", fields)
    layout = stage.row_layout
    points = clip()[..., :2]
    points[5:8, 33:54] = 0
    signer = points * [1.5, 1]
    if drawn.is_mirrored:
        signer = np.concatenate([signer[:, :33][:, MIRRORED], signer[:, 54:], signer[:, 33:54]], 1) * [-1, 1]
    seen = (points != 0).any(2, keepdims=True)
    seen = np.concatenate([seen[:, :33], seen[:, 54:], seen[:, 33:54]], 1) if drawn.is_mirrored else seen
    signer = np.where(seen, signer @ drawn.turn[:2, :2].T / [1.5, 1], 0)
    rows, expected = (np.stack([*stage.prepare((row,) for row in each.reshape(24, 150))]) for each in (points, signer))
    found, there = moved(rows, shown(torch.from_numpy(rows), torch.from_numpy(layout.told_by)).numpy(), layout, drawn)
    found = np.where(there, found, 0)
    for part in layout.parts:
        one, other = (each[:, layout.columns[part.name]] for each in (found, expected))
        if part.kind == "place":  # the middle about which it turns is another
            one, other = (each - each.mean(0) for each in (one[8:], other[8:]))
        np.testing.assert_allclose(one, other, atol=2e-3, err_msg=part.name)


def test_a_mirrored_face_is_a_face() -> None:
    with np.load(shared("holistic_luja10/sequences.npz")) as file:
        rows = file["x"][::10].reshape(-1, 1662)
    rows = rows[(rows[:, 132:1536] != 0).any(1)]
    face = by_hand("holistic", rows, MIRROR)[:, 132:1536].reshape(-1, 468, 3).mean(0)
    mean = rows[:, 132:1536].reshape(-1, 468, 3).mean(0)
    affine, *_ = np.linalg.lstsq(np.c_[face, np.ones(468)], mean, rcond=None)
    width = np.ptp(mean[:, 0])
    assert np.abs(np.c_[face, np.ones(468)] @ affine - mean).max() < 0.03 * width
    left_eye, right_eye, lips = (np.array(points) for points in ((263, 362, 386), (33, 133, 159), (13, 14)))
    swapped = registry.create("stage", "holistic").row_layout.swapped[132:1536:3] - 132
    assert (swapped[left_eye] // 3 == right_eye).all()
    assert (swapped[lips] // 3 == lips).all()


def test_a_zero_that_is_real_moves_and_a_part_that_is_missing_does_not() -> None:
    rows = rows_of(6)
    rows[2, 15:18] = 0  # an elbow at the origin
    rows[4] = 0  # nobody
    found = varied(rows, shift=0.5)
    np.testing.assert_allclose(found[2, 15:18], found[0, 15:18] - rows[0, 15:18], atol=1e-5)
    assert found[2, 15:18].all()
    assert not found[4].any()
