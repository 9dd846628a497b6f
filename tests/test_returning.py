"""Clips that go away and come back have the rows that they had, and nothing is done twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.checkout import Checkout, write_clip

ALL = ("colour", "palette", "brightness")
Rows = dict[str, tuple[tuple[int, ...], bytes]]


def rows(checkout: Checkout) -> dict[str, Rows]:
    return {stage: checkout.rows(stage) for stage in ALL}


def without(before: dict[str, Rows], *clips: str) -> dict[str, Rows]:
    return {stage: {clip: values for clip, values in found.items() if clip not in clips} for stage, found in before.items()}


@pytest.mark.parametrize("name", ["clip 02.mp4", "renamed.mp4"])
@pytest.mark.parametrize("copied", [False, True], ids=["moved back", "copied back"])
def test_a_clip_that_returns_has_its_rows_again(checkout: Checkout, tmp_path: Path, name: str, copied: bool) -> None:
    before = rows(checkout)
    shutil.move(checkout.clip(2), tmp_path / "away")
    assert checkout.extracted(*ALL) == {}
    assert rows(checkout) == without(before, "class0/clip 02")
    write_clip(checkout.clip(6), 6)
    assert checkout.extracted(*ALL) == dict.fromkeys(ALL, 1), "published again while it is away"
    (shutil.copyfile if copied else shutil.move)(tmp_path / "away", checkout.clip(2).with_name(name))
    assert checkout.extracted(*ALL) == {}
    clip = f"class0/{Path(name).stem}"
    expected = {stage: {clip if was == "class0/clip 02" else was: own for was, own in found.items()} for stage, found in before.items()}
    assert without(rows(checkout), "class0/clip 06") == expected


def test_a_clip_that_returns_with_other_bytes_is_extracted(checkout: Checkout) -> None:
    before = rows(checkout)
    checkout.clip(2).unlink()
    checkout.ok("extract", "tiny", *ALL)
    write_clip(checkout.clip(2), 20)
    assert checkout.extracted(*ALL) == dict.fromkeys(ALL, 1)
    after = rows(checkout)
    assert without(after, "class0/clip 02") == without(before, "class0/clip 02")
    assert all(after[stage]["class0/clip 02"] != before[stage]["class0/clip 02"] for stage in ("colour", "brightness"))


def test_a_clip_whose_stage_was_edited_while_it_was_away_has_no_old_rows(checkout: Checkout, tmp_path: Path) -> None:
    shutil.move(checkout.clip(2), tmp_path / "away")
    checkout.edit("stages/colour.py", "np.float32)", "np.float32) * 2")
    assert checkout.extracted("colour") == {"colour": 5}
    shutil.move(tmp_path / "away", checkout.clip(2))
    assert checkout.extracted("colour") == {"colour": 1}


def test_a_bad_clip_that_returns_is_not_tried_again(checkout: Checkout, tmp_path: Path) -> None:
    bad = checkout.clip(7)
    bad.write_text("no video at all")
    assert checkout.run("extract", "tiny", "colour").returncode == 1
    for seed in (6, 8):
        shutil.move(bad, tmp_path / "away")
        write_clip(checkout.clip(6), seed)
        assert checkout.extracted("colour") == {"colour": 1}
        checkout.ok("compact", "tiny", "colour")
        shutil.move(tmp_path / "away", bad)
        before = checkout.markers("colour")
        assert "nothing to do" in checkout.ok("extract", "tiny", "colour").stderr
        assert checkout.markers("colour") == before
        assert checkout.plan("colour")["colour"]["failed"] == 1


def test_the_rows_of_a_clip_that_is_away_may_be_lost(checkout: Checkout, tmp_path: Path) -> None:
    first = checkout.markers("colour").keys()
    write_clip(checkout.clip(6), 6)
    checkout.ok("extract", "tiny", "colour")
    (own,) = checkout.markers("colour").keys() - first
    shutil.move(checkout.clip(6), tmp_path / "away")
    checkout.ok("extract", "tiny", "colour")
    own.write_text("damaged")
    checkout.ok("verify", "tiny", "colour", "--mend")
    assert checkout.extracted("colour") == {}
    assert "all whole" in checkout.ok("verify", "tiny", "colour").stderr
    shutil.move(tmp_path / "away", checkout.clip(6))
    assert checkout.extracted("colour") == {"colour": 1}
