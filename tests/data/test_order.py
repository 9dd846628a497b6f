"""Windows of neighbours: what is too much for memory is read part by part, and still shuffled, by the seed alone."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.cache import open_stage, shards
from pipeline.cache.upkeep.compact import compact
from pipeline.data import _order
from pipeline.data._order import Places, asked_for, by_windows, expected
from pipeline.data.table import Table, batches
from pipeline.errors import UserError
from tests.data.test_data import assert_equals_cache
from tests.feature_cache import balanced, corpus, publish, signals

WINDOW, BLOCK = 1000, 250
RESIDENT = _order.RESIDENT_BYTES
SHARDS = st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=9), min_size=1, max_size=12)
"""Bytes of the clips of each shard."""


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_order, "RESIDENT_BYTES", -1)
    monkeypatch.setattr(_order, "WINDOW_BYTES", WINDOW)
    monkeypatch.setattr(_order, "BLOCK_BYTES", BLOCK)


def places_of(shards: list[list[int]]) -> Places:
    numbers = [number for number, clips in enumerate(shards) for _ in clips]
    return Places(np.array(numbers, np.int64), np.array([size for clips in shards for size in clips], np.int64))


def windowed(shards: list[list[int]], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    places = places_of(shards)
    found = _order.order(places.size, batch_size, seed=seed, epoch=epoch, places=places)
    return [batch.tolist() for batch in found]


@settings(max_examples=100)
@given(shards=SHARDS, size=st.integers(1, 5), seed=st.integers(0, 9), epoch=st.integers(0, 9))
def test_windows_hold_every_clip_once_in_an_order_of_seed_and_epoch(shards: list[list[int]], size: int, seed: int, epoch: int) -> None:
    found = windowed(shards, size, seed, epoch)
    assert found == windowed(shards, size, seed, epoch)
    assert sorted(chain(*found)) == list(range(sum(map(len, shards))))
    assert sum(len(batch) < size for batch in found) <= 1


@settings(max_examples=100)
@given(shards=SHARDS, seed=st.integers(0, 99))
def test_the_neighbours_that_are_being_read_at_a_time_are_a_window_and_at_most_one_block_more(shards: list[list[int]], seed: int) -> None:
    size = places_of(shards).size
    block = (np.cumsum(size) - size) // BLOCK
    left = Counter(block.tolist())
    every = left.copy()
    for clip in by_windows(size, np.random.default_rng(seed)).tolist():
        left[block[clip]] -= 1
        begun = sum(int(size[block == number].sum()) for number in every if 0 < left[number] < every[number])
        assert begun <= WINDOW + BLOCK + size.max()


@settings(max_examples=100)
@given(shards=SHARDS, size=st.integers(1, 5), seed=st.integers(0, 9), data=st.data())
def test_the_order_does_not_depend_on_the_shards_that_clips_lie_in(
    shards: list[list[int]], size: int, seed: int, data: st.DataObject
) -> None:
    places = places_of(shards)
    packed = data.draw(st.lists(st.integers(0, 3), min_size=len(places.shard), max_size=len(places.shard)))
    first, second = (_order.order(places.size, size, seed=seed, places=Places(np.array(s), places.size)) for s in (places.shard, packed))
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


def test_packed_shards_are_read_in_the_same_order(tmp_path: Path) -> None:
    home, manifest = corpus(tmp_path, balanced(train=20))
    publish(home, manifest, signals(manifest), shard_clips=4)
    read = partial(batches, "signs", ["resnet50"], batch_size=4, cache=home.cache, manifests=home.manifests)
    before = [batch.ids for batch in read()]
    packed = compact(home, "signs", "resnet50")
    assert packed is not None
    assert packed.after < packed.before
    assert [batch.ids for batch in read()] == before


@settings(max_examples=100)
@given(shards=SHARDS, size=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_clip_is_asked_for_once_no_later_than_read_and_one_window_ahead(shards: list[list[int]], size: int, seed: int) -> None:
    places = places_of(shards)
    planned = _order.order(places.size, size, seed=seed, places=places)
    asked, read, seen = 0, 0, list[int]()
    for batch, clips in zip(planned, expected(planned, places), strict=True):
        seen += clips.tolist()
        asked, read = asked + int(places.size[clips].sum()), read + int(places.size[batch].sum())
        assert asked <= read + WINDOW
        assert not places.size[list(set(batch.tolist()) - set(seen))].any()
    assert sorted(seen) == list(range(len(places.shard)))


def test_what_goes_wrong_as_the_disk_is_asked_is_heard() -> None:
    places = places_of([[100] * 5] * 20)
    planned = _order.order(places.size, 5, places=places)

    def ask(clips: NDArray[np.int64]) -> None:
        raise ZeroDivisionError(f"{len(clips)} clips")

    with pytest.raises(ZeroDivisionError, match="clips"):
        list(asked_for(planned, places, ask))


def test_another_epoch_shuffles_the_blocks_and_the_clips_of_a_window() -> None:
    shards = [[100] * 5] * 20
    first, second = (windowed(shards, 4, 0, epoch) for epoch in (0, 1))
    assert first != second
    assert [*chain(*first)] != sorted(chain(*first))


def test_few_rows_are_shuffled_altogether() -> None:
    lengths = np.arange(200) % 20
    found = _order.order(lengths, 8, seed=0)
    assert max(np.ptp(batch) for batch in found) > 150


def test_rows_beyond_the_limit_are_read_by_windows_and_equal_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_order, "WINDOW_BYTES", 200_000)
    monkeypatch.setattr(_order, "BLOCK_BYTES", 100_000)
    home, manifest = corpus(tmp_path, balanced(train=20))
    publish(home, manifest, signals(manifest), shard_clips=4)
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    table = Table(tuple(features), np.zeros(len(features), np.int64), manifest.classes, {"resnet50": features})
    places = table.places
    assert len(set(places.shard.tolist())) == len(features.index.shards)
    assert int(places.size.sum()) == sum(rows.nbytes for rows in features.values())
    assert_equals_cache(table, list(table.batches(4)))
    shards = [{features.index.shard_of[features.index.position[clip]] for clip in batch.ids} for batch in table.batches(4)]
    assert max(map(len, shards)) < len(features.index.shards)


def test_the_disk_is_asked_for_just_the_rows_of_the_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, manifest = corpus(tmp_path, balanced())
    publish(home, manifest, signals(manifest), shard_clips=4)
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    asked: list[bytes] = []

    def expect(path: Path, row_bytes: int, parts: Sequence[tuple[int, int]]) -> None:
        rows = shards.open_shard(features.folder, "zarr", path.name)
        asked.extend(rows[start : start + length].tobytes() for start, length in parts)
        assert rows[:1].nbytes == row_bytes

    monkeypatch.setattr(shards, "expect", expect)
    wanted = list(features)[3:11]
    features.expect([*reversed(wanted), "no such clip"])
    assert sorted(asked) == sorted(features[clip].tobytes() for clip in wanted)


def test_a_shard_that_is_gone_is_told_to_who_reads_it(tmp_path: Path) -> None:
    home, manifest = corpus(tmp_path, balanced())
    publish(home, manifest, signals(manifest))
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    for path in features.folder.glob("*.zarr"):
        shutil.rmtree(path)
    features.expect(features)
    with pytest.raises(UserError, match="is missing or damaged"):
        features[next(iter(features))]


def test_few_rows_are_shuffled_altogether_and_asked_for_the_first_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_order, "RESIDENT_BYTES", RESIDENT)
    home, manifest = corpus(tmp_path, balanced())
    publish(home, manifest, signals(manifest))
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    table = Table(tuple(features), np.zeros(len(features), np.int64), manifest.classes, {"resnet50": features})
    asked: list[str] = []
    monkeypatch.setattr(features, "expect", asked.extend)
    assert table.places.is_resident
    assert [batch.ids for batch in table.batches(4)] == [batch.ids for batch in table.batches(4)]
    assert sorted(asked) == sorted(features)


def test_the_limit_does_not_depend_on_the_machine() -> None:
    assert RESIDENT == 4 << 30
