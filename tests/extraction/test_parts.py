"""Clips that are intervals of long videos: rows of exactly those frames, each file read once, and one clip rebuilt where one changes."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.decoding.decode import Clip, decoded
from pipeline.types import Array, evenly
from tests.checkout import Checkout
from tests.video_files import coloured, write_clip

ROWS = [
    {"id": "first", "file": "day 1/talk.mp4", "label": "yes", "start": "0", "end": "0.4"},
    {"id": "middle", "file": "day 1/talk.mp4", "label": "no", "start": "2.52", "end": "3.2"},
    {"id": "last", "file": "day 1/talk.mp4", "label": "yes", "start_frame": "95", "end_frame": "100"},
    {"id": "whole", "file": "day 1/talk.mp4", "label": "no"},
]
FRAMES = {"first": (0, 10), "middle": (63, 80), "last": (95, 100), "whole": (0, 100)}


def write_table(root: Path, rows: Sequence[dict[str, str]]) -> None:
    with open(root / "table.csv", "w", newline="") as file:
        table = csv.DictWriter(file, ["id", "file", "label", "start", "end", "start_frame", "end_frame"])
        table.writeheader()
        table.writerows(rows)


def colours(path: Path) -> Array:
    """What the stage `colour` makes of all frames of a video."""

    def take(clip: Clip) -> list[Array]:
        return [image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32) for (image,) in clip.frames(np.arange(clip.length))]

    return np.stack(decoded([path], take))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose `tiny` is a table of intervals of one video with B-frames and key frames far apart, extracted."""
    folder = tmp_path_factory.mktemp("talk") / "checkout"
    options = {"bf": "3", "g": "40", "sc_threshold": "0"}
    write_clip(folder / "clips" / "day 1" / "talk.mp4", 100, options=options, draw=coloured)
    write_table(folder / "clips", ROWS)
    checkout = Checkout.make(folder, clips=0, corpus="table")
    assert checkout.extracted("colour") == {"colour": len(ROWS)}
    return folder


@pytest.fixture
def talk(template: Path, tmp_path: Path) -> Checkout:
    copy = Checkout(tmp_path / "checkout")
    shutil.copytree(template, copy.folder)
    copy.ok("manifest", "tiny", "--root", copy.folder / "clips")
    return copy


def test_rows_of_an_interval_are_those_of_its_frames(template: Path) -> None:
    whole = colours(template / "clips" / "day 1" / "talk.mp4")
    found = Checkout(template).rows("colour")
    for clip, (start, end) in FRAMES.items():
        frames = whole[start:end][evenly(end - start, 30)]
        assert found[clip] == (frames.shape, frames.tobytes()), clip


def test_a_changed_interval_rebuilds_its_clip_alone(talk: Checkout) -> None:
    write_table(talk.folder / "clips", [*ROWS[:1], {**ROWS[1], "end": "3.24"}, *ROWS[2:]])
    assert talk.plan("colour")["colour"]["reasons"] == {"changed input": 1}
    before = talk.rows("colour")
    assert talk.extracted("colour") == {"colour": 1}
    after = talk.rows("colour")
    assert {clip for clip in after if after[clip] != before[clip]} == {"middle"}
    assert after["middle"][0] == (18, 3)
