"""INCLUDE-50 in both of its forms, with the traps of its files, and the split that keeps recordings together."""

from __future__ import annotations

import itertools
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.cli import main
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.datasets.include50 import SIBLINGS, WORDS, recordings, word
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample
from tests.shared_data import shared
from tests.stages.test_keypoints import points, write

KEYPOINTS = ("include50_train_keypoints", "include50_val_keypoints", "include50_test_keypoints")


def include50() -> Dataset:
    found: Dataset = registry.create("dataset", "include50")
    return found


def listed(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in include50().samples(root)}


def bound(home: Path, root: Path, **asked: object) -> Manifest:
    return manifest.bind(Home(home / "cache", home / "manifests"), "include50", root=root, **asked)


@pytest.fixture
def keypoints(tmp_path: Path) -> Path:
    """A small tree of keypoint files."""
    root = tmp_path / "data"
    for split, names in zip(
        KEYPOINTS,
        [("bank_MVI_3336", "bank_MVI_3337", "cow_MVI_0001"), ("tshirt_MVI_5000",), ("bank_MVI_3340", "ahat_MVI_7")],
        strict=True,
    ):
        for name in names:
            write(root / split / f"{name}.json", points(2))
    return root


def test_keypoint_clips_are_called_by_their_file_and_split_by_their_folder(keypoints: Path) -> None:
    found = listed(keypoints)
    assert {name: (sample.label, sample.split) for name, sample in found.items()} == {
        "bank_MVI_3336": ("bank", "train"),
        "bank_MVI_3337": ("bank", "train"),
        "cow_MVI_0001": ("cow", "train"),
        "tshirt_MVI_5000": ("tshirt", "val"),
        "bank_MVI_3340": ("bank", "test"),
        "ahat_MVI_7": ("ahat", "test"),
    }
    assert found["cow_MVI_0001"].media == {"keypoints": ("include50_train_keypoints/cow_MVI_0001.json",)}
    assert {sample.signer for sample in found.values()} == {None}


def test_a_label_that_is_none_of_the_fifty_is_kept_and_comes_last(keypoints: Path, tmp_path: Path) -> None:
    table = bound(tmp_path, keypoints)
    assert table.classes == (*WORDS, "ahat")
    assert table.binding.split == "official"
    assert (len(WORDS), list(WORDS)) == (50, sorted(WORDS))
    assert len({sample.id for sample in table.samples}) == 6


@pytest.mark.parametrize("model", ["bilstm_attention", "transformer", "xgb_meta"])
def test_tuned_models_read_kinematics_select_nothing_and_learn_from_every_given_clip(model: str) -> None:
    training = include50().training
    recipe = registry.create("model", model, training[model]).adapted(training)
    assert (recipe.stages, recipe.patience) == (("kinematics",), 0)
    for part in getattr(recipe, "parts", (recipe,)):
        assert (part.best_by, part.learn) == ("last", "all")


def test_a_file_of_another_name_is_labelled_by_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / KEYPOINTS[0] / "clip7.json", points(1), label="cow")
    (tmp_path / KEYPOINTS[0] / "clip8.json").write_text("{")
    assert {name: sample.label for name, sample in listed(tmp_path).items()} == {"clip7": "cow", "clip8": None}


VIDEOS = ("Animals/4. Bird/MVI_2987.MP4", "Clothes/40. T-Shirt/MVI_5000.MOV", "Places/23. Bank/Extra/MVI_3336.mov")
ROWS = (
    "Animals,4. Bird,MVI_2987.MOV,Animals/4. Bird/MVI_2987.MOV",
    "Clothes,40. T-Shirt,MVI_5000.MOV,Clothes/40. T-Shirt/MVI_5000.MOV",
    "Places,23. Bank,MVI_3336.MOV,Places/23. Bank/MVI_3336.MOV",
    "Days_and_Time,Second (Number),MVI_1.MOV,Days_and_Time/Second (Number)/MVI_1.MOV",
)


def videos(root: Path) -> Path:
    for name in VIDEOS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    header = "Category,Word,Video,FilePath"
    (root / "include50_train.csv").write_text("\n".join([header, *ROWS[:2]]))
    (root / "include50_test.csv").write_text("\n".join([header, *ROWS[2:]]))
    (root / "include_train.csv").write_text(f"{header}\nAnimals,1. Dog,MVI_9.MOV,Animals/1. Dog/MVI_9.MOV\n")
    return root


def test_videos_are_found_whatever_their_suffix_and_folder(tmp_path: Path) -> None:
    found = listed(videos(tmp_path))
    assert {name: (sample.media["rgb"][0], sample.label, sample.split) for name, sample in found.items()} == {
        "Animals/4. Bird/MVI_2987": (VIDEOS[0], "bird", "train"),
        "Clothes/40. T-Shirt/MVI_5000": (VIDEOS[1], "tshirt", "train"),
        "Places/23. Bank/Extra/MVI_3336": (VIDEOS[2], "bank", "test"),
        "Days_and_Time/Second (Number)/MVI_1": ("Days_and_Time/Second (Number)/MVI_1.MOV", "secondnumber", "test"),
    }


def test_a_listed_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    table = bound(tmp_path, videos(tmp_path / "data"))
    assert manifest.missing_files(table) == ["Days_and_Time/Second (Number)/MVI_1.MOV"]


