"""Which clip trains, stops and scores: in shares, by a seed, and once given, kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.splits import assign, crossing_duplicates, crossing_signers, describe
from pipeline.errors import UserError
from pipeline.types import SPLITS, Sample, Split


def clip(number: int, label: str | None = "a", split: Split = "unassigned", signer: str | None = None) -> Sample:
    return Sample(f"{label}/{number}", {"rgb": (f"{label}/{number}.mp4",)}, label, split, signer)


def corpus(classes: int, clips: int, signers: int = 0) -> list[Sample]:
    """`clips` of each class, in turn by each of the signers."""
    return [
        clip(number, f"class{label}", signer=f"signer{number % signers}" if signers else None)
        for label in range(classes)
        for number in range(clips)
    ]


def counts(samples: list[Sample]) -> Counter[str]:
    return Counter(sample.split for sample in samples)


def by_id(samples: list[Sample]) -> dict[str, Sample]:
    return {sample.id: sample for sample in samples}


def places(samples: list[Sample]) -> dict[str, Split]:
    return {sample.id: sample.split for sample in samples}


@pytest.mark.parametrize(("classes", "clips"), [(10, 10), (4, 50), (50, 5), (1, 100), (100, 2)])
def test_a_stratified_split_is_8_1_1_with_every_class_in_train(classes: int, clips: int) -> None:
    kind, samples = assign(corpus(classes, clips), "", 0, {})
    total = classes * clips
    assert kind == "stratified"
    assert counts(samples)["train"] / total == pytest.approx(0.8, abs=0.05)
    assert counts(samples)["val"] / total == pytest.approx(0.1, abs=0.05)
    assert counts(samples)["test"] / total == pytest.approx(0.1, abs=0.05)
    assert {sample.label for sample in samples if sample.split == "train"} == {f"class{label}" for label in range(classes)}


def test_every_class_of_ten_clips_is_in_every_split() -> None:
    samples = assign(corpus(10, 10), "stratified", 0, {})[1]
    for label in {sample.label for sample in samples}:
        assert counts([sample for sample in samples if sample.label == label]) == {"train": 8, "val": 1, "test": 1}


def test_classes_of_one_clip_are_all_learned() -> None:
    assert counts(assign(corpus(40, 1), "stratified", 0, {})[1]) == {"train": 40}


def test_a_seed_gives_its_split_again_and_another_gives_another() -> None:
    first, again, other = (places(assign(corpus(5, 20), "", seed, {})[1]) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_the_order_of_the_listing_does_not_count() -> None:
    samples = corpus(3, 20)
    assert places(assign(samples, "", 0, {})[1]) == places(assign(samples[::-1], "", 0, {})[1])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=60, unique=True),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=60),
    st.sets(st.integers(0, 59)),
    st.integers(0, 3),
)
def test_clips_keep_their_split_when_others_come_and_go(
    before: list[tuple[int, int]], new: list[tuple[int, int]], gone: set[int], seed: int
) -> None:
    first = assign([clip(number, f"c{label}") for label, number in before], "", seed, {})[1]
    kept = [pair for place, pair in enumerate(before) if place not in gone]
    now = [clip(number, f"c{label}") for label, number in dict.fromkeys([*kept, *new])]
    second = assign(now, "stratified", seed, places(first))[1] if now else []
    assert len(second) == len(now)
    known = by_id(first)
    assert all(sample.split == known[sample.id].split for sample in second if sample.id in known)
    assert all(sample.split in SPLITS for sample in second)


@pytest.mark.parametrize("signers", [2, 3, 5, 10])
def test_no_signer_is_in_two_splits_and_the_default_goes_by_them(signers: int) -> None:
    kind, samples = assign(corpus(5, 20, signers), "", 0, {})
    assert kind == "signer"
    assert crossing_signers(samples) == {}
    assert set(counts(samples)) == ({"train", "test"} if signers == 2 else set(SPLITS))
    assert counts(samples)["train"] == max(counts(samples).values())


@given(st.integers(2, 8), st.integers(1, 30), st.integers(1, 8), st.integers(0, 3))
def test_a_known_signer_brings_new_clips_to_his_split(signers: int, clips: int, more: int, seed: int) -> None:
    before = assign(corpus(2, max(clips, signers), signers), "signer", seed, {})[1]
    after = assign(corpus(3, max(clips, signers) + more, signers + more), "signer", seed, places(before))[1]
    stable = assign(corpus(2, max(clips, signers) + more, signers), "signer", seed, places(before))[1]
    assert crossing_signers(stable) == {}
    assert {s.id: s.split for s in stable if s.id in by_id(before)} == places(before)
    assert crossing_signers(after) == {}


def test_an_official_list_is_taken_as_it_is() -> None:
    listed = [clip(0, split="train"), clip(1, split="val"), clip(2, split="test")]
    assert assign(listed, "", 0, {}) == ("official", listed)
    assert assign(listed, "official", 5, {}) == ("official", listed)


def test_an_official_list_may_be_left_for_another_split() -> None:
    listed = [replace(sample, split="train") for sample in corpus(4, 10)]
    kind, samples = assign(listed, "stratified", 0, {})
    assert kind == "stratified"
    assert set(counts(samples)) == set(SPLITS)


def test_a_corpus_without_validation_gets_a_tenth_of_train() -> None:
    listed = [replace(s, split="test" if i % 3 == 0 else "train") for i, s in enumerate(corpus(4, 30))]
    kind, samples = assign(listed, "", 0, {})
    assert kind == "official"
    assert counts(samples) == {"train": 72, "val": 8, "test": 40}
    assert [s.id for s in samples if s.split == "test"] == [s.id for s in listed if s.split == "test"]
    assert places(assign([*listed, clip(99, "class0", "train")], "official", 0, places(samples))[1]).items() >= places(samples).items()


def test_an_unlabelled_validation_split_is_no_validation_split() -> None:
    listed = [*(clip(number, split="train") for number in range(20)), clip(0, None, "val"), clip(1, None, "test")]
    samples = assign(listed, "", 0, {})[1]
    assert counts([sample for sample in samples if sample.label]) == {"train": 18, "val": 2}
    assert describe(samples) == "train 18, val 3 (1 unlabelled), test 1 (1 unlabelled)"


def test_validation_is_cut_by_signer_where_they_are_known() -> None:
    listed = [replace(sample, split="train") for sample in corpus(3, 20, 10)]
    samples = assign(listed, "", 0, {})[1]
    assert set(counts(samples)) == {"train", "val"}
    assert crossing_signers(samples) == {}


def test_a_list_of_some_clips_is_kept_and_the_others_are_divided() -> None:
    samples = corpus(4, 10)
    samples[3] = replace(samples[3], split="test")
    samples[14:24] = [replace(sample, split="val") for sample in samples[14:24]]
    kind, divided = assign(samples, "", 0, {})
    assert kind == "stratified"
    assert {s.id: s.split for s in divided if by_id(samples)[s.id].split != "unassigned"} == {
        s.id: s.split for s in samples if s.split != "unassigned"
    }
    assert places(assign(samples, "stratified", 0, places(divided))[1]) == places(divided)


@pytest.mark.parametrize(
    ("samples", "asked", "reason"),
    [
        (corpus(2, 5), "random", "--split random: no such split; use official, signer or stratified"),
        (corpus(2, 5), "official", r"--split official: the corpus gives no split for 'class0/0'; use --split signer or stratified"),
        (corpus(2, 5), "signer", "--split signer: the corpus names fewer than two signers; use --split stratified"),
        (corpus(2, 5, 1), "signer", "fewer than two signers"),
        (
            [clip(0, "a", "train", "Ana"), clip(1, "a", "test", "Ana"), clip(2, "a", "unassigned", "Ivo")],
            "signer",
            "--split signer: the corpus puts signer 'Ana' into test and train; let it name one, or",
        ),
    ],
)
def test_a_split_that_cannot_be_is_one_line(samples: list[Sample], asked: str, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        assign(samples, asked, 0, {})


def test_signers_in_two_splits_are_named() -> None:
    listed = [clip(0, split="train", signer="Ana"), clip(1, split="test", signer="Ana"), clip(2, split="test", signer="Ivo")]
    assert crossing_signers(listed) == {"Ana": ["test", "train"]}


def test_a_clip_in_no_split_crosses_none() -> None:
    listed = [clip(0, split="train", signer="Ana"), clip(1, split="unassigned", signer="Ana")]
    assert crossing_signers(listed) == {}
    assert crossing_duplicates(listed, {"a/0": b"x", "a/1": b"x"}) == []
    assert describe(listed) == "train 1, val 0, test 0, unassigned 1"
