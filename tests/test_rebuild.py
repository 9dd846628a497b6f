"""What makes a cache stale, and what a change costs: one test a rule."""

from __future__ import annotations

import json
import os

import pytest

from tests.checkout import Checkout, write_clip

ALL = ("colour", "palette", "brightness")


def test_a_corpus_that_moved_keeps_its_features(checkout: Checkout) -> None:
    assert {name: part["fresh"] for name, part in checkout.plan(*ALL).items()} == dict.fromkeys(ALL, 6)


def test_a_run_with_nothing_to_do_writes_nothing(checkout: Checkout) -> None:
    before = {path: path.stat().st_mtime_ns for path in (checkout.folder / "cache").rglob("*") if path.is_file() and path.name != ".lock"}
    assert checkout.extracted(*ALL) == {}
    after = {path: path.stat().st_mtime_ns for path in (checkout.folder / "cache").rglob("*") if path.is_file() and path.name != ".lock"}
    assert after == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Mean colours:', '"""Average colours:'),
        ('"""`(T, H, W, 3)` uint8 -> `(T, 3)` float32 mean colours."""\n', ""),
        ("    source: str", "    # where from\n\n    source: str"),
        ("return (3,)", "return (\n            3,\n        )"),
        ('source: str = "rgb"', "source: str = 'rgb'"),
    ],
    ids=["docstring", "no docstring", "comment", "layout", "quotes"],
)
def test_a_docstring_comment_or_layout_edit_keeps_the_cache(checkout: Checkout, old: str, new: str) -> None:
    checkout.edit("stages/colour.py", old, new)
    assert checkout.plan("colour")["colour"]["fresh"] == 6


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max_frames: int = 30", "max_frames: int = 60", "stale: max_frames 30 -> 60"),
        ("axis=(0, 1)", "axis=(1, 0)", "stale: code of stages/colour.py"),
        ('weights: str = "random:0"', 'weights: str = "random:1"', "weights random:0 -> random:1"),
        ('    source: str = "rgb"\n', '    version = 2\n    source: str = "rgb"\n', "version 1 -> 2"),
        ('    source: str = "rgb"\n', '    libraries = ("numpy",)\n    source: str = "rgb"\n', "numpy none -> "),
    ],
    ids=["default", "code", "weights", "version", "library"],
)
def test_a_changed_stage_is_stale_for_a_reason_that_plan_says(checkout: Checkout, old: str, new: str, reason: str) -> None:
    checkout.edit("stages/colour.py", old, new)
    part = checkout.plan(*ALL)
    assert part["palette"]["fresh"] == 6
    assert (part["colour"]["fresh"], part["colour"]["todo"]) == (0, 6)
    assert reason in next(iter(part["colour"]["reasons"]))


def test_a_piece_that_a_stage_imports_belongs_to_it(checkout: Checkout) -> None:
    checkout.edit("stages/palette.py", "SCALE = 1.0", "SCALE = 0.5")
    part = checkout.plan(*ALL)
    assert part["palette"]["todo"] == part["colour"]["todo"] == 6
    assert "code of stages/palette.py" in next(iter(part["colour"]["reasons"]))


def test_extract_rebuilds_the_changed_stage_and_those_derived_from_it_and_nothing_else(checkout: Checkout) -> None:
    palette, colour = checkout.rows("palette"), checkout.rows("colour")
    checkout.edit("stages/colour.py", "np.float32)", "np.float32) * 2")
    assert "after colour" in next(iter(checkout.plan("brightness")["brightness"]["reasons"]))
    assert checkout.extracted(*ALL) == {"colour": 6, "brightness": 6}
    assert checkout.rows("palette") == palette
    assert checkout.rows("colour") != colour
    assert checkout.extracted(*ALL) == {}


def test_a_reverted_edit_finds_its_old_features_again(checkout: Checkout) -> None:
    before = checkout.rows("colour")
    checkout.edit("stages/colour.py", "np.float32)", "np.float32) * 2")
    checkout.ok("extract", "tiny", "colour")
    checkout.edit("stages/colour.py", "np.float32) * 2", "np.float32)")
    assert checkout.extracted("colour") == {}
    assert checkout.rows("colour") == before


def test_a_new_clip_costs_that_clip(checkout: Checkout) -> None:
    write_clip(checkout.clip(6), 6)
    assert checkout.plan("colour")["colour"]["reasons"] == {"new": 1}
    assert checkout.extracted(*ALL) == dict.fromkeys(ALL, 1)
    assert len(checkout.rows("colour")) == 7


def test_an_edited_clip_costs_that_clip(checkout: Checkout) -> None:
    before = checkout.rows("colour")
    write_clip(checkout.clip(3), 33, frames=9)
    assert checkout.plan("colour")["colour"]["reasons"] == {"changed input": 1}
    assert checkout.extracted(*ALL) == dict.fromkeys(ALL, 1)
    after = checkout.rows("colour")
    assert [clip for clip in after if after[clip] != before[clip]] == ["class1/clip 03"]


def test_a_touched_clip_costs_nothing(checkout: Checkout) -> None:
    os.utime(checkout.clip(2))
    assert checkout.extracted(*ALL) == {}
    assert checkout.plan("colour")["colour"] | {"digest": ""} == {
        "digest": "",
        "fresh": 6,
        "todo": 0,
        "failed": 0,
        "removed": 0,
        "reasons": {},
    }


def test_a_renamed_clip_finds_its_rows(checkout: Checkout) -> None:
    before = checkout.rows("colour")
    checkout.clip(2).rename(checkout.clip(2).with_name("renamed.mp4"))
    assert checkout.extracted(*ALL) == {}
    after = checkout.rows("colour")
    assert after["class0/renamed"] == before["class0/clip 02"]
    assert "class0/clip 02" not in after


def test_a_removed_clip_leaves_the_published_table_and_returns_without_work(checkout: Checkout) -> None:
    content = checkout.clip(2).read_bytes()
    checkout.clip(2).unlink()
    assert checkout.plan("colour")["colour"]["removed"] == 1
    assert checkout.extracted(*ALL) == {}
    assert "class0/clip 02" not in checkout.rows("colour")
    assert "class0/clip 02" not in (checkout.folder / "manifests/tiny/colour.csv").read_text()
    checkout.clip(2).write_bytes(content)
    assert checkout.extracted(*ALL) == {}
    assert "class0/clip 02" in checkout.rows("colour")


def test_bytes_changed_under_an_unchanged_stat_are_found_by_rehash(checkout: Checkout) -> None:
    stat, other = checkout.clip(2).stat(), checkout.clip(4).read_bytes()
    checkout.clip(2).write_bytes(other[: stat.st_size].ljust(stat.st_size, b"\0"))
    os.utime(checkout.clip(2), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert checkout.extracted("colour") == {}
    done = checkout.run("extract", "tiny", "colour", "--rehash", "--json")
    document = json.loads(done.stdout)
    assert document["extracted"].get("colour", 0) + document["stages"]["colour"]["failed"] == 1


def test_planning_reads_no_media(checkout: Checkout) -> None:
    for number in range(6):
        os.utime(checkout.clip(number))
        checkout.clip(number).chmod(0)
    trace = "import builtins,sys,runpy; real=open; " \
        "builtins.open=lambda f,*a,**k: (_ for _ in ()).throw(AssertionError(f)) if str(f).endswith('.mp4') else real(f,*a,**k); " \
        "sys.argv=['signcache','plan','tiny','colour','--json']; runpy.run_module('pipeline', run_name='__main__')"  # fmt: skip
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", trace], cwd=checkout.folder, env=checkout.environment, text=True, capture_output=True)
    assert json.loads(done.stdout)["stages"]["colour"]["reasons"] == {"changed input": 6}, done.stderr


def test_a_setting_is_kept_until_it_is_forgotten(checkout: Checkout) -> None:
    assert checkout.extracted("colour", "--set", "max_frames=4") == {"colour": 6}
    assert checkout.extracted("colour") == {}
    assert {shape for shape, _ in checkout.rows("colour").values()} == {(4, 3)}
    assert checkout.plan("colour", "--set", "max_frames=")["colour"]["fresh"] == 6
    checkout.edit("stages/colour.py", "max_frames: int = 30", "max_frames: int = 5")
    assert checkout.plan("colour")["colour"]["fresh"] == 6
    checkout.extracted("colour", "--set", "max_frames=")
    assert {shape for shape, _ in checkout.rows("colour").values()} == {(5, 3)}


def test_a_setting_that_equals_the_default_is_kept_too(checkout: Checkout) -> None:
    assert checkout.extracted("colour", "--set", "max_frames=30") == {}
    checkout.edit("stages/colour.py", "max_frames: int = 30", "max_frames: int = 5")
    assert checkout.plan("colour")["colour"]["fresh"] == 6


def test_a_second_name_holds_another_configuration_of_the_same_stage(checkout: Checkout) -> None:
    assert checkout.extracted("colour", "--as", "colour_short", "--set", "max_frames=2") == {"colour_short": 6}
    assert {shape for shape, _ in checkout.rows("colour_short").values()} == {(2, 3)}
    assert {shape for shape, _ in checkout.rows("colour").values()} == {(8, 3)}
    assert checkout.plan("colour_short")["colour_short"]["fresh"] == 6


def test_old_features_stay_published_until_every_clip_is_rebuilt(checkout: Checkout) -> None:
    before = checkout.rows("colour")
    checkout.edit("stages/colour.py", "np.float32)", "np.float32) * 2")
    done = checkout.ok("extract", "tiny", "colour", "--limit", "2")
    assert "4 clips are still to do; the older features stay published until then" in done.stderr
    assert checkout.rows("colour") == before
    assert checkout.extracted("colour") == {"colour": 4}
    assert checkout.rows("colour") != before


def test_a_limit_holds_for_a_derived_stage_too(checkout: Checkout) -> None:
    write_clip(checkout.clip(6), 6)
    write_clip(checkout.clip(7), 7)
    assert checkout.extracted("brightness", "--limit", "1") == {"colour": 1, "brightness": 1}
    assert checkout.plan("brightness")["brightness"]["reasons"] == {"after colour: new": 1}
    assert checkout.extracted("brightness") == {"colour": 1, "brightness": 1}


def test_only_extracts_the_named_clip(checkout: Checkout) -> None:
    assert checkout.extracted("palette", "--as", "other", "--only", "class0/clip 02") == {"other": 1}
    failed = checkout.run("extract", "tiny", "palette", "--only", "class9/none")
    assert failed.returncode == 2
    assert "--only class9/none: no such clip in 'tiny'; ids are in manifests/tiny.csv" in failed.stderr


def test_stale_features_are_refused_in_one_sentence_until_extract_runs(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout.edit("stages/colour.py", "max_frames: int = 30", "max_frames: int = 60")
    code = "from pipeline.cache import open_stage; from pipeline.errors import UserError\n" \
        "try: open_stage('tiny', 'colour')\nexcept UserError as error: print(error)\n" \
        "print(len(open_stage('tiny', 'colour', stale='allow')))"  # fmt: skip
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", code], cwd=checkout.folder, env=checkout.environment, text=True, capture_output=True)
    assert done.stdout.splitlines() == [
        "the features of tiny/colour are stale (max_frames 30 -> 60); run: signcache extract tiny colour, "
        "or read the old ones with --stale allow",
        "6",
    ], done.stderr


def test_a_failure_is_recorded_once_and_retried_when_asked_or_when_the_clip_changes(checkout: Checkout) -> None:
    checkout.clip(7).write_text("no video at all")
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 1
    assert "failed: 'class1/clip 07': clip 07.mp4 cannot be decoded" in done.stderr
    again = checkout.ok("extract", "tiny", "colour")
    assert "nothing to do" in again.stderr
    status = json.loads(checkout.ok("status", "tiny", "--json").stdout)["stages"]["colour"]
    assert [failure["id"] for failure in status["failures"]] == ["class1/clip 07"]
    assert status["failed"] == 1
    assert checkout.run("extract", "tiny", "colour", "--retry-failed").returncode == 1
    write_clip(checkout.clip(7), 7)
    assert checkout.extracted("colour") == {"colour": 1}
    assert json.loads(checkout.ok("status", "tiny", "--json").stdout)["stages"]["colour"]["failures"] == []


def test_a_lost_length_manifest_is_written_again(checkout: Checkout) -> None:
    table = checkout.folder / "manifests/tiny/colour.csv"
    before = table.read_text()
    table.unlink()
    assert checkout.extracted("colour") == {}
    assert table.read_text() == before


def test_the_length_manifest_lists_the_published_rows(checkout: Checkout) -> None:
    lines = (checkout.folder / "manifests/tiny/colour.csv").read_text().splitlines()
    assert lines[0].startswith("id,length,source_length,rate_hz")
    assert len(lines) == 7
    assert lines[1].startswith("class0/clip 00,8,8,25,decord")