def test_video_and_keypoints_of_one_clip_are_one_clip(keypoints: Path) -> None:
    found = listed(videos(keypoints))
    assert found["tshirt_MVI_5000"].media == {
        "keypoints": ("include50_val_keypoints/tshirt_MVI_5000.json",),
        "rgb": ("Clothes/40. T-Shirt/MVI_5000.MOV",),
    }
    assert found["bank_MVI_3336"].split == "train", "the two lists disagree; the keypoints' counts"
    assert "Animals/4. Bird/MVI_2987" in found


def test_a_list_without_its_columns_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "include50_train.csv").write_text("a,b\n")
    with pytest.raises(UserError, match=r"include50_train\.csv has no column 'Category'; expected the columns Category, Word"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("text", "name"), [("9. T-Shirt", "tshirt"), ("you (plural)", "youplural"), ("Store or Shop", "storeorshop"), (" 2. I", "i")]
)
def test_words_are_spelt_as_in_the_keypoint_files(text: str, name: str) -> None:
    assert word(text) == name
    assert name in WORDS


def clip(label: str, number: int) -> Sample:
    return Sample(f"{label}_MVI_{number:04}", {}, label, "train", None)


def test_clips_of_one_word_that_follow_each_other_are_one_recording() -> None:
    samples = [clip("cow", 10), clip("cow", 16), clip("cow", 22), clip("cow", 29), clip("hat", 11), Sample("odd", {}, "cow", "train", None)]
    groups = recordings(samples)
    assert groups == {
        "cow_MVI_0010": "cow/10",
        "cow_MVI_0016": "cow/10",
        "cow_MVI_0022": "cow/10",
        "cow_MVI_0029": "cow/29",
        "hat_MVI_0011": "hat/11",
        "odd": "odd",
    }


@given(st.sets(st.tuples(st.sampled_from("abc"), st.integers(0, 120)), min_size=1, max_size=60))
def test_two_clips_are_together_where_a_chain_of_small_steps_joins_them(pairs: set[tuple[str, int]]) -> None:
    groups = recordings([clip(label, number) for label, number in pairs])
    by_group: dict[str, list[tuple[str, int]]] = {}
    for label, number in sorted(pairs):
        by_group.setdefault(groups[clip(label, number).id], []).append((label, number))
    for members in by_group.values():
        assert len({label for label, _ in members}) == 1
        assert (np.diff([number for _, number in members]) <= SIBLINGS).all()
    ends = {label: sorted((members[0][1], members[-1][1]) for members in by_group.values() if members[0][0] == label) for label in "abc"}
    for spans in ends.values():
        assert all(after[0] - before[1] > SIBLINGS for before, after in itertools.pairwise(spans))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file of the train and validation sides, by name only: listing reads none."""
    root = tmp_path_factory.mktemp("include50")
    with zipfile.ZipFile(shared("include50_keypoints/include50_keypoints_train_val.zip")) as archive:
        for name in archive.namelist():
            if name.endswith(".json"):
                (root / name).parent.mkdir(exist_ok=True)
                (root / name).touch()
    return root


def test_the_real_corpus_is_listed_whole(real: Path, tmp_path: Path) -> None:
    table = bound(tmp_path, real)
    assert Counter(sample.split for sample in table.samples) == {"train": 662, "val": 67}
    assert table.classes == WORDS


def test_no_recording_of_the_real_corpus_is_in_two_splits(real: Path, tmp_path: Path) -> None:
    table = bound(tmp_path, real, split="recording")
    splits: dict[str, set[str]] = {}
    for sample in table.samples:
        splits.setdefault(table.groups[sample.id], set()).add(sample.split)
    assert len(splits) == 296
    assert all(len(found) == 1 for found in splits.values())
    share = Counter(sample.split for sample in table.samples)
    assert {split: count / 729 for split, count in share.items()} == pytest.approx({"train": 0.8, "val": 0.1, "test": 0.1}, abs=0.03)
    assert {sample.label for sample in table.samples if sample.split == "train"} == set(WORDS)


def test_a_new_clip_between_two_recordings_moves_none_of_the_known(real: Path, tmp_path: Path) -> None:
    before = {sample.id: sample.split for sample in bound(tmp_path, real, split="recording").samples}
    (real / KEYPOINTS[0] / "bank_MVI_3340.json").touch()
    after = {sample.id: sample.split for sample in bound(tmp_path, real).samples}
    (real / KEYPOINTS[0] / "bank_MVI_3340.json").unlink()
    assert after.items() > before.items()


def test_a_word_that_is_no_split_lists_what_the_corpus_declares(keypoints: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--split recordings: no such split; use official, signer, recording or stratified"):
        bound(tmp_path, keypoints, split="recordings")


def test_siblings_that_the_official_split_parts_are_named(keypoints: Path, tmp_path: Path) -> None:
    folders = ["--cache", str(tmp_path / "cache"), "--manifests", str(tmp_path / "manifests")]
    told = CliRunner().invoke(main, [*folders, "manifest", "include50", "--root", str(keypoints)])
    assert told.exit_code == 0
    assert "warning: 2 clips have labels that no clip of train has; they count as wrong (first: ahat_MVI_7: ahat)" in told.output
    assert (
        "note: clips of 1 recordings are in more than one split (first: bank/3336: test and train); "
        "--split recording keeps them together, under another name"
    ) in told.output
    again = CliRunner().invoke(
        main, [*folders, "manifest", "hard", "--corpus", "include50", "--root", str(keypoints), "--split", "recording"]
    )
    assert "note: clips of" not in again.output
    assert "(recording)" in again.output
