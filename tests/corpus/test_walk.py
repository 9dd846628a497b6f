"""Listing files of a disk: links are followed but never in a circle, and what cannot be listed is said, not left out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus import manifest, media
from pipeline.corpus.manifest import Home
from pipeline.corpus.media import natural, walk
from pipeline.errors import UserError
from pipeline.formats import clips_of
from pipeline.runs._clips import clips_at
from tests.test_datasets import touch


def circle(root: Path, *places: str) -> Path:
    """Links at these places that lead back to the root."""
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(root)
    return root


def found(root: Path, depth: int = 9) -> list[str]:
    return [f"{below}/{name}".lstrip("/") for below, names in walk(root, depth=depth) for name in names]


def test_a_folder_is_not_listed_again_within_itself(tmp_path: Path) -> None:
    root = circle(touch(tmp_path / "data", "1", "a/2", "a/b/3"), "loop", "a/loop", "a/b/loop")
    (root / "a/b/up").symlink_to("..")
    assert found(root) == ["1", "a/2", "a/b/3"]


def test_a_folder_that_is_linked_twice_is_listed_at_both_places(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1", "data/own/2")
    for name in ("first", "second"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "data") == ["first/1", "own/2", "second/1"]


def test_files_lie_as_deep_as_asked_and_hidden_ones_nowhere(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "1", "a/2", "a/b/3", ".x/4", "a/.5", "lost+found/6")
    assert found(root, depth=0) == ["1"]
    assert found(root, depth=1) == ["1", "a/2"]
    assert found(root) == ["1", "a/2", "a/b/3"]
    assert found(tmp_path / "gone") == found(root / "1") == []


CORPORA = {
    "folder": ["a/1.mp4", "b/2.mp4"],
    "include24": ["dataset/Baby/1.mp4"],
    "utd_mhad": ["Inertial/a1_s1_t1_inertial.mat", "RGB/a2_s1_t1_color.avi"],
    "imigue": ["training/1/x.1.jpg"],
    "mp_data": ["MP_Data/a/0/0.npy", "MP_Data/b/0/0.npy"],
    "lis": ["train/0_A/SAMPLE_1/SAMPLE_1_RGB.mkv", "test/SAMPLE_2/SAMPLE_2_RGB.mkv"],
    "vsl": ["video/a/N1_a_1.npy", "video/b/N6_b_1.npy"],
    "include50": ["include50_train_keypoints/bank_MVI_1.json", "include50_test_keypoints/bank_MVI_2.json"],
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_circle_of_links_lists_no_clip_twice(name: str, tmp_path: Path) -> None:
    ids = []
    for number in range(2):
        root = touch(tmp_path / f"{number}" / "data", *CORPORA[name])
        if number:
            circle(root, "loop", *{str(Path(file).parent / "loop") for file in CORPORA[name]})
        ids.append(manifest.bind(Home(manifests=tmp_path / f"{number}"), "name", corpus=name, root=root).ids)
    assert ids[0] == [clip for clip in ids[1] if not clip.endswith("loop")]


def test_a_circle_of_links_in_the_official_lists_of_include_reads_them_once(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "Home/1. Bed/MVI_1.MOV")
    (root / "include_train.csv").write_text("Category,Word,Video,FilePath\nHome,Bed,x,Home/1. Bed/MVI_1.MOV\n")
    table = manifest.bind(Home(manifests=tmp_path), "name", corpus="include", root=circle(root, "loop", "Home/loop"))
    assert table.ids == ["Home/1. Bed/MVI_1"]


def test_a_circle_of_links_is_predicted_and_imported_once(tmp_path: Path) -> None:
    root = circle(touch(tmp_path / "data", "a/1.mp4", "a/10.mp4", "a/2.mp4"), "a/loop")
    assert [Path(sample.id).name for sample in clips_at([root], ["rgb"], {})] == ["1.mp4", "2.mp4", "10.mp4"]
    (tmp_path / "rows/a").mkdir(parents=True)
    np.save(tmp_path / "rows/a/1.npy", np.ones((3, 2)))
    assert [clip.ids for clip in clips_of(circle(tmp_path / "rows", "loop", "a/loop"), "npy")] == [("a/1",)]


def test_a_linked_class_folder_is_imported_too(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "elsewhere/1.npy", np.ones((3, 2)))
    (tmp_path / "rows/a").symlink_to(tmp_path / "elsewhere")
    assert [clip.ids for clip in clips_of(tmp_path / "rows", "npy")] == [("a/1",)]


@pytest.mark.parametrize("name", CORPORA)
def test_a_folder_that_the_disk_refuses_is_named_and_its_clips_are_not_left_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, home = touch(tmp_path / "data", *CORPORA[name]), Home(manifests=tmp_path / "home")
    before = manifest.bind(home, "name", corpus=name, root=root)
    refused, scandir, listdir = str((root / CORPORA[name][0]).parent), os.scandir, os.listdir

    def failing(act: object, place: object = ".") -> object:
        if os.fspath(place) == refused:  # type: ignore[call-overload]
            raise OSError(5, "Input/output error", refused)
        return act(place)  # type: ignore[operator]

    monkeypatch.setattr(os, "scandir", lambda place=".": failing(scandir, place))
    monkeypatch.setattr(os, "listdir", lambda place=".": failing(listdir, place))
    if name == "lis":
        assert manifest.bind(home, "name") == before, "a clip's own folder is not listed"
        return
    with pytest.raises(
        UserError, match=r"^cannot list \S+: Input/output error; mend that and run the same line again, lest its clips be left out$"
    ):
        manifest.bind(home, "name")
    monkeypatch.undo()
    assert manifest.read(home, "name") == before


@given(st.lists(st.text("a1 0b", max_size=4), max_size=8))
def test_numbers_sort_by_their_value_and_in_one_order(names: list[str]) -> None:
    other = names[::-1]
    assert sorted(names, key=natural) == sorted(other, key=natural)
    assert sorted(["a10", "a2", "a", "a01", "a1"], key=natural) == ["a", "a01", "a1", "a2", "a10"]


def test_frames_of_equal_numbers_have_one_order(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "01.png", "001.png", "2.png")
    expected = ["001.png", "01.png", "1.png", "2.png"]
    assert [path.name for path in media.files_of(tmp_path)] == expected
