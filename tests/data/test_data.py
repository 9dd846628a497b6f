"""The reader: every row as it lies in the cache, once an epoch, in an order that only the seed decides, and never changed afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data._buffers import BUFFERS
from pipeline.data._order import order
from pipeline.data.batch import Batch, fused
from pipeline.data.table import Table, batches
from pipeline.errors import UserError
from pipeline.testing.models import Rows
from tests.feature_cache import balanced, corpus, publish, signals, table_of

torch.set_num_threads(1)
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=40)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "signcache-reader"]


def assert_equals_cache(table: Table, found: list[Batch]) -> None:
    """Every clip once, its rows those of the cache, zeros after them."""
    assert sorted(clip for batch in found for clip in batch.ids) == sorted(table.ids)
    for batch in found:
        for stage, features in table.stages.items():
            assert batch.features[stage].shape[1] == batch.lengths[stage].max()
            for clip, rows, length in zip(batch.ids, batch.features[stage], batch.lengths[stage].tolist(), strict=True):
                np.testing.assert_array_equal(rows[:length], features[clip])
                assert not rows[length:].any()
        assert batch.labels.tolist() == [int(table.labels[table.ids.index(clip)]) for clip in batch.ids]


@settings(max_examples=60)
@given(lengths=LENGTHS, size=st.integers(1, 9), seed=st.integers(0, 5), epoch=st.integers(0, 5), shuffle=st.booleans())
def test_a_list_of_batches_equals_the_cache_for_any_lengths(lengths: list[int], size: int, seed: int, epoch: int, shuffle: bool) -> None:
    table = table_of(lengths, seed=seed, stages=("a", "b"))
    assert_equals_cache(table, list(table.batches(size, epoch=epoch, shuffle=shuffle)))


@settings(max_examples=60)
@given(lengths=LENGTHS, size=st.integers(1, 9), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_the_order_comes_from_seed_and_epoch_alone(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    array = np.array(lengths)
    first, second = (order(array, size, seed=seed, epoch=epoch) for _ in range(2))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]
    assert sorted(np.concatenate(first).tolist()) == list(range(len(lengths)))


def test_another_epoch_and_another_seed_are_other_orders() -> None:
    lengths = np.arange(200) % 20
    orders = [np.concatenate(order(lengths, 8, seed=seed, epoch=epoch)).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_without_shuffling_the_order_is_the_tables() -> None:
    table = table_of([3, 0, 5, 1, 2])
    assert [clip for batch in table.batches(2, shuffle=False) for clip in batch.ids] == list(table.ids)


def test_length_buckets_leave_less_padding_than_chance() -> None:
    lengths = np.random.default_rng(0).integers(5, 60, 1000)

    def padded(found: list[np.ndarray]) -> int:
        return sum(int(lengths[numbers].max()) * len(numbers) for numbers in found)

    shuffled = np.random.default_rng(1).permutation(1000)
    by_chance = padded([shuffled[start : start + 16] for start in range(0, 1000, 16)])
    assert padded(order(lengths, 16)) - lengths.sum() < 0.3 * (by_chance - lengths.sum())


def test_a_batch_that_is_kept_viewed_or_turned_to_numpy_never_changes() -> None:
    table = table_of([1 + i % 7 for i in range(200)])
    kept, copies = [], []
    for number, batch in enumerate(table.batches(4)):
        rows = batch.features["a"]
        held = (batch, rows[1:, :1], rows.numpy()[0], rows.flatten())[number % 4]
        values = held.features["a"] if isinstance(held, Batch) else held
        kept.append(held)
        copies.append(np.array(values.tolist() if isinstance(values, torch.Tensor) else values))
        del batch, rows, values, held
    for held, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(np.asarray(held.features["a"] if isinstance(held, Batch) else held), copy)


def test_a_batch_saved_for_backward_gives_the_right_gradient() -> None:
    table = table_of([4] * 60)
    weight = torch.ones((), requires_grad=True)
    losses = [(batch.features["a"] * weight * weight).sum() for batch in table.batches(4)]
    torch.autograd.backward(torch.stack(losses).sum())
    everything = sum(float(rows.sum()) for rows in table.stages["a"].values())
    assert weight.grad is not None
    assert float(weight.grad) == pytest.approx(2 * everything, rel=1e-5)


def test_buffers_that_nobody_holds_are_used_again() -> None:
    table = table_of([5] * 400)
    places = {batch.features["a"].data_ptr() for _ in range(2) for batch in table.batches(4)}
    assert len(places) <= BUFFERS


def test_two_epochs_at_a_time_do_not_disturb_each_other() -> None:
    table = table_of([1 + i % 5 for i in range(60)])
    first, second = [], []
    for one, other in zip(table.batches(4, epoch=0), table.batches(4, epoch=1), strict=True):
        first.append(one)
        second.append(other)
    assert_equals_cache(table, first)
    assert_equals_cache(table, second)


def test_the_thread_ends_when_the_consumer_breaks() -> None:
    for _ in table_of([3] * 100).batches(2):
        break
    assert not readers()


def test_the_thread_ends_when_the_iterator_is_closed() -> None:
    iterator = table_of([3] * 100).batches(2)
    next(iterator)
    assert readers()
    iterator.close()  # type: ignore[attr-defined]
    assert not readers()


def test_the_thread_ends_when_the_consumer_fails() -> None:
    def consume() -> None:
        for _ in table_of([3] * 100).batches(2):
            raise RuntimeError("consumer")

    with pytest.raises(RuntimeError, match="consumer"):
        consume()
    assert not readers()


def test_an_error_in_the_thread_is_raised_in_the_consumer() -> None:
    class Broken(Rows):
        def __getitem__(self, clip: str) -> np.ndarray:
            if clip == "clip7":
                raise UserError("the shard x is missing or damaged")
            return super().__getitem__(clip)

        def length(self, clip: str) -> int:
            return 2

    table = table_of([2] * 20)
    table.stages = {"a": Broken(dict(table.stages["a"]), (3,))}  # type: ignore[dict-item]
    found = []
    with pytest.raises(UserError, match="the shard x is missing or damaged"):
        found += list(table.batches(2, shuffle=False))
    assert not readers()


@settings(max_examples=80)
@given(pairs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
def test_stages_of_other_lengths_are_aligned_on_normalised_time(pairs: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(0)
    features, lengths = {}, {}
    for place, (stage, width) in enumerate((("a", 2), ("b", 3))):
        counts = [pair[place] for pair in pairs]
        values = np.zeros((len(pairs), max(counts), width), np.float32)
        for rows, count in zip(values, counts, strict=True):
            rows[:count] = random.normal(size=(count, width))
        features[stage], lengths[stage] = torch.from_numpy(values), torch.tensor(counts)
    together, n = fused(Batch(tuple(map(str, range(len(pairs)))), features, lengths, torch.zeros(len(pairs))), ("a", "b"))
    assert n.tolist() == [first for first, _ in pairs]
    for clip, (first, other) in enumerate(pairs):
        for t in range(together.shape[1]):
            right = torch.zeros(5)
            if t < first:
                right[:2] = features["a"][clip, t]
                if other:
                    right[2:] = features["b"][clip, int((t + 0.5) * other / first)]
            assert torch.equal(together[clip, t], right)


def test_maps_cannot_be_fused() -> None:
    batch = Batch(("x",), {"map": torch.zeros(1, 2, 4, 7, 7)}, {"map": torch.tensor([2])}, torch.zeros(1))
    with pytest.raises(UserError, match=r"the rows of stage 'map' are 4x7x7, and this model takes vectors"):
        fused(batch, ["map"])


def test_batches_read_published_features_by_split(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    rows = signals(table)
    publish(home, table, rows)
    found = list(batches("signs", ["resnet50"], split="train", batch_size=4, cache=home.cache, manifests=home.manifests))
    expected = {sample.id: sample for sample in table.samples if sample.split == "train"}
    assert sorted(clip for batch in found for clip in batch.ids) == sorted(expected)
    for batch in found:
        for clip, label, values, n in zip(batch.ids, batch.labels, batch.features["resnet50"], batch.lengths["resnet50"], strict=True):
            np.testing.assert_array_equal(values[:n], rows[clip])
            assert table.classes[label] == expected[clip].label


def test_batches_refuse_to_drop_clips_silently(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    rows = signals(table)
    del rows["sign0/train0"]
    publish(home, table, rows)
    where = {"cache": home.cache, "manifests": home.manifests}
    first = r"^1 of 18 clips has no features in signs/resnet50 \(first: sign0/train0: new\)"
    with pytest.raises(UserError, match=rf"{first}; run: .*, or go on without them: allow_missing=1$"):
        batches("signs", ["resnet50"], **where)  # type: ignore[arg-type]
    kept = list(batches("signs", ["resnet50"], allow_missing=1, **where))  # type: ignore[arg-type]
    assert sum(len(batch) for batch in kept) == 17


def test_batches_read_no_rows_of_what_a_clip_held_before(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    a, b = (table.paths(table.samples[table.places[clip]], "rgb")[0] for clip in ("sign0/train0", "sign0/train1"))
    a.rename(tmp_path / "held")
    b.rename(a)
    (tmp_path / "held").rename(b)
    where = {"cache": home.cache, "manifests": home.manifests}
    with pytest.raises(UserError, match=r"2 of 18 clips have no features in signs/resnet50 \(first: sign0/train0: changed input\)"):
        batches("signs", ["resnet50"], **where)  # type: ignore[arg-type]
    kept = list(batches("signs", ["resnet50"], allow_missing=2, **where))  # type: ignore[arg-type]
    assert sum(len(batch) for batch in kept) == 16


def test_a_split_without_clips_is_named(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced(held=0) | {"sign0/val0": ("val", "")})
    rows = signals(table)
    del rows["sign0/val0"]
    publish(home, table, rows)
    where = {"cache": home.cache, "manifests": home.manifests}
    with pytest.raises(UserError, match=r"^signs has no test clips; see: manifests/signs\.csv$"):
        batches("signs", ["resnet50"], split="test", **where)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"^signs has no val clips with features; see: manifests/signs\.csv$"):
        batches("signs", ["resnet50"], split="val", allow_missing=1, **where)  # type: ignore[arg-type]
    assert list(table_of([]).batches(4)) == []


def test_an_unknown_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'valid'; use train, val, test"):
        batches("signs", ["resnet50"], split="valid", cache=tmp_path, manifests=tmp_path)
