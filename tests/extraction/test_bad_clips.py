"""A corpus of odd files: each is read right or recorded with its reason, the others finish, and nothing is tried again unasked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests.checkout import Checkout
from tests.video_files import beheaded, cut, damaged, turned, write_clip, write_sound


def _text(path: Path) -> None:
    path.write_text("no video at all\n" * 50)


def _empty(path: Path) -> None:
    path.touch()


def _damaged(path: Path) -> None:
    damaged(write_clip(path, 40, container={"movflags": "faststart"}), 0.6, length=400)


def _hidden(path: Path) -> None:
    write_clip(path)
    path.chmod(0)


FAILS: Mapping[str, tuple[str, Callable[[Path], object], str]] = {
    "empty": ("empty.mp4", _empty, "is empty"),
    "text": ("text.mp4", _text, "cannot be decoded: Invalid data found"),
    "cut before its index": ("cut.mp4", lambda path: cut(write_clip(path), 0.5), "cannot be decoded: Invalid data found"),
    "sound only": ("sound.mp4", write_sound, "has no video stream"),
    "header only": ("header.mkv", lambda path: cut(write_clip(path), 0.02), "header.mkv"),
    "damaged in the middle": (
        "middle.mp4",
        lambda path: damaged(write_clip(path, 40, container={"movflags": "faststart"}), 0.6, length=400),
        "middle.mp4",
    ),
}
READS: Mapping[str, tuple[str, Callable[[Path], object], int]] = {
    "one frame": ("one.mp4", lambda path: write_clip(path, 1), 1),
    "odd size": ("odd.mkv", lambda path: write_clip(path, 5, size=(66, 50)), 5),
    "portrait and turned": ("turned.mp4", lambda path: turned(write_clip(path, 5), 90), 5),
    "8K": ("large.mp4", lambda path: write_clip(path, 2, size=(7680, 4320)), 2),
    "new line in its name": ("new\nline.mp4", lambda path: write_clip(path, 6), 6),
    "no suffix in lower case": ("LOUD.MP4", lambda path: write_clip(path, 7), 7),
    "name of other scripts": ("žuta 手話 🤟.mp4", lambda path: write_clip(path, 4), 4),
    "cut matroska": ("kept.mkv", lambda path: cut(write_clip(path, 40), 0.6), -1),
    "starts between key frames": ("late.ts", lambda path: beheaded(write_clip(path, 40), 0.3), -1),
}


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The whole corpus after one extraction, whose exit status said that clips failed."""
    checkout = Checkout.make(tmp_path_factory.mktemp("bad") / "checkout", clips=2)
    for name, make, _ in [*FAILS.values(), *READS.values()]:
        make(checkout.folder / "clips" / "class0" / name)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return checkout


def failures(checkout: Checkout) -> dict[str, str]:
    stages = json.loads(checkout.ok("status", "tiny", "--json").stdout)["stages"]
    return {failure["id"]: failure["reason"] for failure in stages["colour"]["failures"]}


def test_every_bad_clip_is_recorded_with_its_reason_and_the_others_finish(extracted: Checkout) -> None:
    found = failures(extracted)
    for name, _, reason in FAILS.values():
        assert reason in found.pop(f"class0/{Path(name).stem}")
    assert not found
    assert {f"class0/{Path(name).stem}" for name, _, _ in READS.values()} < extracted.rows("colour").keys()


@pytest.mark.parametrize("kind", READS)
def test_an_odd_clip_is_read_right(extracted: Checkout, kind: str) -> None:
    name, _, frames = READS[kind]
    shape, content = extracted.rows("colour")[f"class0/{Path(name).stem}"]
    assert shape[0] == frames if frames > 0 else 0 < shape[0] < 40
    assert np.isfinite(np.frombuffer(content, np.float32)).all()


def test_known_failures_are_a_warning_and_are_not_tried_again(extracted: Checkout) -> None:
    before = extracted.markers("colour")
    done = extracted.ok("extract", "tiny", "colour")
    assert f"{len(FAILS)} failed before" in done.stderr
    assert extracted.markers("colour") == before


def test_retry_failed_tries_them_and_counts_the_attempts(extracted: Checkout) -> None:
    assert extracted.run("extract", "tiny", "colour", "--retry-failed").returncode == 1
    attempts = [failure["attempts"] for marker in extracted.markers("colour").values() for failure in marker["failures"]]
    assert sorted(attempts) == [1] * len(FAILS) + [2] * len(FAILS)
    assert len(failures(extracted)) == len(FAILS)


def test_a_name_with_a_new_line_is_one_row_of_each_table(extracted: Checkout) -> None:
    import csv

    for table in ("tiny.csv", "tiny/colour.csv"):
        with open(extracted.folder / "manifests" / table, newline="") as file:
            assert "class0/new\nline" in [row["id"] for row in csv.DictReader(file)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_clip_that_may_not_be_read_is_recorded(extracted: Checkout) -> None:
    _hidden(extracted.folder / "clips" / "class0" / "hidden.mp4")
    assert extracted.run("extract", "tiny", "colour").returncode == 1
    assert "may not be read (permissions)" in failures(extracted)["class0/hidden"]


def test_a_clip_that_vanishes_during_the_run_costs_that_clip(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout", clips=6)
    gone = checkout.clip(5)
    death = f"    import os\n    if os.path.exists({str(gone)!r}): os.unlink({str(gone)!r})\n    pool = "
    checkout.edit(
        "pipeline/extraction/_engine.py", "        self.pool = ", death.replace("    ", "        ").replace("pool =", "self.pool =")
    )
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 1
    assert "failed: 'class1/clip 05': clip 05.mp4 is missing" in done.stderr
    assert len(checkout.rows("colour")) == 5
    assert checkout.plan("colour")["colour"]["failed"] == 0, "it is no clip of the corpus any more"
