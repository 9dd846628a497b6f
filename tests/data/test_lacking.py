"""What training opens belongs, clip by clip, to what the clip holds now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.lacking import without_features
from pipeline.data.opening import open_stages
from pipeline.errors import UserError
from pipeline.extraction.plan import CHANGED
from pipeline.learning.recipe import Recipe
from pipeline.runs.reading import read_for
from pipeline.types import Array
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

Fixture = tuple[Home, Manifest]
ONE, OTHER = "sign0/train0", "sign1/train1"


class Reader(Recipe):
    """Reads one stage."""

    stages: tuple[str, ...] = ("resnet50",)


def file_of(signs: Fixture, clip: str) -> Path:
    return signs[1].binding.root / f"{clip}.mp4"


def swap(signs: Fixture) -> None:
    """Two misnamed files get each other's names, with their times."""
    one, other = file_of(signs, ONE), file_of(signs, OTHER)
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def read(signs: Fixture) -> dict[str, Array]:
    home, table = signs
    reading, _ = read_for(home, table, Reader(), table.samples, stale="refuse", allow_missing=0)
    return {sample.id: np.array(reading.opened["resnet50"][sample.id]) for sample in reading.samples}


def test_swapped_files_are_refused_until_extract_gives_each_its_own_rows(signs: Fixture) -> None:
    before = read(signs)
    swap(signs)
    text = rf"^2 of 30 clips have no features in signs/resnet50 \(first: {ONE}: changed input\); run: signcache extract signs resnet50, or"
    with pytest.raises(UserError, match=text):
        read(signs)
    assert "30 clips are fresh" in said(signs[0], "extract", "signs", "resnet50")
    after = read(signs)
    assert (after[ONE].tobytes(), after[OTHER].tobytes()) == (before[OTHER].tobytes(), before[ONE].tobytes())
    assert all((rows == after[clip]).all() for clip, rows in before.items() if clip not in (ONE, OTHER))


def test_a_copy_over_another_clip_is_refused_though_its_bytes_are_known(signs: Fixture) -> None:
    file_of(signs, ONE).write_bytes(file_of(signs, OTHER).read_bytes())
    with pytest.raises(UserError, match=rf"^1 of 30 clips has no features .* \(first: {ONE}: changed input\)"):
        read(signs)


def test_old_rows_that_only_aid_a_training_are_refused_too(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    opened = open_stages(home, table, ["resnet50"], "refuse")
    swap((home, table))
    assert without_features(home, table, {}, table.samples, "refuse", aids=opened) == dict.fromkeys((ONE, OTHER), f"resnet50: {CHANGED}")
    assert without_features(home, table, {}, table.samples, "allow", aids=opened) == {}


def test_rows_opened_before_an_extraction_published_others_are_compared_with_these(signs: Fixture) -> None:
    home, table = signs
    opened = open_stages(home, table, ["resnet50"], "refuse")
    swap(signs)
    said(home, "extract", "signs", "resnet50")
    assert without_features(home, table, opened, table.samples, "refuse") == dict.fromkeys((ONE, OTHER), f"resnet50: {CHANGED}")
    assert without_features(home, table, open_stages(home, table, ["resnet50"], "refuse"), table.samples, "refuse") == {}
