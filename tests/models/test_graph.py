"""The graph network: which columns are joints and what they hang on, its inputs and blocks beside plain loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from models._joints import joints_of
from models.graph import GraphBlock, GraphModel, GraphNet
from pipeline import registry
from pipeline.layouts import KINECT_PARENTS, Layout
from pipeline.learning.recipe import Training
from tests.learning.test_augment import rows_of
from tests.learning.test_sequences import table_of

torch.set_num_threads(1)


def layout_of(stage: str, **fields: Any) -> Layout:
    found: Layout = registry.create("stage", stage, fields).row_layout
    return found


def net_of(table: Training, **fields: Any) -> GraphNet:
    """As a training has it before its first step."""
    recipe = GraphModel.model_validate({"stages": tuple(table.stages), "width": 4, "layers": 2, "frames": 0, **fields})
    torch.manual_seed(0)
    module = recipe.build(table.dims, 3)
    recipe.prepare(module, table)
    assert isinstance(module, GraphNet)
    return module


def skeletons(*lengths: int) -> Training:
    return table_of(*(rows_of(length, 60, number) for number, length in enumerate(lengths)), stage="skeleton")


def test_a_skeletons_joints_hang_as_its_layout_says() -> None:
    joints = joints_of([layout_of("skeleton")], [60])
    assert joints.columns.tolist() == [[3 * joint, 3 * joint + 1, 3 * joint + 2] for joint in range(20)]
    assert joints.parents.tolist() == [above if above >= 0 else joint for joint, above in enumerate(KINECT_PARENTS)]


def test_hands_hang_on_the_wrists_of_the_body_where_sides_are_known() -> None:
    joints = joints_of([layout_of("keypoints", hands="wrist")], [150])
    assert len(joints) == 75
    assert joints.columns[34].tolist() == [68, 69, -1]  # two axes
    left, right = 33, 54
    assert joints.parents[[left, right]].tolist() == [15, 16]
    assert joints.parents[left + 8] == left + 7  # the tip of the first finger
    detected = joints_of([layout_of("keypoints")], [150])
    assert detected.parents[[left, right]].tolist() == [left, right]


def test_of_all_landmarks_those_with_bones_are_joints_and_of_other_stages_they_follow() -> None:
    holistic = layout_of("holistic")
    joints = joints_of([layout_of("skeleton"), holistic], [60, holistic.width])
    assert len(joints) == 20 + 33 + 21 + 21
    assert joints.columns[20].tolist() == [60, 61, 62]
    assert joints.columns[21].tolist() == [64, 65, 66]  # a value of visibility lies between
    assert joints.parents[20 + 33] == 20 + 15
    assert (joints.parents[20:] >= 20).all()


def test_rows_that_say_nothing_of_themselves_are_joints_of_three_values_each_alone() -> None:
    joints = joints_of([None], [7])
    assert joints.columns.tolist() == [[0, 1, 2], [3, 4, 5], [6, -1, -1]]
    assert joints.parents.tolist() == [0, 1, 2]
    assert torch.equal(joints.adjacency(), torch.stack([torch.eye(3), torch.zeros(3, 3), torch.zeros(3, 3)]))


def test_a_joint_takes_of_the_one_above_and_evenly_of_those_below() -> None:
    itself, above, below = joints_of([layout_of("skeleton")], [60]).adjacency()
    values = torch.randn(20)
    hangs = [(joint, parent) for joint, parent in enumerate(KINECT_PARENTS) if parent >= 0]
    for joint in range(20):
        on = [parent for child, parent in hangs if child == joint]
        under = [child for child, parent in hangs if parent == joint]
        torch.testing.assert_close(above[joint] @ values, values[on].sum())
        torch.testing.assert_close(below[joint] @ values, values[under].mean() if under else torch.tensor(0.0))
    torch.testing.assert_close(itself @ values, values)


def test_inputs_are_places_bones_and_motion_of_each_joint() -> None:
    table = skeletons(6)
    table.stages["skeleton"]["clip0"][2] = 0  # nobody is seen  # type: ignore[index]
    net = net_of(table, motion=5.0)
    rows = table.stages["skeleton"]["clip0"].reshape(6, 20, 3)
    found = net.joints(net.inputs(table.gather(np.arange(1)))[0])[0].numpy()
    assert found.shape == (6, 20, 9)
    np.testing.assert_array_equal(found[:, :, :3], rows)
    for joint, parent in enumerate(KINECT_PARENTS):
        np.testing.assert_allclose(found[:, joint, 3:6], rows[:, joint] - rows[:, max(parent, 0) if parent >= 0 else joint], rtol=1e-5)
    np.testing.assert_allclose(found[[1, 4, 5], :, 6:], 5 * (rows[[1, 4, 5]] - rows[[0, 3, 4]]), rtol=1e-4, atol=1e-5)
    assert not found[2:4, :, 6:].any()


def test_what_rows_are_followed_by_reaches_every_joint() -> None:
    table = skeletons(6, 4)
    net = net_of(table, motion=0.0, level=True, presence=True)
    rows, _ = net.inputs(table.gather(np.arange(2)))
    found = net.joints(rows)
    assert found.shape[3] == 3 * 4 + 8
    torch.testing.assert_close(found[:, :, 7, 6:9], rows[:, :, 60 + 21 : 60 + 24])
    torch.testing.assert_close(found[:, :, 7, 12:], rows[:, :, 180:])


def test_a_block_is_what_neighbours_say_and_then_what_the_rows_around_say() -> None:
    torch.manual_seed(0)
    block = GraphBlock(4, 6, 3, 0.0).eval()
    joints, edges, own = torch.randn(2, 7, 5, 4), torch.randn(4, 5, 5), torch.ones(2, 7, dtype=torch.bool)
    own[1, 4:] = False
    scale = (1 + block.norm.eps) ** -0.5

    near = torch.stack([torch.cat([edges[kind, joint] @ joints[clip, step] for kind in range(4)])
                        for clip in range(2) for step in range(7) for joint in range(5)]).view(2, 7, 5, 16)  # fmt: skip
    mixed = relu(scale * (near @ block.mix.weight.T)) * own[:, :, None, None]
    padded = nn.functional.pad(mixed, (0, 0, 0, 0, 1, 1))
    around = sum(padded[:, back : back + 7] * block.over_time.weight[:, 0, back, 0] for back in range(3))
    assert isinstance(around, Tensor)
    expected = relu(block.shortcut(joints) + scale * (around @ block.pointwise.weight.T))
    torch.testing.assert_close(block(joints, edges, own)[own], expected[own])


def test_a_trained_graph_comes_back_with_its_joints(tmp_path: Path) -> None:
    table = skeletons(6, 9, 5, 7)
    table.labels, table.classes = np.arange(4) % 2, ("a", "b")
    recipe = GraphModel(width=4, layers=2, epochs=2, ema=0.9)
    trained = recipe.fit(table, table, "cpu")
    assert trained.module.get_parameter("learned").any()
    trained.save(tmp_path)
    again = recipe.predictor(table.dims, 2)
    again.load(tmp_path)
    body = again.module.get_buffer("body")
    assert torch.equal(body, joints_of([layout_of("skeleton")], [60]).adjacency())
    batch = table.gather(np.arange(4))
    np.testing.assert_array_equal(again.logits(batch), trained.logits(batch))


def test_it_is_small() -> None:
    assert sum(values.numel() for values in GraphModel(width=64).build({"skeleton": 60}, 27).parameters()) < 600_000
