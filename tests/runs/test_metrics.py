"""Scores against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.runs.scoring.metrics import calibration, judge, score

CLASSES = ("a", "b", "c")


def logits_of(guesses: list[int], classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[guesses]


def test_scores_equal_those_worked_out_by_hand() -> None:
    # truth a a b b c, taken for a b b b a: F1 of a = 1/2, of b = 4/5, of c = 0
    scores = score(logits_of([0, 1, 1, 1, 0]), ["a", "a", "b", "b", "c"], CLASSES)
    assert scores.top1 == pytest.approx(3 / 5)
    assert scores.top5 == 1.0
    assert scores.macro_f1 == pytest.approx((0.5 + 0.8 + 0) / 3)
    assert scores.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]
    assert (scores.chance_uniform, scores.chance_majority) == pytest.approx((1 / 3, 2 / 5))
    row = scores.per_class[1]
    assert (row["label"], row["clips"], row["precision"], row["recall"]) == ("b", 2, pytest.approx(2 / 3), 1.0)


def test_top5_counts_the_five_likeliest() -> None:
    logits = np.tile(np.arange(10, 0, -1, dtype=np.float32), (10, 1))
    names = [f"class{i}" for i in range(10)]
    assert score(logits, names, names).top5 == 0.5


def test_macro_f1_is_over_classes_in_truth_or_prediction() -> None:
    assert score(logits_of([0, 1]), ["a", "b"], CLASSES).macro_f1 == 1.0
    assert score(logits_of([0, 2]), ["a", "b"], CLASSES).macro_f1 == pytest.approx(1 / 3)


def test_a_class_that_training_lacks_counts_as_wrong_even_where_its_column_is_highest() -> None:
    scores = score(logits_of([0, 2]), ["a", "c"], CLASSES, learned=["a", "b"])
    assert (scores.top1, scores.top5, scores.unlearned) == (0.5, 0.5, (1,))


def test_a_label_that_the_model_never_heard_of_counts_as_wrong() -> None:
    scores = score(logits_of([0, 1]), ["a", "new"], CLASSES)
    assert (scores.top1, scores.unlearned, scores.classes) == (0.5, (1,), ("a", "b", "c", "new"))


@settings(max_examples=50)
@given(guesses=st.lists(st.integers(0, 2), min_size=1, max_size=40))
def test_figures_are_fractions(guesses: list[int]) -> None:
    truth = [CLASSES[(guess + i % 2) % 3] for i, guess in enumerate(guesses)]
    first = score(logits_of(guesses), truth, CLASSES)
    low, high, _ = first.interval
    assert low is not None
    assert high is not None
    assert 0 <= low <= first.top1 <= high <= 1
    assert 0 <= first.macro_f1 <= 1
    assert first.top1 <= first.top5 <= 1
    assert first.confusion.sum() == len(guesses)


def test_the_worst_clips_are_those_whose_truth_was_held_least_likely() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1]], np.float32))
    said = judge(logits, ["a", "b", "new"], CLASSES)
    assert [(position, said.guesses[position]) for position in said.worst(2)] == [(2, "b"), (1, "c")]
    assert [said.probability[position] for position in said.worst(2)] == pytest.approx([0.0, 0.1], abs=1e-6)


def test_a_class_that_was_never_learned_has_no_share_of_the_probability() -> None:
    said = judge(np.log(np.array([[0.5, 0.3, 0.2]])), ["b"], CLASSES, learned=["b", "c"])
    assert (said.guesses, said.rank.tolist()) == (("b",), [1])
    assert said.confidence == pytest.approx([0.6])


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy() -> None:
    sure = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.55, 0.45]]))
    found = calibration(judge(sure, ["a", "b", "a", "a"], ("a", "b")))
    assert found["error"] == pytest.approx((2 * 0.4 + 2 * 0.45) / 4)
    assert [(row["clips"], row["right"]) for row in found["bins"]] == [(2, 1.0), (2, 0.5)]
