"""What rows keep of a clip that normalising and thinning take away: levels, means of segments, two steps, presence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from models._inputs import Inputs
from models.lstm_late import LstmLate
from models.transformer import Transformer
from pipeline.errors import UserError
from pipeline.learning.recipe import Training
from pipeline.types import Array
from tests.learning.test_augment import rows_of
from tests.learning.test_sequences import HANDS, table_of, with_gap

torch.set_num_threads(1)


def read(table: Training, **fields: Any) -> tuple[Array, Array]:
    """`(B, T, width)` rows and their lengths, as a training of these settings reads the clips."""
    recipe = LstmLate.model_validate({"stages": tuple(table.stages), **fields})
    inputs = Inputs(recipe, table.dims)
    recipe.prepare(nn.ModuleDict({"inputs": inputs}), table)
    rows, lengths = inputs(table.gather(np.arange(len(table))))
    assert rows.shape[2] == inputs.width
    return rows.numpy(), lengths.numpy()


def sensors(*lengths: int) -> Training:
    return table_of(*((number + 1) * rows_of(length, 6, number) + number for number, length in enumerate(lengths)), stage="inertial")


def test_a_long_clip_is_the_means_of_its_segments_and_a_short_one_itself() -> None:
    table = sensors(23, 5, 8)
    rows, lengths = read(table, frames=8, sampling="means")
    long = table.stages["inertial"]["clip0"]
    expected = [long[i * 23 // 8 : (i + 1) * 23 // 8].mean(0) for i in range(8)]
    np.testing.assert_allclose(rows[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows[1, :5], table.stages["inertial"]["clip1"])
    np.testing.assert_array_equal(rows[2], table.stages["inertial"]["clip2"])
    assert not rows[1, 5:].any()
    assert lengths.tolist() == [8, 5, 8]


def test_a_part_is_averaged_over_the_rows_that_show_it() -> None:
    table = table_of(with_gap())  # the left hand is not there in rows 3 and 4
    rows, _ = read(table, frames=4, sampling="means")
    given = table.stages["keypoints"]["clip0"]
    np.testing.assert_allclose(rows[0, 1, HANDS["left_hand"]], given[5, HANDS["left_hand"]], rtol=1e-6)
    np.testing.assert_allclose(rows[0, 1, HANDS["right_hand"]], given[3:6, HANDS["right_hand"]].mean(0), rtol=1e-4, atol=1e-6)
    rows, _ = read(table, frames=6, sampling="means")
    np.testing.assert_allclose(rows[0, 1, HANDS["left_hand"]], given[2, HANDS["left_hand"]], rtol=1e-6)
    given[4:6, HANDS["left_hand"]] = 0
    assert not read(table, frames=6, sampling="means")[0][0, 2, HANDS["left_hand"]].any()


@pytest.mark.parametrize("normalize", ["none", "clip"])
def test_a_clips_level_is_normalised_over_the_training_clips(normalize: str) -> None:
    table = sensors(23, 5, 8)
    rows, lengths = read(table, normalize=normalize, frames=6, sampling="means", level=True)
    plain = []
    for clip in table.stages["inertial"].values():
        deviation = clip.std(0)
        plain.append(np.concatenate([clip.mean(0), np.log(deviation + 1e-3 * deviation.mean() + 1e-6)]))
    expected = (np.stack(plain) - np.mean(plain, 0)) / np.std(plain, 0)
    for found, length, level in zip(rows, lengths, expected, strict=True):
        np.testing.assert_allclose(found[:length, 6:], np.tile(level, (length, 1)), rtol=2e-4, atol=1e-4)
        assert not found[length:].any()


def test_clips_that_score_are_normalised_by_the_training_clips() -> None:
    table, other = sensors(23, 5, 8), table_of(9 + rows_of(7, 6, 9), stage="inertial")
    recipe = LstmLate.model_validate({"stages": ("inertial",), "level": True})
    inputs = Inputs(recipe, table.dims)
    recipe.prepare(nn.ModuleDict({"inputs": inputs}), table)
    rows, _ = inputs(other.gather(np.arange(1)))
    means = np.stack([clip.mean(0) for clip in table.stages["inertial"].values()])
    expected = (other.stages["inertial"]["clip0"].mean(0) - means.mean(0)) / means.std(0)
    np.testing.assert_allclose(rows[0, 0, 6:12], expected, rtol=1e-3)


def test_a_part_that_no_row_shows_has_no_level() -> None:
    gone = rows_of(12, 150, 4)
    gone[:, HANDS["left_hand"]] = 0
    rows, _ = read(table_of(with_gap(), rows_of(9, 150, 1), gone), level=True)
    levels = rows[2, 0, 150:].reshape(2, 150)
    assert not levels[:, HANDS["left_hand"]].any()
    assert levels[:, HANDS["right_hand"]].all()


def test_a_difference_of_two_rows_knows_of_gaps() -> None:
    table = table_of(rows := with_gap())
    found = read(table, motion=4.0, motion_two=2.0)[0][0, :, 300:]
    left, right = HANDS["left_hand"], HANDS["right_hand"]
    np.testing.assert_allclose(found[2:, right], 2 * (rows[2:] - rows[:-2])[:, right], rtol=1e-5, atol=1e-6)
    assert not found[:2].any()
    assert not found[3:7, left].any()
    assert found[7:, left].any(1).all()


def test_presence_tells_of_each_part_in_its_order() -> None:
    rows, _ = read(table_of(with_gap(), rows_of(9, 150)), presence=True)
    bits = rows[:, :, 150:]
    assert bits.shape[2] == 8
    assert bits[0, :, 1].tolist() == [0.0 if number in (3, 4) else 1.0 for number in range(12)]
    assert bits[1, :9, :3].all()
    assert not bits[1, 9:].any()
    assert not bits[:, :, 3:].any()


def test_more_parts_than_there_are_bits_is_one_line() -> None:
    table = table_of(rows_of(4, 150))
    table.stages = dict.fromkeys(("keypoints", "twice", "thrice"), table.stages["keypoints"])
    table.__post_init__()
    with pytest.raises(UserError, match="presence=true tells of 8 parts at most, and keypoints, twice, thrice have 9; set presence=false"):
        read(table, presence=True)


def test_what_normalising_takes_away_may_vary_where_levels_bring_it_back() -> None:
    table = table_of(rows_of(6), stage="skeleton")
    fields = {"stages": ("skeleton",), "normalize": "clip", "scale": 0.2}
    assert Transformer.model_validate({**fields, "level": True}).change(table, 0) is not None
    with pytest.raises(UserError, match="normalize=clip undoes scale"):
        Transformer.model_validate(fields).change(table, 0)
