"""What gc and drop list and delete, and what they never touch."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline.cache.publishing import Features
from pipeline.cache.stage import published
from pipeline.corpus.manifest import Home, Manifest
from tests.checkout import Checkout
from tests.commands import run, said
from tests.feature_cache import balanced, corpus, publish, signals


@pytest.fixture
def signs(tmp_path: Path) -> tuple[Home, Manifest]:
    home, table = corpus(tmp_path, balanced(2, 2, 1))
    publish(home, table, signals(table), shard_clips=3)
    return home, table


def stage_folder(home: Home) -> Path:
    return home.cache / "signs" / "resnet50"


def digest_of(home: Home) -> str:
    now = published(home, "signs", "resnet50")
    assert now is not None
    return now.digest


def older(home: Home, digest: str = "0123456789abcdef") -> Path:
    """Another identity beside the published one."""
    folder = stage_folder(home) / digest
    shutil.copytree(stage_folder(home) / digest_of(home), folder)
    return folder


def trained_on(home: Home, digest: str, name: str = "lstm_late/0000") -> None:
    folder = home.cache / "runs" / "signs" / name
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"format": 1, "stages": {"resnet50": {"digest": digest}}}))


LOCKS = (".lock", ".gate", ".publishing")


def tree(home: Home) -> dict[str, bytes]:
    files = (path for root in (home.cache, home.manifests) for path in root.rglob("*") if path.is_file() and path.name not in LOCKS)
    return {str(path): path.read_bytes() for path in files}


def test_a_cache_without_waste_has_nothing_to_collect(signs: tuple[Home, Manifest]) -> None:
    assert said(signs[0], "gc") == "0 things, 0 B, may go\n"


def test_gc_says_what_would_go_and_deletes_nothing_until_yes(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    folder, size = older(home), sum(path.stat().st_size for path in older(home, "f" * 16).rglob("*") if path.is_file())
    week = time.time() - 7 * 86400
    for path in [folder, *folder.iterdir()]:
        os.utime(path, (week, week))
    before = tree(home)
    out = said(home, "gc")
    assert f"signs/resnet50  identity {folder.name}  {size / 1e3:.0f} kB  7.0 days old" in out
    assert "2 things, " in out
    assert "delete it with: signcache gc --yes" in out
    assert tree(home) == before
    assert "2 things, " in said(home, "gc", "--yes")
    assert not folder.exists()
    assert said(home, "gc") == "0 things, 0 B, may go\n"
    assert "all whole" in said(home, "verify")


def test_what_a_run_was_trained_on_stays_unless_runs_too(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    folder = older(home)
    trained_on(home, folder.name)
    assert "runs: lstm_late/0000  kept: runs refer to it (--runs-too)" in said(home, "gc", "--yes")
    assert folder.exists()
    said(home, "gc", "--yes", "--runs-too")
    assert not folder.exists()


def test_a_damaged_run_keeps_everything_it_may_have_read(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    folder = older(home)
    trained_on(home, folder.name)
    path = home.cache / "runs/signs/lstm_late/0000/run.json"
    path.write_text("{")
    assert f"kept: {path} is damaged, so it may refer to it (--runs-too)" in said(home, "gc", "--yes")
    assert folder.exists()


def test_todays_unpublished_stage_is_work_in_progress(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    (stage_folder(home) / "published.json").unlink()
    assert "kept: today's stage, not published yet" in said(home, "gc", "--yes")
    assert (list(stage_folder(home).glob("*/*.json"))) != []


@pytest.mark.parametrize("harm", ["syntax error", "weights away", "stage gone", "no manifest"])
def test_work_whose_identity_cannot_be_told_today_stays(checkout: Checkout, harm: str) -> None:
    weights = checkout.folder / "weights.bin"
    weights.write_bytes(b"1")
    checkout.edit("stages/colour.py", 'weights: str = "random:0"', f'weights: str = "{weights}"')
    checkout.ok("extract", "tiny", "colour", "--limit", "2")
    work = set(checkout.markers("colour"))
    if harm == "syntax error":
        checkout.edit("stages/colour.py", "class Colour", "klass Colour")
    elif harm == "weights away":
        weights.unlink()
    elif harm == "stage gone":
        (checkout.folder / "stages/colour.py").unlink()
    else:
        for path in (checkout.folder / "manifests").glob("tiny.*"):
            path.unlink()
    done = checkout.ok("gc", "--yes")
    assert "kept: it may be today's stage, which cannot be told: " in done.stdout
    assert set(checkout.markers("colour")) == work


def test_what_predict_made_with_older_code_goes(checkout: Checkout) -> None:
    shutil.copytree(checkout.folder / "cache/tiny", checkout.folder / "cache/tiny-predict")
    (checkout.folder / "cache/tiny-predict/palette/published.json").unlink()
    old = checkout.folder / "cache/tiny-predict/colour" / ("0" * 16)
    shutil.copytree(next(checkout.folder.glob("cache/tiny-predict/colour/[0-9a-f]*")), old)
    assert checkout.ok("gc", "--yes").stdout.count("kept: today's stage") == 1
    assert not old.exists()


def test_what_a_killed_extraction_made_with_other_settings_stays_while_todays_code_makes_it(checkout: Checkout) -> None:
    published_before = set(checkout.markers("colour"))
    checkout.ok("extract", "tiny", "colour", "--limit", "2", "--set", "max_frames=5")
    checkout.ok("extract", "tiny", "palette", "--as", "bright", "--limit", "2")
    (checkout.folder / "cache/tiny/bright/published.json").unlink()
    for path in (checkout.folder / "cache/tiny/bright").glob("*/rows-*"):
        path.unlink()
    work = {*checkout.markers("colour"), *checkout.markers("bright")}
    out = checkout.ok("gc", "--yes").stdout
    assert out.count("kept: today's stage, not published yet") == 2
    assert {*checkout.markers("colour"), *checkout.markers("bright")} == work
    assert checkout.extracted("colour", "--set", "max_frames=5") == {"colour": 4}
    assert "identity " in checkout.ok("gc", "--yes").stdout
    assert not published_before & set(checkout.markers("colour")), "what was published before and is no more goes"


def test_leftovers_of_killed_runs_go(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    folder = stage_folder(home) / digest_of(home)
    (folder / "0000009-abcdefabcdef.zarr").mkdir()
    (folder / "0000010-abcdefabcdef.h5").write_bytes(b"half")
    (folder / "rows-000000000000.npz").write_bytes(b"old")
    (folder / ".0000001.json.0a1b2c3d").write_bytes(b"half")
    (stage_folder(home) / ".spool-abc").mkdir()
    (stage_folder(home) / ".published.json.0a1b2c3d").write_bytes(b"half")
    (folder / "damaged").mkdir()
    before = tree(home)
    out = said(home, "gc", "--json")
    found = {Path(item["path"]).name: item["what"] for item in json.loads(out.splitlines()[-1])["found"]}
    assert found == {
        "0000009-abcdefabcdef.zarr": "shard without marker",
        "0000010-abcdefabcdef.h5": "shard without marker",
        "rows-000000000000.npz": "old row index",
        ".0000001.json.0a1b2c3d": "leftover of a killed run",
        ".spool-abc": "leftover of a killed run",
        ".published.json.0a1b2c3d": "leftover of a killed run",
        "damaged": "set aside as damaged",
    }
    said(home, "gc", "--yes")
    assert len(tree(home)) == len(before) - 4
    assert "all whole" in said(home, "verify")


def test_a_stage_that_is_being_extracted_is_left_alone(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    folder = older(home)
    with FileLock(stage_folder(home) / ".lock"):
        out = said(home, "gc", "--yes")
        assert "kept: an extraction of signs/resnet50 is running; wait for it, then run this again" in out
        before = tree(home)
        out = said(home, "drop", "signs", "--yes", status=2)
        assert out == "signcache: an extraction of signs/resnet50 is running; wait for it, then run this again\n"
    assert folder.exists()
    assert tree(home) == before


def test_a_disk_that_refuses_is_one_line(signs: tuple[Home, Manifest], monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = signs
    folder = older(home)

    def refused(path: Path) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr("pipeline.cache.upkeep.garbage.delete", refused)
    line = f"cannot write to the cache {home.cache}: Read-only file system; finished clips and what is published are kept"
    assert f"kept: {line}" in said(home, "gc", "--yes")
    assert folder.exists()


def test_published_rows_stay_byte_for_byte(signs: tuple[Home, Manifest]) -> None:
    home, table = signs
    older(home)
    said(home, "gc", "--yes", "--runs-too")
    now = published(home, "signs", "resnet50")
    assert now is not None
    features = Features(home, "signs", "resnet50", now)
    for clip, rows in signals(table).items():
        np.testing.assert_array_equal(features[clip], rows)


def test_drop_says_what_would_go_and_who_used_it(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    trained_on(home, digest_of(home))
    before = tree(home)
    out = said(home, "drop", "signs", "resnet50")
    assert "signs/resnet50  1 identities, " in out
    assert "runs trained on it: lstm_late/0000; evaluate needs it, their reports stay" in out
    assert "nothing is dropped yet; do it with: signcache drop signs resnet50 --yes" in out
    assert tree(home) == before


def test_drop_removes_features_and_lengths_and_leaves_the_sample_manifest_and_runs(signs: tuple[Home, Manifest]) -> None:
    home, _ = signs
    trained_on(home, digest_of(home))
    assert said(home, "drop", "signs", "--yes").endswith("dropped\n")
    assert published(home, "signs", "resnet50") is None
    assert [path.name for path in stage_folder(home).iterdir()] == [".lock"]
    assert not (home.manifests / "signs/resnet50.csv").exists()
    assert (home.manifests / "signs.json").exists()
    assert (home.cache / "runs/signs/lstm_late/0000/run.json").exists()
    assert run(home, "drop", "signs").exit_code == 2
    out = said(home, "drop", "signs", status=2)
    assert f"no features of 'signs' lie in {home.cache}" in out
