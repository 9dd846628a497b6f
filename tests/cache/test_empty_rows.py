"""A clip of which a stage makes no rows begins where the next one does: each stays itself."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import publishing
from pipeline.cache.publishing import Features, finished
from pipeline.cache.stage import Stage, published
from pipeline.cache.upkeep.restamp import restamp
from pipeline.corpus.manifest import Home, Manifest
from pipeline.types import Array
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

EMPTY = ("sign0/train0", "sign0/train1")
Signs = tuple[Home, Manifest, dict[str, Array], Stage]


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """Eight clips in one shard; the first two have no rows."""
    home, table = corpus(tmp_path, balanced(2, 2, 1))
    rows = {clip: values[:0] if clip in EMPTY else values for clip, values in signals(table).items()}
    return home, table, rows, publish(home, table, rows, shard_clips=8)


def opened(home: Home) -> Features:
    now = published(home, "signs", "resnet50")
    assert now is not None
    return Features(home, "signs", "resnet50", now)


@pytest.mark.parametrize("gone", [EMPTY[:1], EMPTY, ("sign0/val0",), (EMPTY[1], "sign0/val0")])
def test_rows_of_a_removed_clip_are_found_when_it_returns(signs: Signs, gone: tuple[str, ...]) -> None:
    home, _, rows, stage = signs
    done = finished(stage, home)
    numbers = [number for clip, number in done.rows.position.items() if clip not in gone]
    bound = done.rows.taken(np.array(numbers, np.int64))
    contents = done.rows.columns["content"].tolist()
    publishing.publish(home, stage, done, bound, [])
    assert set(opened(home)) == set(rows) - set(gone)
    assert sorted(finished(stage, home).rows.columns["content"].tolist()) == sorted(contents)


def test_adopted_clips_keep_their_own_markers(signs: Signs) -> None:
    home, _, rows, stage = signs
    features = opened(home)
    entries = {clip: features.index.entry(number) for clip, number in features.index.position.items()}
    now = replace(stage, fingerprint=replace(stage.fingerprint, digest="0" * 16))
    restamp(home, now, features, entries, {"from": stage.fingerprint.digest, "at": time.time()})
    next(now.folder(home).glob("rows-*")).unlink()
    assert set(finished(now, home).rows.ids) == set(rows)


def test_packed_clips_stay_themselves(signs: Signs) -> None:
    home, _, rows, _ = signs
    said(home, "compact")
    assert {clip: len(opened(home)[clip]) for clip in opened(home)} == {clip: len(values) for clip, values in rows.items()}


def test_the_same_rows_in_two_shards_are_both_known(signs: Signs) -> None:
    home, table, rows, stage = signs
    publish(home, table, rows, shard_clips=8)
    assert len(finished(stage, home).rows) == 2 * len(rows)
