"""Insignia's gate, by its own published rule on the same probabilities, and what is made of the words that it lets through."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipeline.spotting.gate import GATES, Gate, Watch
from pipeline.spotting.glosses import NA, Gloss, Guess, merged
from pipeline.spotting.spot import gloss_of

LABELS = ("HELLO", "YES", "RAIN")
SHARES = some.sampled_from([0.0, 0.3, 0.59999, 0.6, 0.65, 0.69999, 0.7, 0.9, 1.0])
GUESSES = some.lists(some.builds(Guess, some.sampled_from(LABELS), SHARES), max_size=120)
STICKY = some.lists(some.tuples(some.builds(Guess, some.sampled_from(LABELS), SHARES), some.integers(1, 40)), max_size=8).map(
    lambda parts: [guess for guess, times in parts for _ in range(times)]
)
TIMES = some.floats(0, 100, allow_nan=False).map(lambda seconds: round(seconds, 3))
GLOSSES = some.lists(
    some.builds(lambda label, start, length, p: Gloss(label, start, start + length, p), some.sampled_from(LABELS), TIMES, TIMES, SHARES),
    max_size=12,
)


def plainly(guesses: Sequence[Guess], frames: int, threshold: float) -> list[str]:
    """The published rule, at every guess: the last `frames` predictions are one label, and each is at least `threshold` sure."""
    history: deque[Guess] = deque(maxlen=frames)
    words = []
    for guess in guesses:
        history.append(guess)
        agree = len(history) == frames and len({each.label for each in history}) == 1
        words.append(guess.label if agree and all(each.probability >= threshold for each in history) else NA)
    return words


def watched(guesses: Sequence[Guess], gate: Gate, stride: int = 1) -> list[str]:
    watch, words = Watch(gate), []
    for number, guess in enumerate(guesses):
        watch.give(number * stride, guess, stride)
        words.append(watch.word)
    return words


@pytest.mark.parametrize(("name", "frames", "threshold"), [("insignia", 30, 0.7), ("insignia-web", 10, 0.6)])
@given(guesses=GUESSES | STICKY)
def test_a_published_gate_says_what_its_rule_says_at_every_frame(name: str, frames: int, threshold: float, guesses: list[Guess]) -> None:
    assert GATES[name] == Gate(frames, threshold)
    assert watched(guesses, GATES[name]) == plainly(guesses, frames, threshold)


@given(guesses=STICKY, stride=some.integers(2, 7))
def test_guesses_at_a_stride_count_for_the_frames_between(guesses: list[Guess], stride: int) -> None:
    assert watched(guesses, Gate(30, 0.7), stride) == plainly(guesses, -(-30 // stride), 0.7)


@given(guesses=STICKY)
def test_every_word_that_was_shown_ends_as_one_streak(guesses: list[Guess]) -> None:
    watch, words, streaks = Watch(Gate(10, 0.6)), list[str](), []
    for number, guess in enumerate(guesses):
        streaks.append(watch.give(number, guess))
        words.append(watch.word)
    ended = [streak for streak in (*streaks, watch.end()) if streak]
    shown = [word for word, before in zip(words, [NA, *words], strict=False) if word not in (NA, before)]
    assert [streak.label for streak in ended] == shown
    for streak in ended:
        own = guesses[streak.first : streak.last + 1]
        assert {each.label for each in own} == {streak.label}
        assert streak.frames == len(own)
        assert streak.probability == pytest.approx(sum(each.probability for each in own) / len(own))
        assert words[streak.last] == streak.label


def test_a_window_without_rows_is_never_believed() -> None:
    assert watched([Guess("", 1.0)] * 40, Gate(10, 0.0)) == [NA] * 40


def test_a_gloss_lasts_from_the_middle_of_the_first_to_that_of_the_last_window() -> None:
    watch = Watch(Gate(3, 0.5))
    for stop in range(60, 85):
        watch.give(stop, Guess("YES", 0.8))
    streak = watch.end()
    assert streak is not None
    gloss = gloss_of(streak, 60, 25.0)
    assert (gloss.label, gloss.start, gloss.end) == ("YES", 30 / 25, 54 / 25)
    assert gloss.probability == pytest.approx(0.8)


@given(glosses=GLOSSES, gap=some.floats(0, 5))
def test_merging_keeps_time_and_labels_and_leaves_no_duplicates(glosses: list[Gloss], gap: float) -> None:
    found = merged(glosses, gap)
    assert merged(found, gap) == found
    assert [each.start for each in found] == sorted(each.start for each in found)
    assert {each.label for each in found} == {each.label for each in glosses}
    for label in LABELS:
        own, before = [[g for g in some_ if g.label == label] for some_ in (found, glosses)]
        assert max((g.end for g in own), default=0) == max((g.end for g in before), default=0)
        assert min((g.start for g in own), default=0) == min((g.start for g in before), default=0)
    for one, other in itertools.pairwise(found):
        assert one.label != other.label or other.start - one.end > gap
    for each in found:
        parts = [g for g in glosses if g.label == each.label and each.start <= g.start and g.end <= each.end]
        assert min(g.probability for g in parts) - 1e-9 <= each.probability <= max(g.probability for g in parts) + 1e-9
