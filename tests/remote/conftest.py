"""A colleague's features, and the same clips elsewhere without any."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TypeAlias

import pytest

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.remote import signing
from pipeline.types import Array
from tests.feature_cache import balanced, corpus, publish, signals

Mine: TypeAlias = tuple[Home, dict[str, Array]]
SECRET = "a secret that only CI holds"  # noqa: S105


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.KEY, SECRET)


@pytest.fixture
def mine(tmp_path: Path) -> Mine:
    """30 clips of `signs` whose `resnet50` rows lie in six shards."""
    home, table = corpus(tmp_path / "mine", balanced())
    rows = signals(table)
    publish(home, table, rows)
    return home, rows


@pytest.fixture
def yours(tmp_path: Path, mine: Mine) -> Home:
    """The same clips under other names, and three that nobody has extracted, without features."""
    files = tmp_path / "yours/data"
    for number, clip in enumerate(sorted(mine[1])):
        place = files / f"class{number % 3}" / f"{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / f"mine/data/{clip}.mp4", place)
    for number in range(3):
        (files / f"class{number}" / "new.mp4").write_text(f"new {number}")
    home = Home(tmp_path / "yours/cache", tmp_path / "yours/manifests")
    manifest.bind(home, "ours", corpus="folder", root=files)
    return home
