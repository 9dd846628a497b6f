"""Clips that are intervals of long videos: rows of exactly those frames, each file read once, and one clip rebuilt where one changes."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from filelock import FileLock

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.corpus.media import stat_of
from pipeline.decoding.decode import Clip, decoded
from pipeline.extraction.preparing import whole_files
from pipeline.extraction.preparing.jobs import Job
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.extraction.sharing.division import _places
from pipeline.types import Array, evenly
from tests.checkout import Checkout
from tests.extraction.test_prepare import Means
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


def test_a_video_is_read_once_for_all_its_intervals(talk: Checkout, tmp_path: Path) -> None:
    for function in ("pipeline/corpus/media.py:def _digest(", "pipeline/decoding/timeline.py:def _by_packets("):
        file, _, line = function.partition(":")
        text = (talk.folder / file).read_text()
        begin = text.index('"""\n', text.index('"""', text.index(line)) + 3) + 4
        told = f"    with open({str(tmp_path / 'reads')!r}, 'a') as told:\n        told.write({line!r} + '\\n')\n"
        (talk.folder / file).write_text(text[:begin] + told + text[begin:])
    parts = [row for row in ROWS if row["id"] != "whole"]
    write_table(talk.folder / "clips", parts)
    shutil.rmtree(talk.folder / "cache")
    assert talk.extracted("colour", "palette") == {"colour": 3, "palette": 3}
    once = ["def _by_packets(", "def _digest("]
    assert sorted((tmp_path / "reads").read_text().splitlines()) == once
    (tmp_path / "reads").write_text("")
    write_table(talk.folder / "clips", [*parts, {**ROWS[0], "id": "second", "start": "0.2"}])
    assert talk.extracted("colour") == {"colour": 1}
    assert sorted((tmp_path / "reads").read_text().splitlines()) == once, "what recognised no clip is not hashed again"


def test_intervals_stay_with_their_video_when_it_is_touched_renamed_or_moved(talk: Checkout) -> None:
    before = talk.rows("colour")
    (talk.folder / "clips" / "day 1").rename(talk.folder / "clips" / "monday")
    (talk.folder / "clips" / "monday" / "talk.mp4").touch()
    write_table(talk.folder / "clips", [{**row, "file": "monday/talk.mp4"} for row in ROWS])
    (talk.folder / "clips").rename(talk.folder / "elsewhere")
    assert talk.extracted("colour", "--root", talk.folder / "elsewhere") == {}
    assert talk.rows("colour") == before
    assert talk.extracted("colour", "--rehash") == {}


def test_a_video_with_other_bytes_rebuilds_all_its_intervals(talk: Checkout) -> None:
    write_clip(talk.folder / "clips" / "day 1" / "talk.mp4", 110, options={"g": "40"}, draw=coloured)
    assert talk.plan("colour")["colour"]["reasons"] == {"changed input": 4}
    assert talk.extracted("colour") == {"colour": 4}


def test_an_interval_that_is_none_fails_its_clip_in_one_line_and_no_other(talk: Checkout) -> None:
    wrong = [
        {
            "id": "beyond",
            "start": "3",
            "end": "4.2",
            "told": "3 to 4.2 s of talk.mp4, which has 100 frames, 4.000 s: that is beyond its end",
        },
        {"id": "backwards", "start_frame": "9", "end_frame": "3", "told": "frames 9 to 3 of talk.mp4"},
        {"id": "empty", "start_frame": "9", "end_frame": "9", "told": "frames 9 to 9 of talk.mp4"},
        {"id": "negative", "start": "-1", "end": "1", "told": "-1 to 1 s of talk.mp4"},
    ]
    told = {row["id"]: row.pop("told") for row in wrong}
    write_table(talk.folder / "clips", [*ROWS, *({"file": "day 1/talk.mp4", "label": "yes", **row} for row in wrong)])
    done = talk.run("extract", "tiny", "colour")
    assert done.returncode == 1, done.stderr
    failures = json.loads(talk.ok("status", "tiny", "--json").stdout)["stages"]["colour"]["failures"]
    assert {failure["id"] for failure in failures} == told.keys()
    assert all(failure["reason"].startswith(told[failure["id"]]) for failure in failures), failures
    assert set(talk.rows("colour")) == set(FRAMES)


def test_a_missing_video_is_named_once_and_fails_its_clips(talk: Checkout) -> None:
    (talk.folder / "clips" / "day 1" / "talk.mp4").unlink()
    said = talk.ok("manifest", "tiny").stderr
    assert "1 expected files are missing, first day 1/talk.mp4; their clips will fail" in said
    assert talk.run("extract", "tiny", "colour").returncode == 1
    failures = json.loads(talk.ok("status", "tiny", "--json").stdout)["stages"]["colour"]["failures"]
    assert {failure["reason"] for failure in failures} == {"talk.mp4 is missing"}


def test_a_clip_of_an_interval_is_shown_verified_and_collected_as_any_other(talk: Checkout) -> None:
    shown = talk.ok("show", "tiny", "colour", "middle").stdout
    assert "day 1/talk.mp4#t=2.52,3.2" in shown
    assert "17 frames at 25 Hz (0.68 s), read by pyav" in shown
    talk.ok("verify", "tiny")
    before = talk.rows("colour")
    write_table(talk.folder / "clips", ROWS[1:])
    talk.ok("extract", "tiny", "colour")
    assert set(talk.rows("colour")) == {"middle", "last", "whole"}
    write_table(talk.folder / "clips", ROWS)
    assert talk.extracted("colour") == {}
    talk.ok("gc", "--yes")
    assert talk.rows("colour") == before


def job_of(folder: Path, interval: str) -> Job:
    """A part of a video of 24 frames."""
    clip = folder / "clip.mp4"
    if not clip.exists():
        write_clip(clip)
        (folder / "spool").mkdir()
    return Job(0, "clip", {"stage": Means()}, folder / "spool", stat_of([clip]), 60.0, (Path(f"{clip}#{interval}"),))


def test_a_disk_that_refuses_what_is_found_out_of_a_video_ends_the_run_and_no_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    job = job_of(tmp_path, "t=0,0.2")
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.atomic.replace", full)
        with pytest.raises(OSError, match="No space left"):
            prepare_clip(job)
    assert len(prepare_clip(job).items["stage"]) == 5


def test_who_waits_for_another_process_says_that_it_is_not_hung_and_takes_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, told = job_of(tmp_path, "frames=3,9"), list[int]()
    monkeypatch.setattr(whole_files, "WAIT_SECONDS", 0.01)
    first = prepare_clip(job)
    (known,) = job.spool.glob("digest-*[!k]")
    content = known.read_bytes()
    known.unlink()
    held = FileLock(f"{known}.lock")
    held.acquire()

    def moved(self: Job) -> None:
        told.append(1)
        if len(told) == 20:
            known.write_bytes(content)

    monkeypatch.setattr(Job, "moved", moved)
    monkeypatch.setattr(whole_files, "hashed", pytest.fail)
    assert prepare_clip(job).content == first.content
    held.release()


def test_runs_that_divide_the_clips_number_them_alike_whatever_is_left_to_do(tmp_path: Path) -> None:
    rows = [("a", "one", "1", "2"), ("b", "two", "", ""), ("c", "one", "3", "4"), ("d", "three", "", "")]
    write_table(tmp_path, [{"id": clip, "file": f"{file}.mp4", "start": start, "end": end} for clip, file, start, end in rows])
    table = manifest.bind(Home(tmp_path / "cache", tmp_path / "manifests"), "signs", corpus="table", root=tmp_path)
    stage = SimpleNamespace(extractor=Means())
    for left in ("abcd", "bd", "b"):
        todo = [Mock(sample=sample) for sample in table.samples if sample.id in left]
        assert dict(_places(table, Mock(stage=stage, todo=todo))) == {"a": 0, "c": 1, "b": 2, "d": 3}
