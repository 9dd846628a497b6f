"""What every corpus keeps to, collected by itself; then the folder corpus and LIS on small trees."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.testing import DatasetContract
from pipeline.testing.datasets import corpus
from pipeline.types import SPLITS, Sample


class TestDatasets(DatasetContract):
    names = registry.names("dataset")
    make_themselves = frozenset({"demo"})
    numbered = frozenset({"imigue"})


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, errors="surrogateescape")
    return root


def test_an_unknown_corpus_is_answered_with_the_one_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no corpus called 'foldr'; did you mean 'folder'\? Known: .*demo, folder"):
        manifest.bind(Home(tmp_path, tmp_path), "mine", corpus="foldr", root=tmp_path)


def folder(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in corpus("folder").samples(root)}


def test_videos_of_any_suffix_and_case_are_clips_and_other_files_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/2.MOV", "b/3.MkV", "b/4.webm", "b/deep/er/5.AVI")
    touch(tmp_path, "b/readme.txt", "b/6.npy", "b/.7.mp4", ".git/8.mp4", "b/.x/9.mp4")
    found = folder(tmp_path)
    assert sorted(found) == ["a/1", "a/2", "b/3", "b/4", "b/deep/er/5"]
    assert found["b/deep/er/5"] == Sample("b/deep/er/5", {"rgb": ("b/deep/er/5.AVI",)}, "b", "unassigned", None)


def test_names_may_hold_anything_that_a_file_name_can(tmp_path: Path) -> None:
    names = [
        "two words/a clip.mp4",
        "žuta/č.mp4",
        "日本/语.mkv",
        "a/two\nlines.mp4",
        'a/quo"te,comma.mp4',
        "a/dots.in.name.mp4",
        os.fsdecode(b"a/\xe9.mp4"),
    ]
    assert {sample.media["rgb"][0] for sample in folder(touch(tmp_path, *names)).values()} == set(names)
    assert "a/dots.in.name" in folder(tmp_path)


def test_linked_folders_are_listed_too(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "1.mp4")
    touch(tmp_path / "root", "a/2.mp4")
    (tmp_path / "root" / "b").symlink_to(tmp_path / "elsewhere")
    assert sorted(folder(tmp_path / "root")) == ["a/2", "b/1"]


def test_a_clip_in_no_class_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"1\.mp4 lies in no class folder; expected: <class>/<clip>\.mp4"):
        folder(touch(tmp_path, "a/2.mp4", "1.mp4"))


def test_two_files_of_one_id_are_one_error_that_names_both(tmp_path: Path) -> None:
    touch(tmp_path / "data", "a/1.mp4", "a/1.MOV")
    with pytest.raises(UserError, match=r"two clips below .* have the id 'a/1': a/1\.MOV and a/1\.mp4; rename one"):
        manifest.bind(Home(tmp_path, tmp_path), "mine", corpus="folder", root=tmp_path / "data")


def split_table(root: Path, text: str) -> dict[str, Sample]:
    touch(root, "a/1.mp4", "a/2.mp4", "b/3, c.mp4")
    (root / "split.csv").write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return folder(root)


def test_a_split_table_gives_splits_and_signers(tmp_path: Path) -> None:
    found = split_table(tmp_path, '\ufefffile,split,signer\r\na/1.mp4,train,Ana\r\na/2.mp4,test,\r\n"b/3, c.mp4",,Ivo\r\n')
    assert {clip: (sample.split, sample.signer) for clip, sample in found.items()} == {
        "a/1": ("train", "Ana"),
        "a/2": ("test", None),
        "b/3, c": ("unassigned", "Ivo"),
    }


def test_a_split_table_may_name_a_part_of_the_clips_and_a_part_of_the_columns(tmp_path: Path) -> None:
    found = split_table(tmp_path, "file,split\na/2.mp4,val\n")
    assert [sample.split for sample in found.values()] == ["unassigned", "val", "unassigned"]
    assert [sample.signer for sample in split_table(tmp_path, "signer,file\nAna,a/1.mp4\n").values()] == ["Ana", None, None]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,split\na/1.mp4,dev\n", r"split\.csv: split 'dev' is none of train, val, test"),
        ("file,split\na/9.mp4,val\na/8.mp4,val\na/1.mp4,val\n", r"split\.csv names 2 files that are not there, first 'a/9\.mp4'"),
        ("name,split\na/1.mp4,val\n", r"split\.csv has no column 'file'; expected the columns file, split, signer"),
        ("file;split\na/1.mp4;val\n", "has no column 'file'"),
        ("", "has no column 'file'"),
        ("file,split\na/1.mp4,val\na/1.mp4,train\n", r"split\.csv names 'a/1\.mp4' twice, with different splits or signers"),
        ("file,split\na/\udce9.mp4,val\n", r"names 1 files that are not there, first 'a/\\udce9\.mp4'"),
    ],
)
def test_a_wrong_split_table_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=reason):
        split_table(tmp_path, text)


def lis_clip(place: str, number: int, *parts: str) -> list[str]:
    wanted = parts or ("RGB.mkv", "RDM1.mp4", "RDM2.mp4", "RDM3.mp4")
    return [f"{place}/SAMPLE_{number}/SAMPLE_{number}_{part}" for part in wanted]


@pytest.fixture
def lis(tmp_path: Path) -> Path:
    """LIS in small: class folders whose order as text is not their order."""
    root = tmp_path / "LIS"
    for index, (prefix, name) in enumerate([(0, "CASA"), (1, "SI"), (2, "NO"), (10, "MADRE"), (100, "SOLE"), (101, "PANE")]):
        for copy in range(12):
            touch(root, *lis_clip(f"train/{prefix}_{name}", 100 * index + copy))
    touch(root, *lis_clip("val", 7001), *lis_clip("val", 7002), *lis_clip("test", 8001))
    return root


def test_lis_clips_have_their_label_split_and_four_files(lis: Path) -> None:
    found = {sample.id: sample for sample in corpus("lis").samples(lis)}
    assert len(found) == 6 * 12 + 3
    where = "train/101_PANE/SAMPLE_503/SAMPLE_503"
    radar = (f"{where}_RDM1.mp4", f"{where}_RDM2.mp4", f"{where}_RDM3.mp4")
    assert found["101_PANE/SAMPLE_503"] == Sample(
        "101_PANE/SAMPLE_503", {"rgb": (f"{where}_RGB.mkv",), "radar": radar}, "101_PANE", "train", None
    )
    assert (found["SAMPLE_7001"].label, found["SAMPLE_7001"].split) == (None, "val")
    assert (found["SAMPLE_8001"].label, found["SAMPLE_8001"].split) == (None, "test")
    assert found["SAMPLE_8001"].media["rgb"] == ("test/SAMPLE_8001/SAMPLE_8001_RGB.mkv",)


def test_a_lis_class_index_is_the_number_before_the_name(lis: Path, tmp_path: Path) -> None:
    table = manifest.bind(Home(tmp_path, tmp_path), "lis", root=lis)
    assert {label: table.class_index[label] for label in table.classes if "_" in label} == {
        "0_CASA": 0,
        "1_SI": 1,
        "2_NO": 2,
        "10_MADRE": 10,
        "100_SOLE": 100,
        "101_PANE": 101,
    }
    assert len(table.classes) == 102


def test_a_labelled_validation_split_is_cut_out_of_lis_train(lis: Path, tmp_path: Path) -> None:
    table = manifest.bind(Home(tmp_path, tmp_path), "lis", root=lis)
    parts = {split: [sample for sample in table.samples if sample.split == split] for split in SPLITS}
    cut = [sample for sample in parts["val"] if sample.label]
    assert table.binding.split == "official"
    assert [sample.id for sample in parts["test"]] == ["SAMPLE_8001"]
    assert len(parts["val"]) - len(cut) == 2
    assert 5 <= len(cut) <= 10
    assert {sample.label for sample in parts["train"]} == {sample.label for sample in table.samples if sample.label}


def test_a_missing_receiver_is_listed_and_reported(lis: Path, tmp_path: Path) -> None:
    missing = "train/1_SI/SAMPLE_105/SAMPLE_105_RDM2.mp4"
    (lis / missing).unlink()
    table = manifest.bind(Home(tmp_path, tmp_path), "lis", root=lis)
    (sample,) = (sample for sample in table.samples if sample.id == "1_SI/SAMPLE_105")
    assert missing in sample.media["radar"]
    assert manifest.missing_files(table) == [missing]


def test_two_lis_classes_of_one_number_are_an_error(lis: Path, tmp_path: Path) -> None:
    touch(lis, *lis_clip("train/10_ALTRO", 9000))
    with pytest.raises(UserError, match="classes '10_ALTRO' and '10_MADRE' have the same numeric prefix"):
        manifest.bind(Home(tmp_path, tmp_path), "lis", root=lis)


def test_a_lis_class_may_come_under_a_number_that_stood_empty(lis: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    before = manifest.bind(home, "lis", root=lis).classes
    assert before[3:6] == ("3", "4", "5")
    touch(lis, *lis_clip("train/4_FIORE", 9000))
    assert manifest.bind(home, "lis").classes == (*before[:4], "4_FIORE", *before[5:])
    assert manifest.read(home, "lis") == manifest.bind(home, "lis")


def test_a_lis_class_folder_may_be_renamed(lis: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    before = manifest.bind(home, "lis", root=lis)
    (lis / "train/2_NO").rename(lis / "train/2_NON")
    after = manifest.bind(home, "lis")
    assert after.classes == (*before.classes[:2], "2_NON", *before.classes[3:])
    assert len(after.away) == 12
    (lis / "train/2_NON").rename(lis / "train/2_NO")
    assert manifest.bind(home, "lis").classes == before.classes
    assert {s.id: s.split for s in manifest.read(home, "lis").samples} == {s.id: s.split for s in before.samples}


def test_a_lis_class_that_is_away_keeps_its_place_and_its_name(lis: Path, tmp_path: Path) -> None:
    home = Home(tmp_path, tmp_path)
    before = manifest.bind(home, "lis", root=lis)
    (lis / "train/2_NO").rename(tmp_path / "2_NO")
    (lis / "train/101_PANE").rename(tmp_path / "101_PANE")
    assert manifest.bind(home, "lis").classes == before.classes


def test_a_lis_class_without_a_number_is_an_error(lis: Path) -> None:
    touch(lis, *lis_clip("train/CASA", 9000))
    with pytest.raises(UserError, match=r"class folder 'CASA' has no numeric prefix; expected <index>_<NAME>, as in 101_SI"):
        list(corpus("lis").samples(lis))


def test_files_beside_the_lis_folders_are_ignored(lis: Path) -> None:
    before = list(corpus("lis").samples(lis))
    touch(lis, "train/readme.txt", "train/.cache/x", "train/0_CASA/notes.txt", "val/list.csv", "sample_submission.csv")
    assert list(corpus("lis").samples(lis)) == before
