"""Whoever reads the cache reads what is right, whatever another process publishes, packs or deletes at whichever moment."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pipeline.atomic import seal, unseal
from pipeline.cache import open_stage
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data import batches
from pipeline.errors import UserError
from pipeline.types import Array
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals
from tests.racing import before_file

NEW = "sign0/train9"


@dataclass(frozen=True)
class Signs:
    """Six clips in shards of two, and one clip more that is not extracted yet."""

    home: Home
    table: Manifest
    rows: dict[str, Array]
    root: Path

    def copy(self, name: str) -> Home:
        shutil.copytree(self.home.cache, self.root / name / "cache")
        shutil.copytree(self.home.manifests, self.root / name / "manifests")
        return Home(self.root / name / "cache", self.root / name / "manifests")


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of caches are made and packed here, and no power fails."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Signs:
    root = tmp_path_factory.mktemp("signs")
    home, table = corpus(root, {**balanced(2, 1, 1), NEW: ("train", "train-signer0")})
    rows = signals(table)
    publish(home, table, {clip: values for clip, values in rows.items() if clip != NEW}, shard_clips=2)
    return Signs(home, table, rows, root)


def extracted(signs: Signs, home: Home) -> None:
    """One clip more is published, under the same identity."""
    publish(home, signs.table, {**{clip: signs.rows[clip] for clip in signs.rows if clip != NEW}, NEW: signs.rows[NEW]}, shard_clips=2)


def packed(signs: Signs, home: Home) -> None:
    said(home, "compact")


def extracted_and_packed(signs: Signs, home: Home) -> None:
    extracted(signs, home)
    packed(signs, home)


def trained(signs: Signs, home: Home) -> None:
    for batch in batches("signs", ["resnet50"], batch_size=4, allow_missing=1, cache=home.cache, manifests=home.manifests):
        for clip, rows, length in zip(batch.ids, batch.features["resnet50"], batch.lengths["resnet50"], strict=True):
            np.testing.assert_array_equal(rows[:length], signs.rows[clip], strict=True)


def exported(signs: Signs, home: Home) -> None:
    said(home, "export", "signs", "resnet50", home.cache.parent / "out")
    for clip in set(signs.rows) - {NEW}:
        np.testing.assert_array_equal(np.load(home.cache.parent / "out" / f"{clip}.npy"), signs.rows[clip], strict=True)


def planned(signs: Signs, home: Home) -> None:
    stage = json.loads(said(home, "plan", "signs", "resnet50", "--json").splitlines()[-1])["stages"]["resnet50"]
    assert set(stage["reasons"]) <= {"new"}
    assert (stage["fresh"], stage["todo"]) in {(6, 1), (7, 0)}


def verified(_: Signs, home: Home) -> None:
    assert "all whole" in said(home, "verify")


def shown(_: Signs, home: Home) -> None:
    assert "sign1/val0" in said(home, "show", "signs", "resnet50", "sign1/val0")


def looked_at(_: Signs, home: Home) -> None:
    said(home, "status", "signs")


def adopted(_: Signs, home: Home) -> None:
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    assert features.adopted_from() == set()


READERS = (trained, exported, planned, verified, shown, looked_at, adopted)


@pytest.mark.parametrize("happens", [packed, extracted, extracted_and_packed], ids=lambda act: act.__name__)
@pytest.mark.parametrize("reads", READERS, ids=lambda act: act.__name__)
def test_a_reader_is_right_whenever_the_cache_changes(signs: Signs, happens: Callable[..., None], reads: Callable[..., None]) -> None:
    for number in itertools.count():
        home = signs.copy(f"{reads.__name__}-{happens.__name__}-{number}")
        with before_file(number, home.cache, lambda home=home: happens(signs, home)) as has_happened:  # type: ignore[misc]
            reads(signs, home)
        shutil.rmtree(home.cache.parent)
        if not has_happened():
            break
    assert number > 2, "it reads nothing of the cache"


def test_a_reader_whose_features_are_replaced_and_collected_is_told_to_start_again(signs: Signs) -> None:
    home = signs.copy("replaced")
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    path = home.cache / "signs/resnet50/published.json"
    content = unseal(path.read_bytes())
    other = path.with_name("0" * 16)
    shutil.copytree(features.folder, other)
    path.write_bytes(seal({**content, "digest": other.name}))
    shutil.rmtree(features.folder)
    message = "other features of signs/resnet50 were published while these were read, and those of .* are gone; run the same line again"
    with pytest.raises(UserError, match=message):
        features["sign0/val0"]
