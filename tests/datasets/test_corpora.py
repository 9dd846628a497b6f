"""The other corpora on small trees in their exact layout, a trap of each layout a test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipeline import registry
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.datasets.include24 import WORDS
from pipeline.decoding.decode import open_clip
from pipeline.types import Array, Sample
from tests.test_datasets import touch


def listed(corpus: str, root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in registry.create("dataset", corpus).samples(root)}


def bound(corpus: str, root: Path) -> Manifest:
    return manifest.bind(Home(root / "home/cache", root / "home/manifests"), corpus, root=root)


def rows(table: Manifest, clip: str, stage: str) -> Array:
    """The rows of a CPU stage, with the corpus' settings."""
    extractor = configure(Home(table.binding.root / "home/cache"), table, stage).extractor
    (sample,) = (sample for sample in table.samples if sample.id == clip)
    opened = open_clip(table.paths(sample, extractor.source), decord=True, lengths={})
    return np.stack(list(extractor.prepare(opened.frames(extractor.select(opened.length, 0.0)))))


def save(path: Path, values: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


# mp_data


def mp_data(root: Path) -> Path:
    """Two labels of sequences 0, 2 and 10, three frames each."""
    for label in ("hello", "see you later"):
        for sequence in (0, 2, 10):
            for frame in range(3):
                save(root / label / str(sequence) / f"{frame}.npy", np.full(1662, sequence + frame / 4))
    return root


@pytest.mark.parametrize("folder", ["MP_Data", "."])
def test_a_sequence_of_mp_data_is_a_clip(folder: str, tmp_path: Path) -> None:
    mp_data(tmp_path / folder)
    place = "" if folder == "." else "MP_Data/"
    found = listed("mp_data", tmp_path)
    assert sorted(found) == sorted(f"{place}{label}/{n}" for label in ("hello", "see you later") for n in (0, 2, 10))
    clip = f"{place}see you later/10"
    assert found[clip] == Sample(clip, {"landmarks": (clip,)}, "see you later", "unassigned", None)


def test_frames_of_mp_data_become_rows_of_landmarks_in_single_precision(tmp_path: Path) -> None:
    found = rows(bound("mp_data", mp_data(tmp_path)), "hello/2", "mp_data")
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [2, 2.25, 2.5]
    assert found.shape == (3, 1662)


def test_kinematics_of_mp_data_read_its_rows(tmp_path: Path) -> None:
    table = bound("mp_data", mp_data(tmp_path))
    stage = configure(Home(tmp_path / "cache"), table, "kinematics")
    assert stage.upstream is not None
    assert stage.upstream.name == "mp_data"


def test_an_empty_sequence_folder_is_no_clip(tmp_path: Path) -> None:
    (mp_data(tmp_path) / "hello" / "3").mkdir()
    assert "hello/3" not in listed("mp_data", tmp_path)


# vsl


def vsl(root: Path) -> Path:
    """Folders that are themselves named `.npy`, two clips without a sensor, one without a video."""
    video, sensor = np.zeros((24, 8, 8, 3), np.uint8), np.ones((50, 12))
    for person in (1, 5, 6, 9):
        for label in ("2.npy", "10.npy"):
            word = label.removesuffix(".npy")
            save(root / "Frames" / label / f"N{person}_{word}_1.npy", video)
            if person != 5:
                save(root / "Signals" / word / f"N{person}_{word}_1.npy", sensor)
    save(root / "Signals" / "2" / "N1_2_2.npy", sensor)
    (root / "Frames" / "2.npy" / "N2_2_1.npy").mkdir()
    return root


def test_roots_of_vsl_are_told_by_what_they_hold(tmp_path: Path) -> None:
    found = listed("vsl", vsl(tmp_path))
    assert found["Frames/2.npy/N6_2_1"] == Sample(
        "Frames/2.npy/N6_2_1",
        {"rgb": ("Frames/2.npy/N6_2_1.npy",), "inertial": ("Signals/2/N6_2_1.npy",)},
        "2",
        "test",
        "N6",
    )
    assert set(found["Frames/2.npy/N5_2_1"].media) == {"rgb"}
    assert set(found["Signals/2/N1_2_2"].media) == {"inertial"}
    assert len(found) == 9


def test_persons_6_to_9_of_vsl_test_and_classes_are_numbers(tmp_path: Path) -> None:
    table = bound("vsl", vsl(tmp_path))
    assert {sample.signer for sample in table.samples if sample.split == "test"} == {"N6", "N9"}
    assert table.classes == ("2", "10")
    assert rows(table, "Signals/2/N1_2_2", "inertial").shape == (50, 12)


def test_a_video_of_vsl_is_24_frames(tmp_path: Path) -> None:
    table = bound("vsl", vsl(tmp_path))
    clip = open_clip([tmp_path / "Frames/2.npy/N1_2_1.npy"], decord=True, lengths={})
    i3d = configure(Home(tmp_path / "cache"), table, "i3d").extractor
    assert i3d.select(clip.length, 0.0).tolist() == list(range(24))
    assert len(i3d.rows(24)) == 1


# include24


def include24(root: Path, *names: str) -> Path:
    return touch(root, *(f"dataset/{name}" for name in names))


def test_file_names_of_include24_may_hold_spaces_and_dashes(tmp_path: Path) -> None:
    names = ["Baby/MVI_1 - Copy.MOV", "cold/MVI-2.mp4", "Weak/a b.avi", "Son/MVI_3.MP4"]
    found = listed("include24", include24(tmp_path, *names))
    assert {sample.media["rgb"][0] for sample in found.values()} == {f"dataset/{name}" for name in names}
    assert found["dataset/Baby/MVI_1 - Copy"].label == "Baby"


def test_the_24_words_of_include24_are_all_classes_in_one_order(tmp_path: Path) -> None:
    include24(tmp_path, *(f"{word}/{number}.mp4" for word in WORDS for number in range(10)))
    table = bound("include24", tmp_path)
    assert table.classes == WORDS
    assert list(WORDS) == sorted(WORDS, key=str.lower)
    assert Counter(sample.split for sample in table.samples) == {"train": 192, "val": 24, "test": 24}


# include


def include(root: Path) -> Path:
    files = ("Animals/1. Dog/MVI_1.MP4", "Animals/2. Cat/MVI_1.MOV", "Days_and_Time/Second (Number)/Extra/MVI_2.mov")
    touch(root, *files, "Animals/1. Dog/MVI_3.MOV")
    header = "Category,Word,Video,FilePath"
    train = [header, "Animals,1. Dog,MVI_1.MOV,Animals/1. Dog/MVI_1.MOV", "Animals,2. Cat,MVI_1.MOV,Animals/2. Cat/MVI_1.MOV"]
    test = [header, "Days_and_Time,Second (Number),MVI_2.MOV,Days_and_Time/Second (Number)/MVI_2.MOV"]
    (root / "include_train.csv").write_text("\n".join(train))
    (root / "include_test.csv").write_text("\n".join(test))
    (root / "include50_test.csv").write_text("\n".join(test[:1]))
    return root


def test_clips_of_include_are_those_of_the_lists_by_their_path(tmp_path: Path) -> None:
    found = listed("include", include(tmp_path))
    assert {name: (sample.media["rgb"][0], sample.label, sample.split) for name, sample in found.items()} == {
        "Animals/1. Dog/MVI_1": ("Animals/1. Dog/MVI_1.MP4", "Dog", "train"),
        "Animals/2. Cat/MVI_1": ("Animals/2. Cat/MVI_1.MOV", "Cat", "train"),
        "Days_and_Time/Second (Number)/Extra/MVI_2": ("Days_and_Time/Second (Number)/Extra/MVI_2.mov", "Second (Number)", "test"),
    }
