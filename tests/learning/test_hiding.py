"""Pieces of time and boxes that are not seen, shear, and label smoothing of blended clips."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot

from pipeline import registry
from pipeline.learning._hiding import Hidden, hide
from pipeline.learning.augment import Augmentation, Blend
from pipeline.learning.fitting import Fitting
from pipeline.testing.models import table_of as classes_of
from pipeline.types import Array
from tests.learning.test_augment import rows_of, table_of, variation, varied
from tests.learning.test_fitting import LENGTHS, small_lstm

torch.set_num_threads(1)


def hidden_of(rows: Array, stage: str, hidden: Hidden) -> Array:
    layout = registry.create("stage", stage).row_layout
    return np.where(*hide(rows, np.ones(rows.shape, bool), layout, hidden)[::-1], 0)


def pieces(settings: dict[str, float]) -> list[Array]:
    """Of many clips of 100 rows those that are zero."""
    return [np.flatnonzero(~varied(rows_of(100), f"clip{number}", settings=settings).any(1)) for number in range(200)]


def test_every_other_clip_has_one_piece_of_time_that_is_not_seen() -> None:
    found = pieces({"time_mask": 0.4})
    lengths = np.array([len(piece) for piece in found])
    masked = [piece for piece in found if len(piece)]
    assert 70 <= len(masked) <= 130
    assert 19 <= lengths[lengths > 0].min() <= 24
    assert 36 <= lengths.max() <= 41
    for piece in masked:
        np.testing.assert_array_equal(piece, np.arange(piece[0], piece[-1] + 1))
    begins = np.array([piece[0] for piece in masked])
    assert begins.min() < 10
    assert begins.max() > 55


def test_the_rest_of_a_clip_and_a_gap_stay_as_they_are() -> None:
    rows = rows_of(20)
    rows[3] = 0
    found = hidden_of(rows, "skeleton", Hidden(time=(0.5, 0.75)))
    np.testing.assert_array_equal(found[:10], rows[:10])
    np.testing.assert_array_equal(found[15:], rows[15:])
    assert not found[10:15].any()


def test_a_sensor_that_is_not_seen_has_its_mean() -> None:
    rows = rows_of(20, 6) + 3
    found = hidden_of(rows, "inertial", Hidden(time=(0.5, 0.75)))
    np.testing.assert_allclose(found[10:15], np.tile(rows.mean(0), (5, 1)), rtol=1e-5)
    np.testing.assert_array_equal(np.delete(found, range(10, 15), 0), np.delete(rows, range(10, 15), 0))


def test_stages_of_a_clip_are_not_seen_at_the_same_times() -> None:
    table = table_of([100], inertial=6)
    change = Augmentation(time_mask=0.4).variation(table, 0)
    assert change is not None
    for number in range(20):
        found = change(f"clip{number}", {"skeleton": rows_of(100), "inertial": rows_of(300, 6)})
        body, sensor = (np.flatnonzero(gone) for gone in (~found["skeleton"].any(1), (np.diff(found["inertial"], axis=0) == 0).all(1)))
        assert bool(len(body)) == bool(len(sensor))
        if len(body):
            assert abs(sensor[0] / 300 - body[0] / 100) < 0.02
            assert abs(sensor[-1] / 300 - body[-1] / 100) < 0.02


def test_places_in_a_box_are_zero_and_no_others() -> None:
    rows = rows_of(9)
    points = rows.reshape(9, 20, 3)
    low, high = points[..., :2].min((0, 1)), points[..., :2].max((0, 1))
    first, last = low + [0.2, 0.5] * (high - low), low + [0.6, 0.7] * (high - low)
    inside = ((points[..., :2] >= first) & (points[..., :2] <= last)).all(2)
    assert 5 < inside.sum() < 100
    found = hidden_of(rows, "skeleton", Hidden(across=(0.2, 0.6), down=(0.5, 0.7)))
    np.testing.assert_array_equal(found.reshape(9, 20, 3), np.where(inside[:, :, None], 0, points))


def test_a_box_is_drawn_for_every_other_clip() -> None:
    rows = rows_of(30)
    changed = [np.abs(varied(rows, f"clip{number}", settings={"box_mask": 0.5}) - rows).any() for number in range(200)]
    assert 60 <= sum(changed) <= 130


def test_a_shear_moves_x_with_the_height_above_the_middle() -> None:
    rows = rows_of(7)
    points, found = rows.reshape(-1, 3), varied(rows, shear=0.5).reshape(-1, 3)
    height = points[:, 1] - points[:, 1].mean()
    share = ((found - points)[:, 0] / height).mean()
    assert 0.01 < abs(share) <= 0.5
    np.testing.assert_allclose(found, points + np.stack([share * height, 0 * height, 0 * height], 1), atol=1e-4)


def test_what_is_off_draws_nothing() -> None:
    given = {"skeleton": rows_of(12)}
    before, after = variation(rotate=20.0, jitter=0.1), variation(rotate=20.0, jitter=0.1, time_mask=0.3)
    found = [(before(clip, given)["skeleton"], after(clip, given)["skeleton"]) for clip in map(str, range(20))]
    whole = [pair for pair in found if pair[1].any(1).all()]
    assert 0 < len(whole) < 20
    for one, other in whole:
        np.testing.assert_array_equal(one, other)


def test_smoothed_labels_of_blended_clips_are_the_blend_of_smoothed_labels() -> None:
    recipe = small_lstm(label_smoothing=0.2)
    table = classes_of(recipe, LENGTHS)
    fit, batch = Fitting(recipe, table, table, "cpu"), table.gather(np.arange(8))
    shares, others = torch.linspace(0.5, 1, 8), batch.labels.roll(1)
    logits = fit.module(batch)
    own, theirs = (0.8 * one_hot(labels, 3) + 0.2 / 3 for labels in (batch.labels, others))
    expected = cross_entropy(logits, shares[:, None] * own + (1 - shares)[:, None] * theirs, reduction="none")
    torch.testing.assert_close(fit._losses(batch, Blend(batch, others, shares)), expected)
