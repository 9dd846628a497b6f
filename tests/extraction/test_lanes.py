"""From items to shards: batches cross clips and never shards, and no shard stays open for long."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.cache import shards
from pipeline.cache.shards import SHARD_BYTES, SHARD_CLIPS, Failure, Marker
from pipeline.cache.stage import configure
from pipeline.corpus.media import Stat
from pipeline.extraction import _shard_building
from pipeline.extraction._shard_building import Lane
from pipeline.extraction.preparing.jobs import Items, Prepared
from tests.feature_cache import balanced, corpus

if TYPE_CHECKING:
    from torch import Tensor

WIDTH = 2048


class Extraction:
    """A lane of `resnet50` whose forward pass repeats the one number of an item, and keeps what each pass was given."""

    def __init__(self, folder: Path) -> None:
        home, table = corpus(folder, balanced(1, 1, 1))
        self.spool, self.passes, self.clips = folder / "spool", list[list[int]](), 0
        self.spool.mkdir()
        self.writer = ThreadPoolExecutor(1)
        stage = configure(home, table, "resnet50", now={"weights": "random:0"})
        self.lane = Lane(stage, folder / "shards", self.forward, "cpu", "zarr", {}, self.writer, lambda clips: None)

    def forward(self, items: Tensor) -> Tensor:
        self.passes.append(items[:, 0].int().tolist())
        return items.float().expand(-1, WIDTH)

    def add(self, clip: str, *numbers: int) -> None:
        """A clip with one row a number."""
        path = self.spool / clip
        np.array(numbers, np.int32).tofile(path)
        found = Prepared("content", Stat(1, 2), items={"resnet50": Items(path, (len(numbers), 1), "<i4")})
        self.lane.add(self.clips, clip, found)
        self.clips += 1
        self.lane.close_if_full()

    def fail(self, clip: str) -> None:
        self.lane.fail(Failure(clip, "bad", "decord", 1, "content", 1, 2))
        self.lane.close_if_full()

    def markers(self) -> list[Marker]:
        """The shards that are written by now, in the order of their first clips."""
        self.lane.finish()
        names = shards.marker_names(self.lane.folder)
        return [shards.read_marker(self.lane.folder / f"{name}.json") for name in names]

    def rows(self) -> dict[str, list[int]]:
        """The number that each row of a clip repeats."""
        found = {}
        for marker in self.markers():
            values = np.asarray(shards.open_shard(self.lane.folder, marker.store, str(marker.shard))) if marker.shard else None
            for row in marker.rows:
                assert values is not None
                part = values[row.start : row.start + row.length]
                assert part.shape == (row.length, WIDTH)
                assert (part == part[:, :1]).all()
                found[row.id] = part[:, 0].astype(int).tolist()
        return found


@pytest.fixture
def extraction(tmp_path: Path) -> Iterator[Extraction]:
    made = Extraction(tmp_path)
    yield made
    made.writer.shutdown()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only a test changes."""
    now = [1000.0]
    monkeypatch.setattr("pipeline.extraction._shard_building.time.monotonic", lambda: now[0])
    return now


def test_a_shard_holds_64_clips_or_64_megabytes_or_a_minute_of_work() -> None:
    assert (SHARD_CLIPS, SHARD_BYTES, _shard_building.SHARD_SECONDS) == (64, 64 << 20, 60.0)


def test_a_batch_fills_across_clips_and_no_row_is_anothers(extraction: Extraction) -> None:
    clips = {f"clip{number}": [100 * number + row for row in range(length)] for number, length in enumerate([3, 1, 0, 7, 20, 2])}
    for clip, numbers in clips.items():
        extraction.add(clip, *numbers)
    extraction.lane.close()
    every = [number for numbers in clips.values() for number in numbers]
    assert [part for batch in extraction.passes for part in batch][: len(every)] == every
    assert [len(batch) for batch in extraction.passes] == [8, 8, 8, 8, 2]
    assert extraction.rows() == clips
    assert len(extraction.markers()) == 1


def test_a_batch_never_crosses_shards(extraction: Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shard_building, "SHARD_CLIPS", 2)
    clips = {f"clip{number}": [10 * number + row for row in range(3)] for number in range(5)}
    for clip, numbers in clips.items():
        extraction.add(clip, *numbers)
    extraction.lane.close()
    assert [sorted({number // 20 for number in batch}) for batch in extraction.passes] == [[0], [1], [2]]
    assert extraction.rows() == clips
    assert [len(marker.rows) for marker in extraction.markers()] == [2, 2, 1]


def test_a_shard_closes_at_so_many_clips_failures_among_them(extraction: Extraction) -> None:
    for number in range(40):
        extraction.add(f"clip{number}", number)
        if number < 23:
            extraction.fail(f"bad{number}")
    assert extraction.markers() == []
    extraction.fail("the 64th")
    (marker,) = extraction.markers()
    assert (len(marker.rows), len(marker.failures)) == (40, 24)


def test_failures_alone_close_a_shard_without_rows(extraction: Extraction) -> None:
    for number in range(130):
        extraction.fail(f"bad{number}")
    markers = extraction.markers()
    assert [(marker.shard, marker.rows, len(marker.failures)) for marker in markers] == [(None, (), 64), (None, (), 64)]


def test_a_shard_closes_at_so_many_bytes(extraction: Extraction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shard_building, "SHARD_BYTES", 10 * WIDTH * 4)
    for number in range(4):
        extraction.add(f"clip{number}", *range(3))
        assert len(extraction.markers()) == (number == 3)
    assert [len(marker.rows) for marker in extraction.markers()] == [4]


@pytest.mark.parametrize("failing", [False, True])
def test_a_shard_closes_a_minute_after_its_first_clip_though_no_other_comes(
    failing: bool, extraction: Extraction, clock: list[float]
) -> None:
    clock[0] += 1000
    extraction.lane.close_if_full()
    if failing:
        extraction.fail("bad")
    else:
        extraction.add("clip", 1, 2, 3)
    clock[0] += 60
    extraction.lane.close_if_full()
    assert extraction.markers() == []
    clock[0] += 1
    extraction.lane.close_if_full()
    (marker,) = extraction.markers()
    assert (len(marker.rows), len(marker.failures)) == (not failing, failing)
    clock[0] += 1000
    extraction.lane.close_if_full()
    assert extraction.markers() == [marker], "what is written is not written again"


def test_a_clip_without_rows_is_a_clip(extraction: Extraction) -> None:
    extraction.add("empty")
    extraction.lane.close()
    assert extraction.rows() == {"empty": []}
    extraction.add("full", 4)
    extraction.add("empty again")
    extraction.lane.close()
    assert extraction.rows() == {"empty": [], "full": [4], "empty again": []}


def test_items_are_gone_once_their_rows_are_there(extraction: Extraction) -> None:
    extraction.add("long", *range(8))
    extraction.add("empty")
    extraction.add("waiting", 1)
    assert [path.name for path in extraction.spool.iterdir()] == ["waiting"]
