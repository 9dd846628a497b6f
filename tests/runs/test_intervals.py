"""Intervals that hold what they say: of simulated signers, whose clips go right and wrong together, they cover the truth in 95 of 100."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.runs.scoring.intervals import difference, interval

TRIALS = 2000


def signers(random: np.random.Generator, groups: int, clips: int | None) -> tuple[np.ndarray, list[str]]:
    """How many clips each signer has, 5 to 59 where none are given, and the signer of each clip."""
    sizes = random.integers(5, 60, groups) if clips is None else np.full(groups, clips)
    return sizes, [f"signer{number}" for number in np.repeat(np.arange(groups), sizes)]


def accuracies(random: np.random.Generator, mean: float, deviation: float, groups: int) -> np.ndarray:
    both = mean * (1 - mean) / deviation**2 - 1
    return random.beta(mean * both, (1 - mean) * both, groups)


def coverage(groups: int, clips: int | None, mean: float, deviation: float) -> float:
    """The share of trials whose interval holds the mean accuracy of all signers that there might be."""
    random, held = np.random.default_rng(groups), 0
    for _ in range(TRIALS):
        sizes, names = signers(random, groups, clips)
        chances = np.repeat(accuracies(random, mean, deviation, groups), sizes)
        low, high, by = interval(random.random(len(chances)) < chances, names)
        assert by == "signer"
        assert low is not None
        assert high is not None
        held += low <= mean <= high
    return held / TRIALS


@pytest.mark.parametrize("clips", [20, None])
@pytest.mark.parametrize("groups", [3, 4, 5, 8, 20])
def test_an_interval_of_few_signers_covers_in_93_to_97_of_100(groups: int, clips: int | None) -> None:
    assert 0.93 <= coverage(groups, clips, 0.8, 0.12) <= 0.97


@pytest.mark.parametrize(("mean", "deviation"), [(0.95, 0.05), (0.98, 0.02), (0.6, 0.05)])
@pytest.mark.parametrize("groups", [3, 6])
def test_it_covers_where_nearly_all_is_right_or_signers_hardly_differ(groups: int, mean: float, deviation: float) -> None:
    assert coverage(groups, 20, mean, deviation) >= 0.93


@pytest.mark.parametrize("groups", [3, 5, 12])
def test_a_difference_of_runs_covers_too(groups: int) -> None:
    random, held = np.random.default_rng(groups), 0
    for _ in range(TRIALS):
        sizes, names = signers(random, groups, None)
        better, worse = (np.repeat(accuracies(random, mean, 0.07, groups), sizes) for mean in (0.2, 0.1))
        drawn = random.random(len(names))
        found = difference(drawn > 0.6, (drawn < better) | ((drawn > 0.6) & (drawn < 1 - worse)), names)
        held += found["low"] <= 0.1 <= found["high"]
    assert 0.93 <= held / TRIALS <= 0.98


@pytest.mark.parametrize("groups", [1, 2])
def test_fewer_than_three_signers_have_no_interval(groups: int) -> None:
    names = [f"signer{i % groups}" for i in range(20)]
    assert interval(np.arange(20) < 15, names) == (None, None, "signer")
    assert interval(np.arange(20) < 15, names, "recording") == (None, None, "recording")
    found = difference(np.arange(20) < 15, np.arange(20) < 10, names)
    assert (found["low"], found["high"], found["by"], found["top1"]) == (None, None, "signer", -0.25)


@pytest.mark.parametrize(("right", "clips"), [(12, 12), (0, 12), (10, 20), (1, 1), (97, 100)])
def test_the_interval_of_single_clips_is_wilsons(right: int, clips: int) -> None:
    low, high, by = interval(np.arange(clips) < right)
    known = binomtest(right, clips).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((known.low, known.high))
    assert by == "clip"
    assert interval(np.arange(clips) < right, [None] * clips) == (low, high, "clip")
    assert interval(np.arange(clips) < right, [str(i) for i in range(clips)], "clip") == (low, high, "clip")


def test_signers_of_equal_accuracy_are_not_taken_for_certain() -> None:
    names = list("aaaabbbbcccc")
    for hits in (np.ones(12, bool), np.tile([True, True, True, False], 3)):
        low, high, _ = interval(hits, names)
        alone = interval(hits)
        assert low is not None
        assert alone.low is not None
        assert low < alone.low
        assert high is not None
        assert high >= hits.mean()


def test_clips_that_hang_together_make_an_interval_wider() -> None:
    hits, names = np.arange(60) % 20 < 15, [f"signer{i // 12}" for i in range(60)]
    alone, together = interval(hits), interval(np.sort(hits), names)
    assert alone.low is not None
    assert together.low is not None
    assert together.low < alone.low - 0.2


@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=40))
def test_intervals_hold_what_was_found_and_stay_within_what_can_be(clips: list[tuple[bool, bool, int]]) -> None:
    first, second = (np.array(column, bool) for column in list(zip(*clips, strict=True))[:2])
    for by in ("clip", "signer"):
        low, high, _ = interval(first, [str(clip[2]) for clip in clips], by)
        assert (low is None) == (high is None)
        if low is not None and high is not None:
            assert 0 <= low <= first.mean() + 1e-9
            assert first.mean() - 1e-9 <= high <= 1
        found = difference(first, second, [str(clip[2]) for clip in clips], by)
        if found["low"] is not None:
            assert -1 <= found["low"] <= found["top1"] + 1e-9
            assert found["top1"] - 1e-9 <= found["high"] <= 1


def test_a_difference_is_of_the_same_clips_with_who_alone_was_right() -> None:
    first, second = (np.array([right == "1" for right in said]) for said in ("1100110011", "1111110000"))
    found = difference(first, second)
    assert (found["clips"], found["gained"], found["lost"], found["top1"], found["by"]) == (10, 2, 2, 0.0, "clip")
    assert found["low"] < 0 < found["high"]
    same = difference(first, first)
    assert -found["high"] < same["low"] < 0 < same["high"] < found["high"]
    assert difference(first, second, [f"signer{i % 3}" for i in range(10)])["by"] == "signer"
