"""What sequence models read: differences that know of gaps, at every way of normalising, blended or from a run of before."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models._inputs import Inputs
from models.lstm_late import LstmLate
from pipeline import registry
from pipeline.decoding.tables import read_rows
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.augment import Augmentation
from pipeline.learning.recipe import Training
from pipeline.testing.models import Rows
from pipeline.types import Array
from tests.learning.test_augment import rows_of
from tests.shared_data import shared

HANDS = {"left_hand": slice(66, 108), "right_hand": slice(108, 150)}


def table_of(*clips: Array, stage: str = "keypoints", **fields: Any) -> Training:
    """Clips of a stage that says what its rows are."""
    extractor = registry.create("stage", stage, fields)
    rows = Rows({f"clip{number}": clip for number, clip in enumerate(clips)}, extractor.row_shape)
    rows.layout = extractor.row_layout
    opened: Any = {stage: rows}
    return Training(tuple(rows), np.zeros(len(clips), np.int64), ("a",), opened, seed=3)


def recipe_of(table: Training, **fields: Any) -> LstmLate:
    return LstmLate.model_validate({"stages": tuple(table.stages), "motion": 4.0, **fields})


def inputs_of(table: Training, **fields: Any) -> Inputs:
    """As a training of these settings has them."""
    recipe = recipe_of(table, **fields)
    inputs = Inputs(recipe, table.dims)
    recipe.prepare(nn.ModuleDict({"inputs": inputs}), table)
    return inputs


def motion_of(table: Training, **fields: Any) -> Array:
    """`(B, T, D)`."""
    rows, _ = inputs_of(table, **fields)(table.gather(np.arange(len(table))))
    return np.asarray(rows[:, :, rows.shape[2] // 2 :].numpy())


def with_gap() -> Array:
    rows = rows_of(12, 150)
    rows[3:5, HANDS["left_hand"]] = 0
    rows[7, 70] = 0  # of a hand that is seen: a real zero
    return rows


@pytest.mark.parametrize("normalize", ["none", "train", "clip"])
def test_no_hand_moves_where_it_comes_or_goes(normalize: str) -> None:
    rows = with_gap()
    (found,) = motion_of(table_of(rows, wide := rows_of(12, 150)), normalize=normalize)[:1]
    assert not found[3:6, HANDS["left_hand"]].any()
    assert found[[1, 2, 6, 7, 8], HANDS["left_hand"]].all()
    assert found[1:, :66].all()
    assert found[1:, HANDS["right_hand"]].all()
    assert not found[0].any()
    if normalize == "none":
        np.testing.assert_allclose(found[1:3], 4 * np.diff(rows, axis=0)[:2], rtol=1e-5)
        np.testing.assert_allclose(motion_of(table_of(rows, wide))[1, 1:], 4 * np.diff(wide, axis=0), rtol=1e-5)


def test_a_zero_of_a_stage_whose_rows_are_numbers_is_a_value() -> None:
    table = table_of(with_gap())
    table.stages["keypoints"].layout = None
    assert motion_of(table)[0, [3, 5], HANDS["left_hand"]].all()


def test_stages_side_by_side_each_know_their_own_gaps() -> None:
    table, sensor = table_of(with_gap()), Rows({"clip0": rows_of(6, 6)}, (6,))
    sensor["clip0"][2] = 0
    sensor.layout = registry.create("stage", "inertial").row_layout
    table.stages = {"inertial": sensor, **table.stages}  # type: ignore[dict-item]
    table.__post_init__()
    found = motion_of(table)[0]
    assert found[2, :6].all()  # a sensor that rests
    assert not found[2:3, 6:][:, HANDS["left_hand"]].any()


def test_missing_is_said_by_another_part_where_a_still_hand_has_zeros_too() -> None:
    layout = registry.create("stage", "kinematics").row_layout
    rows = rows_of(6, 565)
    rows[2:4, layout.columns["left velocity"]] = 0  # it rests
    rows[5, layout.columns["left absolute"]] = 0  # it is gone
    found = motion_of(table_of(rows, stage="kinematics"))[0]
    assert found[2, layout.columns["left velocity"]].all()
    for part in ("absolute", "velocity", "acceleration", "shape"):
        assert not found[5, layout.columns[f"left {part}"]].any()
    assert found[5, layout.columns["right velocity"]].all()


def test_a_run_of_before_is_read_as_it_was_trained() -> None:
    table = table_of(with_gap())
    inputs = inputs_of(table)
    inputs.load_state_dict({})
    rows, _ = inputs(table.gather(np.arange(1)))
    assert rows[0, [3, 5], 150:].all()


def test_what_was_learned_of_gaps_is_kept_with_the_weights(tmp_path: Path) -> None:
    table = table_of(with_gap(), with_gap())
    recipe = recipe_of(table, hidden=4, epochs=1)
    trained = recipe.fit(table, table, "cpu")
    trained.save(tmp_path)
    again = recipe.predictor(table.dims, 1)
    again.load(tmp_path)
    told_by = again.module.get_submodule("inputs").get_buffer("told_by")
    assert torch.equal(told_by, torch.from_numpy(table.stages["keypoints"].layout.told_by))  # type: ignore[union-attr]
    batch = table.gather(np.arange(2))
    np.testing.assert_array_equal(again.logits(batch), trained.logits(batch))


def test_a_part_is_blended_only_with_one_that_is_seen() -> None:
    table = table_of(rows_of(12, 150, 1), with_gap())
    batch = table.gather(np.arange(2))
    blend = Augmentation(mixup=0.4).blended(batch, table, 0)
    assert blend is not None
    before, after = batch.features["keypoints"], blend.batch.features["keypoints"]
    left, right = HANDS["left_hand"], HANDS["right_hand"]
    assert torch.equal(after[0, :, left], before[0, :, left])  # the other one misses it
    assert not after[1, 3:5, left].any()
    assert (after[1, [2, 5], left] != before[1, [2, 5], left]).all()
    assert (after[0, :, right] != before[0, :, right]).all()
    moving, _ = inputs_of(table)(blend.batch)
    assert not moving[1, 3:6, 150:][:, left].any()


def test_what_a_clips_own_normalising_undoes_is_refused() -> None:
    table = table_of(rows_of(6), stage="skeleton")
    with pytest.raises(UserError, match=r"^normalize=clip undoes scale=0\.2, shift=0\.1: .*; leave it out: --set scale=0 --set shift=0$"):
        recipe_of(table, normalize="clip", scale=0.2, shift=0.1).change(table, 0)
    fusion = registry.create("model", "late_fusion", {"members": ["lstm_late:stages=skeleton:normalize=clip:scale=0.2"]}).adapted({})
    with pytest.raises(UserError, match=r"^normalize=clip undoes scale=0\.2: "):  # before any member is trained
        fusion.check({"skeleton": table.stages["skeleton"].layout})
    learning = registry.create("model", "self_learning_fusion", {"stages": ("skeleton",), "normalize": "clip", "shift": 0.1}).adapted({})
    with pytest.raises(UserError, match=r"^normalize=clip undoes shift=0\.1: "):
        learning.check({"skeleton": table.stages["skeleton"].layout, "inertial": None})
    assert recipe_of(table, normalize="train", scale=0.2, shift=0.1).change(table, 0) is not None


def kinematics_of(path: Path) -> tuple[Array, Layout]:
    """Rows of a real clip by the corpus' own settings."""
    corpus = registry.create("dataset", "include50")
    points = registry.create("stage", "keypoints", corpus.stages["keypoints"])
    stage = registry.create("stage", "kinematics", corpus.stages["kinematics"])
    rows = list(points.prepare((instant,) for instant in read_rows(path)))
    return np.stack([*stage.prepare((row,) for row in rows)]), stage.row_layout


def test_edges_of_gaps_in_real_clips_hold_no_motion(tmp_path: Path) -> None:
    with zipfile.ZipFile(shared("include50_keypoints/include50_keypoints_train_val.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")][::60]
        paths = [Path(archive.extract(name, tmp_path)) for name in names]
    missing = edges = 0
    for path in paths:
        rows, layout = kinematics_of(path)
        corpus = registry.create("dataset", "include50")
        found = motion_of(table_of(rows, stage="kinematics", **corpus.stages["kinematics"]))[0]
        for hand in ("left", "right"):
            columns = np.r_[layout.columns[f"{hand} absolute"], layout.columns[f"{hand} local"]]
            seen = (rows[:, columns] != 0).any(1)
            both = seen[1:] & seen[:-1]
            assert not found[1:][~both][:, columns].any()
            np.testing.assert_allclose(found[1:][both][:, columns], 4 * np.diff(rows, axis=0)[both][:, columns], rtol=1e-4, atol=1e-6)
            missing, edges = missing + int((~seen).sum()), edges + int((seen[1:] != seen[:-1]).sum())
    assert missing > 100
    assert edges > 10
