"""What show says of one clip is true, for media and derived stages, and its picture shows the chosen frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.reports.looking._statistics import Sums, by_dimension
from tests.checkout import Checkout
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

CLIP = "class0/clip 02"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Six clips of eight frames with `colour` of four frames and `brightness` derived from it; one more cannot be decoded."""
    checkout = Checkout.make(tmp_path_factory.mktemp("shown") / "checkout")
    checkout.clip(7).write_text("no video at all")
    assert checkout.run("extract", "tiny", "colour", "brightness", "--set", "colour.max_frames=4").returncode == 1
    return checkout


def test_show_says_source_frames_rows_and_figures(tiny: Checkout) -> None:
    out = tiny.ok("show", "tiny", "colour", CLIP).stdout
    rows = np.frombuffer(tiny.rows("colour")[CLIP][1], np.float32).reshape(4, 3).astype(np.float64)
    assert f"  file      {tiny.clip(2)} (" in out
    assert "  clip      label class0, split train, signer unknown\n" in out or "split val" in out or "split test" in out
    assert "  source    8 frames at 25 Hz (0.32 s), read by decord\n" in out
    assert "  chosen    4 of them: 0 2 4 7\n" in out
    assert "  rows      (4, 3) float32\n" in out
    assert "NaN, 0 infinite; rows: " in out
    line = next(line.split() for line in out.splitlines() if line.split()[:1] == ["1"])
    figures = (rows[:, 1].min(), rows[:, 1].mean(), rows[:, 1].max(), rows[:, 1].std())
    assert [float(word) for word in line[1:]] == pytest.approx(list(figures), rel=1e-3)


def test_json_holds_every_dimension_and_where_the_rows_lie(tiny: Checkout) -> None:
    document = json.loads(tiny.ok("show", "tiny", "colour", CLIP, "--json").stdout)
    rows = np.frombuffer(tiny.rows("colour")[CLIP][1], np.float32).reshape(4, 3)
    assert document["chosen"] == [0, 2, 4, 7]
    assert Path(document["shard"]).exists()
    np.testing.assert_allclose(document["statistics"]["dimensions"]["max"], rows.max(0))
    assert document["statistics"]["nan"] == 0


def test_a_derived_stage_names_the_media_and_the_frames_behind_it(tiny: Checkout) -> None:
    out = tiny.ok("show", "tiny", "brightness", CLIP).stdout
    assert f"  file      {tiny.clip(2)} (" in out
    assert "  source    4 rows at 12.5 Hz (0.32 s), read by cache\n" in out
    assert "  media     4 of 8 frames by stage colour: 0 2 4 7\n" in out


@pytest.mark.parametrize("stage", ["colour", "brightness"])
def test_the_picture_shows_the_chosen_frames(tiny: Checkout, stage: str, tmp_path: Path) -> None:
    done = tiny.ok("show", "tiny", stage, CLIP, "--picture", tmp_path / "sheet.png")
    assert f"{tmp_path / 'sheet.png'}: 4 frames" in done.stderr
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (14 + 117, 4 * 160, 3)
    rows = np.frombuffer(tiny.rows("colour")[CLIP][1], np.float32).reshape(4, 3)
    for number in range(4):
        shown = sheet[14:, number * 160 : number * 160 + 156].reshape(-1, 3).mean(0)
        np.testing.assert_allclose(shown, rows[number], atol=3)


def test_a_stale_stage_is_shown_with_its_reason(tiny: Checkout) -> None:
    tiny.edit("stages/colour.py", "np.float32)", "np.float32) * 2")
    out = tiny.ok("show", "tiny", "colour", CLIP).stdout
    tiny.edit("stages/colour.py", "np.float32) * 2", "np.float32)")
    assert "  stale     code of stages/colour.py; run: signcache extract tiny colour\n" in out


def test_what_is_not_there_is_one_line(tiny: Checkout) -> None:
    done = tiny.run("show", "tiny", "colour", "class0/clip 03")
    assert done.returncode == 2
    assert "no clip 'class0/clip 03' in 'tiny'; did you mean 'class" in done.stderr
    done = tiny.run("show", "tiny", "colour", "class1/clip 07")
    assert "clip 'class1/clip 07' has no features in tiny/colour; extraction failed: clip 07.mp4 cannot be decoded" in done.stderr


def test_a_clip_without_video_has_no_picture(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced(1, 2, 1))
    publish(home, table, signals(table))
    clip = table.samples[0].id
    out = said(home, "show", "signs", "resnet50", clip, "--picture", tmp_path / "sheet.png", status=2)
    assert f"signcache: no picture of signs/resnet50 {clip!r}: " in out
    assert "cannot be decoded" in out
    assert "all 2048 values of a row with --json" in out


def test_odd_rows_are_counted() -> None:
    rows = np.array([[1, 2, 3], [1, 2, 3], [0, 0, 0], [4, 4, 4], [np.nan, 1, np.inf]], np.float32)
    sums = Sums()
    sums.add(rows)
    counts = {"rows": 5, "values": 15, "nan": 1, "infinite": 1, "constant_rows": 2, "zero_rows": 1, "repeated_rows": 1}
    assert sums.counts() == counts
    found = by_dimension(rows)
    assert found["max"].tolist() == [4, 4, 4]
    assert found["mean"].tolist() == pytest.approx([1.5, 1.8, 2.5])
    assert np.isnan(by_dimension(rows[:0])["min"]).all()
