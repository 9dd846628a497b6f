"""Smoothing, differences, angles, hand shapes and aligned paths: what they are equal to, and what they never mix."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from stages._motion import aligned, cosines, difference, hull_shapes, smoothed


@settings(max_examples=40)
@given(st.integers(1, 40), st.sampled_from([3, 5, 11, 21]), st.integers(1, 4), st.integers(0, 9))
def test_smoothing_is_that_of_savitzky_and_golay_with_the_longest_odd_window(length: int, window: int, order: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(length, 3))
    fitting = min(window, length if length % 2 else length - 1)
    expected = savgol_filter(values, fitting, order, axis=0, mode="interp") if fitting > order else values
    np.testing.assert_allclose(smoothed(values, np.ones(length, bool), window, order), expected, atol=1e-9)


@settings(max_examples=40)
@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 9))
def test_smoothing_and_differences_never_cross_a_gap(seen: list[bool], seed: int) -> None:
    mask = np.array(seen)
    values = np.random.default_rng(seed).normal(size=(len(seen), 2))
    disturbed = np.where(mask[:, None], values, 1e6)
    result, change = smoothed(disturbed, mask, 11, 3), difference(disturbed, mask)
    assert np.abs(result[mask]).max(initial=0) < 100
    assert np.abs(change).max(initial=0) < 100
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int))).reshape(-1, 2)
    for start, stop in edges:
        alone = np.ones(stop - start, bool)
        np.testing.assert_array_equal(result[start:stop], smoothed(values[start:stop], alone, 11, 3))
        np.testing.assert_array_equal(change[start:stop], difference(values[start:stop], alone))


def test_a_right_angle_and_a_straight_finger_are_told_apart() -> None:
    points = np.array([[[1, 0, 0], [0, 0, 0], [0, 2, 0], [0, 5, 0]]], float)
    assert cosines(points, [(0, 1, 2), (1, 2, 3)]).tolist() == [[0, 0, 0, -1, -1, 0]]


def test_shapes_of_known_figures() -> None:
    angle = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle), angle * 0], axis=1)[None]
    turn = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    box = np.pad(np.array([[0, 0], [3, 0], [3, 1], [0, 1], [1, 0.5]]) @ turn.T, ((0, 0), (0, 1)))[None]
    line = np.array([[[0, 0, 0], [1, 1, 0], [2, 2, 0]]], float)
    np.testing.assert_allclose(hull_shapes(circle), [[1, np.pi / 4]], atol=1e-3)
    np.testing.assert_allclose(hull_shapes(box), [[4 * np.pi * 3 / 64, 1]], atol=1e-9)
    assert hull_shapes(line).tolist() == [[0, 0]]
    assert hull_shapes(np.zeros((1, 21, 3))).tolist() == [[0, 0]]


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(0, 9))
def test_an_aligned_path_keeps_its_ends_and_stays_where_the_clip_went(length: int, seed: int) -> None:
    path = np.random.default_rng(seed).normal(size=(length, 3)).cumsum(axis=0)
    found = aligned(path, smoothed(path, np.ones(length, bool), 11, 3))
    assert found.shape == path.shape
    assert (found.min(axis=0) >= path.min(axis=0) - 1e-9).all()
    assert (found.max(axis=0) <= path.max(axis=0) + 1e-9).all()
    np.testing.assert_allclose(aligned(path, path), path)


def test_a_path_that_lags_comes_to_the_instant_at_which_the_smooth_one_passes() -> None:
    times = np.arange(60.0)
    smooth = np.stack([np.sin(times / 8), np.cos(times / 8)], axis=1)
    late = times + 4 * np.sin(times / 59 * 2 * np.pi)
    path = np.stack([np.sin(late / 8), np.cos(late / 8)], axis=1)
    assert np.abs(aligned(path, smooth) - smooth).max() < 0.25 * np.abs(path - smooth).max()
