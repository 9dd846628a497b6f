"""Corpus `table`: rows are clips, whole files or intervals, and a row that says too little or too much is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.corpus.splits import crossing_overlaps
from pipeline.errors import UserError
from pipeline.types import Sample
from tests.commands import said
from tests.datasets.test_corpora import listed


def table(root: Path, text: str, name: str = "table.csv") -> dict[str, Sample]:
    (root / name).write_text(text)
    return listed("table", root)


def test_a_row_is_a_whole_file_or_an_interval_in_seconds_or_frames(tmp_path: Path) -> None:
    found = table(
        tmp_path,
        "file,label,start,end,start_frame,end_frame,split,signer,remark\n"
        "a/one.mp4,yes,1.5,3,,,train,anna,clear\n"
        "a/one.mp4,no,,,75,150,test,,\n"
        "b/two.mkv,,,,,,,,\n"
        "a/one.mp4,yes,,,150.0,160.0,,,from pandas\n",
    )
    assert {clip: (s.media, s.label, s.split, s.signer) for clip, s in found.items()} == {
        "a/one#t=1.5,3": ({"rgb": ("a/one.mp4#t=1.5,3",)}, "yes", "train", "anna"),
        "a/one#frames=75,150": ({"rgb": ("a/one.mp4#frames=75,150",)}, "no", "test", None),
        "b/two": ({"rgb": ("b/two.mkv",)}, None, "unassigned", None),
        "a/one#frames=150,160": ({"rgb": ("a/one.mp4#frames=150,160",)}, "yes", "unassigned", None),
    }


def test_json_lines_say_the_same(tmp_path: Path) -> None:
    rows = [
        {"id": "x", "file": "a.mp4", "label": "yes", "start": 0.25, "end": 1},
        {"id": "y", "file": "a.mp4", "label": 2, "start_frame": 3, "end_frame": 4, "signer": None},
    ]
    found = table(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n", "clips.jsonl")
    assert {clip: (s.media["rgb"][0], s.label) for clip, s in found.items()} == {
        "x": ("a.mp4#t=0.25,1", "yes"),
        "y": ("a.mp4#frames=3,4", "2"),
    }


def test_a_manifest_says_intervals_as_the_table_does_and_numbers_come_in_order(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "table.csv").write_text("id,file,label,start,end\nx,a.mp4,10,0.50,2\ny,a.mp4,9,2,3\n")
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    bound = manifest.bind(home, "signs", corpus="table", root=tmp_path / "files")
    assert bound.classes == ("9", "10")
    assert manifest.read(home, "signs").samples == bound.samples
    assert '"a.mp4#t=0.5,2"' in (tmp_path / "manifests" / "signs.csv").read_text()


HEADER = "file,label,start,end,start_frame,end_frame,split\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\na.mp4,yes\n", r"table\.csv has no column 'file'; it has path, label; known are file, label, id, start, end, "),
        ("", r"table\.csv has no column 'file'; it has none"),
        ("file,label,start_frames,end_frames\na.mp4,yes,1,2\n", r"has a column 'start_frames'; did you mean 'start_frame'\? Rename it"),
        (HEADER + "a.mp4,yes,1,2,3,4,\n", r"table\.csv, line 2 gives an interval in seconds and in frames; leave one of them empty"),
        (HEADER + "a.mp4,yes,,,,,\na.mp4,yes,1,,,,\n", r"line 3 has no 'end' beside the other; an interval has both, a whole file none"),
        (HEADER + "a.mp4,yes,,,1.5,3,\n", r"line 2: start_frame '1\.5' is no number of a frame"),
        (HEADER + "a.mp4,yes,soon,3,,,\n", r"line 2: start 'soon' is no number of seconds"),
        (HEADER + "a.mp4,yes,0,inf,,,\n", r"line 2: end 'inf' is no number of seconds"),
        (HEADER + ",yes,0,1,,,\n", r"line 2 names no file"),
        (HEADER + "a.mp4,yes,,,,,dev\n", r"line 2: split 'dev' is none of train, val, test"),
        (HEADER + "a.mp4,yes,,,,,,,\n", r"line 2 has more values than there are columns"),
    ],
)
def test_a_table_that_cannot_be_understood_is_one_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        table(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "told"), [("{", "line 1 is no JSON: "), ("[1]", "line 1 is no JSON object; expected"), ("{}", "no column 'file'")]
)
def test_a_line_that_is_no_row_is_one_line(line: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=told):
        table(tmp_path, line, "table.jsonl")


def test_of_several_tables_the_one_called_table_is_read(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_text("anything\n")
    assert set(table(tmp_path, "file,label\na.mp4,yes\n")) == {"a"}
    (tmp_path / "table.csv").rename(tmp_path / "clips.csv")
    with pytest.raises(UserError, match=r"holds clips\.csv, notes\.csv; expected one of them, or one called table\.csv"):
        listed("table", tmp_path)


@pytest.mark.parametrize("file", ["../a.mp4", "/a.mp4", "b/../../a.mp4", ".."])
def test_a_file_that_is_not_below_the_root_is_refused_in_an_interval_too(file: str, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(f"file,label,start,end\n{file},yes,0,1\n")
    with pytest.raises(UserError, match="which is not below its root"):
        manifest.bind(Home(tmp_path / "cache", tmp_path / "manifests"), "signs", corpus="table", root=tmp_path)


def test_two_rows_of_one_interval_without_ids_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file,label,start,end\na.mp4,yes,0,1\na.mp4,no,0,1.0\n")
    with pytest.raises(UserError, match=r"two clips below .* have the id 'a#t=0,1'"):
        manifest.bind(Home(tmp_path / "cache", tmp_path / "manifests"), "signs", corpus="table", root=tmp_path)


def test_intervals_that_overlap_in_two_splits_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    rows = ["w,0,2,,,train", "x,1.5,3,,,test", "y,3,4,,,val", "z,,,0,9,test", "v,,,8,10,val", "u,1,2,,,train"]
    (tmp_path / "table.csv").write_text(
        "file,label,id,start,end,start_frame,end_frame,split\n" + "".join(f"a.mp4,yes,{row}\n" for row in rows)
    )
    told = said(Home(tmp_path / "cache", tmp_path / "manifests"), "manifest", "signs", "--corpus", "table", "--root", tmp_path)
    assert "warning: 2 clips show moments of a clip of another split, so scores flatter (first: train w and test x)" in told
    found = {(a.id, b.id) for a, b in crossing_overlaps([*listed("table", tmp_path).values()])}
    assert found == {("w", "x"), ("z", "v")}
