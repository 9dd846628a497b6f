"""What is odd about published features is counted, with the clips by name, once for each publication."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.manifest import Home, Manifest
from pipeline.reports.looking import health
from pipeline.types import Array
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

Signs = tuple[Home, Manifest, dict[str, Array]]


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """Twelve clips, each odd in its own way or whole."""
    home, table = corpus(tmp_path, balanced(2, 4, 1))
    rows = signals(table)
    rows["sign0/train0"][1, 5] = np.nan
    rows["sign0/train1"][0, :2] = np.inf
    rows["sign0/train2"] = np.zeros((3, 2048), np.float32)
    rows["sign0/train3"] = np.repeat(rows["sign0/train3"][:1], 4, 0)
    rows["sign1/train0"] = np.empty((0, 2048), np.float32)
    rows["sign1/train1"][:, 100:200] = 0
    publish(home, table, rows)
    return home, table, rows


def test_status_names_what_is_odd_and_where(signs: Signs) -> None:
    home, _, rows = signs
    out = said(home, "status", "signs", "--health")
    total = sum(map(len, rows.values()))
    assert f"    health: 1 NaN, 2 infinite, 3 of {total} rows constant, 3 all zero, 5 like the one before; empty: values " in out
    share = (3 + len(rows["sign1/train1"])) / total
    assert f"values 100 to 199 {share:.0%}" in out
    for words in (
        "1 clips with NaN: 'sign0/train0'",
        "1 clips with infinities: 'sign0/train1'",
        "1 clips without rows: 'sign1/train0'",
        "1 clips all zero: 'sign0/train2'",
        "1 clips of one row repeated: 'sign0/train3'",
    ):
        assert f"; {words}" in out


def test_json_holds_it_beside_the_stage_only_when_asked(signs: Signs) -> None:
    home = signs[0]
    stage = json.loads(said(home, "status", "signs", "--json"))["stages"]["resnet50"]
    assert "health" not in stage
    found = json.loads(said(home, "status", "signs", "--health", "--json"))["stages"]["resnet50"]["health"]
    assert found["digest"] == stage["published"]
    assert found["clips"]["nan"] == {"count": 1, "first": ["sign0/train0"]}


def test_it_is_computed_once_for_each_publication(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table, rows = signs
    first = said(home, "status", "signs", "--health")
    with monkeypatch.context() as patch:
        patch.setattr(health, "_computed", lambda *_: pytest.fail("computed again"))
        assert said(home, "status", "signs", "--health") == first
    publish(home, table, {clip: rows[clip] for clip in list(rows)[:3]})
    assert said(home, "status", "signs", "--health") != first
    said(home, "gc", "--yes")
    assert len(list(home.cache.rglob(".health-*"))) == 1


def test_parts_that_a_stage_names_are_called_so(tmp_path: Path) -> None:
    from stages.holistic import blocks

    home, table = corpus(tmp_path, balanced(1, 4, 1))
    parts = blocks()
    width = max(part.stop for part in parts.values())
    rows = {sample.id: np.ones((4, width), np.float32) for sample in table.samples}
    for values in rows.values():
        values[0, parts["left_hand"]] = 0
    publish(home, table, rows, stage="holistic")
    found = health.health(home, "signs", "holistic")
    assert found is not None
    assert found["empty_parts"] == {"pose": 0, "face": 0, "left_hand": 0.25, "right_hand": 0}
    assert "; empty: left_hand 25%" in said(home, "status", "signs", "--health")
