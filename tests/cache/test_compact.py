"""Packing keeps every row byte for byte, whenever it is killed and whoever is reading."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline.atomic import seal, unseal
from pipeline.cache import publishing
from pipeline.cache.locking import locked
from pipeline.cache.publishing import Features
from pipeline.cache.stage import Stage, published
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.types import Array
from tests.checkout import Checkout, write_clip
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals
from tests.killing import changes, killed

Signs = tuple[Home, Manifest, dict[str, Array], Stage]


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """Twelve clips in shards of one, one of them failed."""
    home, table = corpus(tmp_path, balanced(2, 4, 1))
    rows = signals(table)
    del rows["sign1/train2"]
    stage = publish(home, table, rows, failed={"sign1/train2": "it holds no frames"}, shard_clips=1)
    return home, table, rows, stage


def opened(home: Home) -> Features:
    now = published(home, "signs", "resnet50")
    assert now is not None
    return Features(home, "signs", "resnet50", now)


def assert_rows(features: Features, rows: dict[str, Array]) -> None:
    assert set(features) == set(rows)
    for clip, values in rows.items():
        np.testing.assert_array_equal(features[clip], values, strict=True)


def test_many_small_shards_become_one_with_the_same_rows(signs: Signs) -> None:
    home, _, rows, stage = signs
    assert said(home, "compact").startswith("signs/resnet50: 11 shards -> 1, ")
    features = opened(home)
    assert_rows(features, rows)
    assert len(list(features.folder.glob("*.json"))) == len(list(features.folder.glob("*.zarr"))) == 1
    assert features.index.failures.keys() == {"sign1/train2"}
    assert "1 shards, 11 clips" in said(home, "verify")
    assert said(home, "gc") == "0 things, 0 B, may go\n"
    assert said(home, "compact", "signs", "resnet50") == "signs/resnet50: 1 shards, packed already\n"
    next(features.folder.glob("rows-*.npz")).unlink()
    assert "sign1/train2" in publishing.finished(stage, home).failures, "the marker holds the failure too"


def test_a_shard_is_never_larger_than_a_full_one(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _, rows, _ = signs
    monkeypatch.setattr("pipeline.cache.upkeep.compact.SHARD_CLIPS", 4)
    assert "11 shards -> 3" in said(home, "compact")
    assert sorted(len(json.loads(path.read_bytes())["rows"]) for path in opened(home).folder.glob("*.json")) == [3, 4, 4]
    assert_rows(opened(home), rows)


def test_a_shard_never_holds_more_bytes_than_a_full_one(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _, rows, _ = signs
    monkeypatch.setattr("pipeline.cache.upkeep.compact.SHARD_BYTES", 2048 * 4 * 15)
    said(home, "compact")
    for path in opened(home).folder.glob("*.json"):
        lengths = [row["length"] for row in json.loads(path.read_bytes())["rows"]]
        assert sum(lengths) <= 15
    assert_rows(opened(home), rows)


def test_readers_that_opened_before_go_on_undisturbed(signs: Signs) -> None:
    home, _, rows, _ = signs
    readers = opened(home), opened(home)
    held = readers[0]["sign0/val0"]
    said(home, "compact")
    np.testing.assert_array_equal(held, rows["sign0/val0"])
    for reader in readers:
        assert_rows(reader, rows)


def test_a_damaged_row_is_named_and_nothing_is_packed(signs: Signs) -> None:
    home = signs[0]
    shard = sorted(opened(home).folder.glob("*.zarr"))[5]
    clip = json.loads(shard.with_suffix(".json").read_bytes())["rows"][0]["id"]
    file = next(path for path in shard.rglob("c/*/*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[5] ^= 1
    file.write_bytes(content)
    before = sorted(path.name for path in opened(home).folder.iterdir())
    out = said(home, "compact", status=2)
    assert f"the rows of {clip!r} in {shard} differ from their checksum; run: signcache verify signs resnet50 --mend" in out
    assert sorted(path.name for path in opened(home).folder.iterdir()) == before


def test_what_was_set_aside_is_extracted_before_it_is_packed(signs: Signs) -> None:
    home = signs[0]
    shard = sorted(opened(home).folder.glob("*.json"))[5]
    shard.unlink()
    remedy = "is missing; run: signcache extract signs resnet50"
    assert f"the shard {shard.stem} of signs/resnet50 {remedy}, then compact it again\n" in said(home, "compact", status=2)
    next(opened(home).folder.glob("rows-*")).unlink()
    assert f"the row index of signs/resnet50 {remedy}\n" in said(home, "compact", status=2)


def test_the_table_of_lengths_is_that_of_what_is_published(signs: Signs) -> None:
    home = signs[0]
    table = home.manifests / "signs/resnet50.csv"
    right = table.read_text()
    table.write_text("of an extraction that was killed before it wrote this one\n")
    said(home, "compact")
    assert table.read_text() == right


def test_rows_that_were_made_differently_stay_apart_and_every_adoption_is_remembered(signs: Signs) -> None:
    home = signs[0]
    for number, path in enumerate(sorted(opened(home).folder.glob("*.json"))):
        content = unseal(path.read_bytes())
        earlier = {"earlier": ["e" * 16]} if number % 2 else {}
        made = {"device": "cpu", "threads": number % 2 + 1, "adopted": {"from": "f" * 16, "at": 5.0, **earlier}}
        path.write_bytes(seal({**content, "made": made}))
    assert "11 shards -> 2" in said(home, "compact")
    packed = [json.loads(path.read_bytes())["made"] for path in opened(home).folder.glob("*.json")]
    assert {(each["device"], each["threads"]) for each in packed} == {("cpu", 1), ("cpu", 2)}
    assert opened(home).adopted_from() == {"e" * 16, "f" * 16}


def test_packing_waits_for_no_extraction(signs: Signs) -> None:
    home = signs[0]
    with FileLock(home.cache / "signs/resnet50/.lock"):
        out = said(home, "compact", status=2)
    assert out == "signcache: an extraction of signs/resnet50 is running; wait for it, then run this again\n"


def test_packing_waits_for_no_stage_that_may_be_reading_for_the_first_time(signs: Signs) -> None:
    home = signs[0]
    (home.cache / "signs/kinematics").mkdir()  # its first extraction has no shard yet
    with FileLock(home.cache / "signs/kinematics/.lock"):
        out = said(home, "compact", status=2)
    assert out == "signcache: an extraction of signs/kinematics is running; wait for it, then run this again\n"


def test_no_extraction_begins_while_shards_are_packed(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home = signs[0]
    monkeypatch.setattr("pipeline.cache.locking.GATE_SECONDS", 0)
    message = "the cache of signs is being packed or dropped; wait for it, then run this again"
    begun: list[str] = []

    def begin(*_: object) -> None:
        with pytest.raises(UserError, match=message), locked(home, "signs", ["kinematics"]):
            pass
        begun.append(message)

    monkeypatch.setattr("pipeline.cache.upkeep.compact._remove", begin)
    said(home, "compact")
    assert begun
    with locked(home, "signs", ["kinematics"]):
        pass


def test_rows_of_no_clip_go_and_each_store_keeps_its_own(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 1")
    checkout.ok("extract", "tiny", "colour", "--limit", "3")
    write_clip(checkout.clip(0), 50)
    checkout.ok("extract", "tiny", "colour", "--store", "hdf5")
    before = checkout.rows("colour")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 1", "SHARD_CLIPS = 64")
    assert "tiny/colour: 7 shards -> 2, 1 rows of no clip dropped" in checkout.ok("compact").stdout
    assert checkout.rows("colour") == before
    assert {(len(marker["rows"]), marker["store"]) for marker in checkout.markers("colour").values()} == {(2, "zarr"), (4, "hdf5")}
    assert checkout.extracted("colour") == {}


def test_killed_at_any_change_the_cache_is_right_and_packing_goes_on(signs: Signs, tmp_path: Path) -> None:
    home, _, rows, _ = signs
    shutil.copytree(home.cache, tmp_path / "all")
    steps = changes(Home(tmp_path / "all", home.manifests), "compact")
    assert steps > 30
    for step in sorted(random.Random(1).sample(range(steps), 6)):
        copy = Home(tmp_path / f"cache{step}", home.manifests)
        shutil.copytree(home.cache, copy.cache)
        assert killed(copy, step, "compact")
        assert_rows(opened(copy), rows)
        assert "all whole" in said(copy, "verify")
        assert "nothing to do, 11 clips are fresh" in said(copy, "extract", "signs", "resnet50")
        assert_rows(opened(copy), rows)
        said(copy, "compact")
        said(copy, "gc", "--yes")
        assert_rows(opened(copy), rows)
        assert "1 shards, 11 clips" in said(copy, "verify")
