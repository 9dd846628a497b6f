"""Sensor rows: as they were stored, or in the units and at the rate that were asked for."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.decoding.decode import open_clip
from pipeline.errors import ClipError, UserError
from pipeline.types import Array, Extractor
from tests.shared_data import shared


def inertial(**fields: Any) -> Extractor:
    stage: Extractor = registry.create("stage", "inertial", fields)
    return stage


def made(stage: Extractor, rows: Array) -> Array:
    """The stage's rows of all the given ones."""
    return np.stack(list(stage.prepare((row,) for row in rows)))


ROWS = np.random.default_rng(0).normal(size=(9, 6))


def test_rows_are_kept_as_they_were_stored() -> None:
    np.testing.assert_array_equal(made(inertial(), ROWS), ROWS.astype(np.float32))


def test_units_become_those_of_the_si() -> None:
    found = made(inertial(units="si"), ROWS)
    np.testing.assert_allclose(found[:, :3], ROWS[:, :3] * 9.80665, rtol=1e-6)
    np.testing.assert_allclose(found[:, 3:], ROWS[:, 3:] * math.pi / 180, rtol=1e-6)
    plain = inertial(units="si", channels=2, stored_units="m/s2,other")
    np.testing.assert_array_equal(made(plain, ROWS[:, :2]), ROWS[:, :2].astype(np.float32))


def test_some_columns_are_kept() -> None:
    stage = inertial(channels=4, columns="2,0")
    assert stage.row_shape == (2,)
    np.testing.assert_array_equal(made(stage, ROWS[:, :4]), ROWS[:, [2, 0]].astype(np.float32))


def test_one_number_an_instant_is_one_channel() -> None:
    assert made(inertial(channels=1), np.arange(3.0)).tolist() == [[0], [1], [2]]


@given(st.integers(0, 400), st.floats(1, 300), st.floats(1, 300))
def test_instants_show_the_row_nearest_in_time(length: int, stored: float, wanted: float) -> None:
    chosen = inertial(rate_hz=wanted, stored_rate_hz=stored).select(length, 0.0)
    assert len(chosen) == pytest.approx(length * wanted / stored, abs=1 + wanted / stored)
    times = np.arange(len(chosen)) / wanted
    assert (np.abs(times - chosen / stored) <= 0.5 / stored + 1e-9).all()


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"units": "si", "channels": 4}, "6 stored_units for 4 channels; name one each"),
        ({"columns": "0,6"}, r"columns=0,6: choose from 0\.\.5"),
        ({"columns": ()}, r"columns=none: choose from 0\.\.5"),
        ({"stored_rate_hz": 0}, "stored_rate_hz=0: Input should be greater than 0"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError, match=f"stage 'inertial': {reason}"):
        inertial(**fields)


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (ROWS[:, :4], r"sensor rows are \(4,\), where 6 channels are expected \(--set channels=N\)"),
        (ROWS.reshape(9, 2, 3), r"sensor rows are \(2, 3\), where 6 channels"),
        (np.where(np.arange(9)[:, None] == 4, np.nan, ROWS), "row 4 of the sensor holds a value that is no finite number"),
    ],
)
def test_other_rows_fail_their_clip(rows: Array, reason: str) -> None:
    with pytest.raises(ClipError, match=reason):
        made(inertial(), rows)


def test_two_tracks_are_no_sensor() -> None:
    with pytest.raises(ClipError, match=r"sensor rows are \(6,\) \+ \(6,\)"):
        list(inertial().prepare((row, row) for row in ROWS))


def test_a_real_recording_is_read() -> None:
    path: Path = shared("utd_mhad/Inertial/a1_s1_t1_inertial.mat")
    clip = open_clip([path], decord=True, lengths={})
    rows = np.stack(list(inertial().prepare(clip.frames(np.arange(clip.length)))))
    assert rows.shape == (clip.length, 6)
    assert 107 <= clip.length <= 326
    assert 0.5 < np.linalg.norm(rows[:, :3], axis=1).mean() < 2, "gravity is 1 g"
