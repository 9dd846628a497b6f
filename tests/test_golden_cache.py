"""Caches written long ago keep loading; what a newer signcache wrote is refused in one line that says so.

`golden/cache_v1` was written once, by the first version, and is never written anew: `python -m tests.test_golden_cache FOLDER`
writes another one, for the next version. In it `colour` lies in zarr shards and `palette` in HDF5 shards; the markers and
`published.json` of `palette` have no seal yet.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from pipeline.cache import index, open_stage, shards
from pipeline.cache.stage import published
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.runs import run_folder
from tests.commands import said

GOLDEN = Path(__file__).parent / "golden" / "cache_v1"
HOME = Home(GOLDEN / "cache", GOLDEN / "manifests")
ROWS = json.loads((GOLDEN / "rows.json").read_text()) if GOLDEN.exists() else {}
STAGES = sorted(ROWS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A copy, to be harmed."""
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return Home(tmp_path / "golden" / "cache", tmp_path / "golden" / "manifests")


def folder_of(home: Home, stage: str) -> Path:
    said_now = published(home, "tiny", stage)
    assert said_now is not None
    return home.cache / "tiny" / stage / said_now.digest


@pytest.mark.parametrize("stage", STAGES)
def test_old_features_open_with_todays_reader(stage: str) -> None:
    features = open_stage("tiny", stage, cache=HOME.cache, manifests=HOME.manifests, stale="allow")
    assert set(features) == set(ROWS[stage])
    for clip, rows in ROWS[stage].items():
        np.testing.assert_array_equal(features[clip], np.array(rows, np.float32), strict=True)
    with pytest.raises(UserError, match=r"clip 'class1/clip 03' has no features in tiny/.*; extraction failed: clip 03\.mp4 cannot be"):
        features["class1/clip 03"]


@pytest.mark.parametrize("stage", STAGES)
def test_old_shards_open_with_plain_libraries(stage: str) -> None:
    found = {}
    for path in folder_of(HOME, stage).glob("*-*.json"):
        marker = json.loads(path.read_text())
        if marker["shard"] is None:
            continue
        if marker["store"] == "zarr":
            values = np.asarray(zarr.open_array(path.parent / marker["shard"], mode="r")[...])
        else:
            with h5py.File(path.parent / marker["shard"]) as file:
                values = np.asarray(file["rows"][...])
        found.update({row["id"]: values[row["start"] : row["start"] + row["length"]].tolist() for row in marker["rows"]})
    assert found == {clip: np.array(rows, np.float32).tolist() for clip, rows in ROWS[stage].items()}


def test_both_stores_and_both_ages_of_markers_are_there() -> None:
    markers = [json.loads(path.read_text()) for stage in STAGES for path in folder_of(HOME, stage).glob("*-*.json")]
    assert {(marker["store"], "seal" in marker) for marker in markers} == {("zarr", True), ("hdf5", False)}


def test_an_old_cache_is_verified_and_has_no_waste(home: Home) -> None:
    assert "all whole" in said(home, "verify")
    assert said(home, "gc") == "0 things, 0 B, may go\n"


def newer_json(path: Path) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 7}))


def _marker(home: Home) -> tuple[Path, Callable[[], Any]]:
    path = next(folder_of(home, "colour").glob("*-*.json"))
    newer_json(path)
    return path, lambda: shards.read_marker(path)


def _published(home: Home) -> tuple[Path, Callable[[], Any]]:
    path = home.cache / "tiny/colour/published.json"
    newer_json(path)
    return path, lambda: published(home, "tiny", "colour")


def _index(home: Home) -> tuple[Path, Callable[[], Any]]:
    path = next(folder_of(home, "colour").glob("rows-*.npz"))
    with np.load(path) as file:
        arrays = dict(file.items())
    details = {**json.loads(arrays["details"].tobytes()), "format": 7}
    np.savez(path, allow_pickle=False, **{**arrays, "details": np.frombuffer(json.dumps(details).encode(), np.uint8)})
    return path, lambda: index.read(path)


def _manifest(home: Home) -> tuple[Path, Callable[[], Any]]:
    path = home.manifests / "tiny.json"
    newer_json(path)
    return path, lambda: manifest.read(home, "tiny")


def _run(home: Home) -> tuple[Path, Callable[[], Any]]:
    folder = home.cache / "runs/tiny/lstm_late/0"
    run_folder.write_record(folder, {"dataset": "tiny", "model": "lstm_late", "stages": {}})
    newer_json(folder / "run.json")
    return folder / "run.json", lambda: run_folder.read(folder)


@pytest.mark.parametrize("harm", [_marker, _published, _index, _manifest, _run], ids=["marker", "published", "index", "manifest", "run"])
def test_a_newer_file_is_refused_in_one_line(home: Home, harm: Callable[[Home], tuple[Path, Callable[[], Any]]]) -> None:
    path, reading = harm(home)
    with pytest.raises(UserError) as error:
        reading()
    assert str(error.value) == f"{path} has format 7, this signcache reads up to 1: install a newer signcache"


def make(folder: Path) -> None:
    """A golden cache by today's code: three clips of two rows and one that failed, both stages, both stores."""
    from tests.checkout import Checkout

    checkout = Checkout.make(folder / "checkout", clips=3)
    checkout.clip(3).write_text("no video at all")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    select = "    def select(self, length, rate_hz):\n        from pipeline.types import evenly\n\n        return evenly(length, 2)\n\n"
    checkout.edit("stages/palette.py", "    def prepare", select + "    def prepare")
    checkout.run("extract", "tiny", "colour", "--set", "max_frames=2")
    checkout.run("extract", "tiny", "palette", "--store", "hdf5")
    for part in ("cache", "manifests"):
        shutil.copytree(checkout.folder / part, folder / part, ignore=shutil.ignore_patterns("logs", ".lock", ".publishing"))
    path = folder / "manifests/tiny.json"
    path.write_text(path.read_text().replace(str(checkout.folder / "clips"), "/data/tiny"))
    rows = {stage: checkout.rows(stage) for stage in ("colour", "palette")}
    values = {
        stage: {clip: np.frombuffer(content, np.float32).reshape(shape).tolist() for clip, (shape, content) in found.items()}
        for stage, found in rows.items()
    }
    (folder / "rows.json").write_text(json.dumps(values, indent=1) + "\n")
    shutil.rmtree(checkout.folder)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
