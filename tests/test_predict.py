"""Predictions: of files through the cache, of a corpus' unlabelled clips as its submission file, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.clips import clips_at
from pipeline.datasets import demo, imigue, lis, mp_data, utd_mhad
from pipeline.errors import UserError
from pipeline.manifest import Home
from tests.commands import run, said
from tests.feature_cache import corpus
from tests.test_main_job import CLASSES, SMALL, write_lis

torch.set_num_threads(1)
TINY = ("--set", "hidden=8", "--set", "epochs=2", "--set", "normalize=clip", "--device", "cpu")


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# --- which files are of one clip ----------------------------------------------------------------------------------------------------


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def media_of(places: list[Path], modalities: list[str], endings: Any) -> dict[str, dict[str, list[str]]]:
    return {
        sample.id: {modality: [f"/{file}" for file in files] for modality, files in sample.media.items()}
        for sample in clips_at(places, modalities, endings)
    }


def test_a_folder_of_a_clip_a_folder_of_clips_and_a_file_of_one_are_the_same_clip(tmp_path: Path) -> None:
    tracks = ["RGB.mkv", "RDM1.mp4", "RDM2.mp4", "RDM3.mp4"]
    root = touched(tmp_path, *(f"test/SAMPLE_{n}/SAMPLE_{n}_{track}" for n in (10, 9) for track in tracks))
    endings, clip = lis.Lis.endings, root / "test/SAMPLE_9"
    own = {"rgb": [f"{clip}/SAMPLE_9_RGB.mkv"], "radar": [f"{clip}/SAMPLE_9_RDM{n}.mp4" for n in (1, 2, 3)]}
    assert media_of([clip], ["rgb", "radar"], endings) == {str(clip): own}
    assert media_of([clip / "SAMPLE_9_RDM2.mp4"], ["rgb", "radar"], endings) == {str(clip): own}
    assert media_of([clip, clip], ["radar"], endings) == {str(clip): {"radar": own["radar"]}}
    assert list(media_of([root / "test"], ["rgb", "radar"], endings)) == [str(clip), str(root / "test/SAMPLE_10")]


def test_a_missing_track_is_listed_so_that_it_is_missed(tmp_path: Path) -> None:
    root = touched(tmp_path, "SAMPLE_1/SAMPLE_1_RGB.mkv")
    (media,) = media_of([root], ["rgb", "radar"], lis.Lis.endings).values()
    assert [Path(file).name for file in media["radar"]] == ["SAMPLE_1_RDM1.mp4", "SAMPLE_1_RDM2.mp4", "SAMPLE_1_RDM3.mp4"]


def test_the_longest_ending_tells_what_a_file_shows(tmp_path: Path) -> None:
    root = touched(tmp_path, "a_rep1.mkv", "a_rep1_RDM1.mp4", "a_rep1_inertial.npy", "notes.txt")
    assert media_of([root], ["inertial"], demo.Demo.endings) == {f"{root}/a_rep1": {"inertial": [f"{root}/a_rep1_inertial.npy"]}}


def test_files_of_one_clip_may_lie_in_a_folder_for_each_modality(tmp_path: Path) -> None:
    root = touched(tmp_path, "Skeleton/a1_s1_t1_skeleton.mat", "Inertial/a1_s1_t1_inertial.mat", "Skeleton/a2_s1_t1_skeleton.mat")
    found = media_of([root], ["skeleton", "inertial"], utd_mhad.UtdMhad.endings)
    assert sorted(found) == [f"{root}/Skeleton/a1_s1_t1", f"{root}/Skeleton/a2_s1_t1"]
    assert found[f"{root}/Skeleton/a1_s1_t1"] == {
        "skeleton": [f"{root}/Skeleton/a1_s1_t1_skeleton.mat"],
        "inertial": [f"{root}/Inertial/a1_s1_t1_inertial.mat"],
    }


def test_clips_called_alike_in_two_folders_stay_two(tmp_path: Path) -> None:
    root = touched(tmp_path, "HELLO/anna_rep1.mkv", "THANKS/anna_rep1.mkv")
    assert list(media_of([root], ["rgb"], demo.Demo.endings)) == [f"{root}/HELLO/anna_rep1", f"{root}/THANKS/anna_rep1"]


def test_a_clip_may_be_a_folder_of_frames_or_a_series(tmp_path: Path) -> None:
    root = touched(tmp_path, "seq/0.npy", "seq/1.npy", "5/clip7.1.jpg", "5/clip7.2.jpg", "5/clip8.1.jpg")
    assert media_of([root / "seq"], ["landmarks"], mp_data.MPData.endings) == {str(root / "seq"): {"landmarks": [str(root / "seq")]}}
    found = media_of([root / "5"], ["rgb"], imigue.Imigue.endings)
    assert list(found.values()) == [{"rgb": [f"{root}/5/clip7.*.jpg"]}, {"rgb": [f"{root}/5/clip8.*.jpg"]}]


def test_where_a_corpus_says_nothing_each_file_is_a_clip_called_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "new/b 2.MP4", "new/b 10.mov", "new/split.csv", "new/.hidden.mp4", "odd.xyz")
    monkeypatch.chdir(tmp_path)
    found = media_of([Path("odd.xyz"), Path("new"), Path("new/../odd.xyz")], ["rgb"], {})
    assert list(found) == ["odd.xyz", "new/b 2.MP4", "new/b 10.mov", "new/../odd.xyz"]
    assert found["new/b 2.MP4"] == {"rgb": [f"{tmp_path}/new/b 2.MP4"]}
    assert found["new/../odd.xyz"] == {"rgb": [f"{tmp_path}/odd.xyz"]}


@pytest.mark.parametrize(
    ("place", "modalities", "endings", "text"),
    [
        ("gone.mp4", ["rgb"], {}, "no file or folder .*gone.mp4; name clips, or folders that hold clips"),
        ("empty", ["rgb"], {}, "no rgb clip below .*empty; expected files that end in "),
        ("empty", ["rgb", "radar"], {}, "the run reads rgb and radar media of every clip, and its corpus does not say how"),
        ("other.mp4", ["rgb", "radar"], lis.Lis.endings, "other.mp4 is or holds no clip of this corpus; expected files called <clip> and"),
    ],
)
def test_what_holds_no_clip_is_one_line(tmp_path: Path, place: str, modalities: list[str], endings: Any, text: str) -> None:
    touched(tmp_path, "empty/readme.md", "other.mp4")
    with pytest.raises(UserError, match=text):
        clips_at([tmp_path / place], modalities, endings)


# --- files through the cache --------------------------------------------------------------------------------------------------------


@dataclass
class Trained:
    """A finished run, and where the corpus and new clips lie."""

    home: Home
    root: Path
    run: str

    def predict(self, *words: object, status: int = 0) -> tuple[dict[str, Any], str]:
        """The document of a prediction, and what it says besides."""
        done = run(self.home, "predict", self.run, *words, "--device", "cpu", "--json")
        assert done.exit_code == status, done.output
        document: dict[str, Any] = json.loads(done.stdout)
        return document, done.stderr

    def refused(self, *words: object) -> str:
        """The one line of a prediction that ends with status 2."""
        done = run(self.home, "predict", self.run, *words, "--device", "cpu")
        assert done.exit_code == 2, done.output
        assert done.stderr.count("\n") == 1
        return done.stderr


def train(home: Home, *words: object) -> str:
    done = run(home, "train", *words, *TINY, "--json")
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout)["run"])


def write_frames(folder: Path, seed: int) -> None:
    """A clip as MP_Data keeps it: ten frames of 1662 landmark values."""
    folder.mkdir(parents=True)
    for number, row in enumerate(np.random.default_rng(seed).random((10, 1662))):
        np.save(folder / f"{number}.npy", row)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on `mp_data` and on `kinematics`, which derives from it, of clips of two classes; three new clips lie in `new`."""
    root = tmp_path_factory.mktemp("predict")
    home = Home(root / "cache", root / "manifests")
    for number in range(20):
        write_frames(root / "MP_Data" / f"class{number % 2}" / f"clip {number}", number)
    for number in range(3):
        write_frames(root / "new" / f"clip {number}", 100 + number)
    said(home, "manifest", "tiny", "--corpus", "mp_data", "--root", root)
    said(home, "extract", "tiny", "mp_data", "kinematics")
    return Trained(home, root, train(home, "tiny", "lstm_late", "--set", "stages=kinematics,mp_data"))


def test_unlabelled_clips_are_labelled_and_a_second_call_extracts_nothing(trained: Trained) -> None:
    document, first = trained.predict(trained.root / "new", "--top", 2)
    assert [row["id"] for row in document["predictions"]] == [f"{trained.root}/new/clip {n}" for n in range(3)]
    for row in document["predictions"]:
        assert {each["label"] for each in row["top"]} == {"class0", "class1"}
        assert sum(each["probability"] for each in row["top"]) == pytest.approx(1)
        assert row["top"][0]["probability"] >= row["top"][1]["probability"]
    assert document["failed"] == []
    assert "mp_data: 3/3 clips" in first
    assert "kinematics: 3/3 clips" in first
    again, second = trained.predict(trained.root / "new", "--top", 2)
    assert again == document
    assert "clips" not in second


def test_a_clip_is_found_by_its_content_under_another_name_and_time(trained: Trained) -> None:
    before, _ = trained.predict(trained.root / "new/clip 1")
    moved = trained.root / "moved/other"
    shutil.copytree(trained.root / "new/clip 1", moved)
    for file in moved.iterdir():
        os.utime(file, (1, 1))
    after, words = trained.predict(moved)
    assert after["predictions"][0]["top"] == before["predictions"][0]["top"]
    assert "clips" not in words


def test_a_clip_of_the_corpus_is_predicted_as_its_published_features_are(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "own.csv"
    said(trained.home, "predict", trained.run, "--split", "test", "--out", out)
    header, *rows = rows_of(out)
    assert header == ["id", "label"]
    assert len(rows) == 2
    places = {str(trained.root / clip): label for clip, label in rows}
    document, _ = trained.predict(*places)
    assert {row["id"]: row["top"][0]["label"] for row in document["predictions"]} == places


def test_what_a_corpus_publishes_is_left_as_it_was(trained: Trained) -> None:
    def tables() -> dict[Path, bytes]:
        every = [
            *trained.home.cache.glob("tiny/*/published.json"),
            *trained.home.manifests.rglob("tiny*"),
            *trained.home.manifests.glob("*"),
        ]
        return {path: path.read_bytes() for path in every if path.is_file()}

    before = tables()
    write_frames(trained.root / "more", 200)
    trained.predict(trained.root / "more")
    assert tables() == before
    assert {path.name for path in before} >= {"published.json", "tiny.csv", "tiny.json"}


def test_a_clip_that_fails_is_listed_with_its_reason_and_the_others_are_labelled(trained: Trained, tmp_path: Path) -> None:
    bad, good = tmp_path / "bad", trained.root / "new/clip 0"
    write_frames(bad, 300)
    (bad / "4.npy").write_bytes(b"no array")
    for _ in range(2):  # the second time it is known from the cache
        document, words = trained.predict(good, bad, status=1)
        assert [row["id"] for row in document["predictions"]] == [str(good)]
        assert [row["id"] for row in document["failed"]] == [str(bad)]
        assert "4.npy is no plain .npy array" in document["failed"][0]["reason"]
        assert f"1 of 2 clips could not be labelled, first {bad}: " in words
    out = tmp_path / "out.csv"
    said(trained.home, "predict", trained.run, bad, trained.root / "new", "--out", out, "--top", 1, status=1)
    header, failed, *rows = rows_of(out)
    assert header == ["id", "label", "probability", "reason"]
    assert failed[:3] == [str(bad), "", ""]
    assert failed[3].startswith("kinematics: stage:mp_data failed: 4.npy")
    assert [row[0] for row in rows] == [f"{trained.root}/new/clip {n}" for n in range(3)]
    assert all(0.5 <= float(row[2]) <= 1 and row[1] in ("class0", "class1") and not row[3] for row in rows)


def test_when_every_clip_fails_each_is_still_listed(trained: Trained, tmp_path: Path) -> None:
    write_frames(tmp_path / "worse", 400)
    (tmp_path / "worse/0.npy").write_bytes(b"")
    document, _ = trained.predict(tmp_path / "worse", status=1)
    assert (document["predictions"], [row["id"] for row in document["failed"]]) == ([], [str(tmp_path / "worse")])


def test_people_read_one_line_a_clip(trained: Trained) -> None:
    lines = run(trained.home, "predict", trained.run, trained.root / "new", "--top", 2).stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"{trained.root}/new/clip {n}  class") and "%  (class" in line for n, line in enumerate(lines))


def test_upkeep_knows_the_features_of_predicted_files(trained: Trained) -> None:
    trained.predict(trained.root / "new")
    assert "all whole" in said(trained.home, "verify", "tiny-predict")
    said(trained.home, "compact", "tiny-predict")
    said(trained.home, "gc", "--yes")
    _, words = trained.predict(trained.root / "new")
    assert "clips" not in words


def test_two_predictions_of_one_corpus_do_not_extract_at_a_time(trained: Trained) -> None:
    from pipeline.predict import _alone

    with _alone(trained.home, "tiny-predict"):
        text = trained.refused(trained.root / "new")
    assert "a prediction is filling the cache of tiny-predict already; wait for it, then run this again" in text


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "name the clips: files or folders, or else --split test"),
        (("{new}", "--split", "test"), "name the clips: files or folders, or else --split test"),
        (("{new}/gone",), "gone; name clips, or folders that hold clips"),
        (("{new}", "--out", "{new}/clip 0/0.npy/out.csv"), "0.npy/out.csv: File exists; name another file with --out"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(trained: Trained, words: Sequence[str], text: str) -> None:
    assert text in trained.refused(*(word.format(new=trained.root / "new") for word in words))


def test_a_run_of_folds_predicts_by_the_mean_of_its_models(trained: Trained) -> None:
    folder = train(trained.home, "tiny", "lstm_late", "--set", "stages=mp_data", "--folds", 2)
    document, _ = Trained(trained.home, trained.root, folder).predict(trained.root / "new")
    assert len(document["predictions"]) == 3


def test_imported_features_cannot_be_made_from_files(trained: Trained) -> None:
    source, random = trained.root / "rows.npz", np.random.default_rng(0)
    x, label = random.normal(size=(20, 4, 3)).astype(np.float32), np.array([f"sign{n % 2}" for n in range(20)])
    np.savez(source, x=x, label=label, sequence=np.array([str(n) for n in range(20)]))
    said(trained.home, "import", "brought", "rows", source, "--format", "npz")
    folder = train(trained.home, "brought", "lstm_late", "--set", "stages=rows")
    text = Trained(trained.home, trained.root, folder).refused(trained.root / "new")
    assert "the run reads brought/rows, which was imported: signcache cannot make it from files" in text


def test_a_stage_that_changed_since_the_training_is_named(trained: Trained, tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    shutil.copytree(trained.home.cache / "tiny", home.cache / "tiny")
    shutil.copytree(trained.home.manifests, home.manifests)
    said(home, "extract", "tiny", "kinematics", "--set", "window=5")
    text = Trained(home, trained.root, trained.run).refused(trained.root / "new")
    assert "the run was trained on other features than tiny/kinematics makes today (window 11 -> 5); train it anew: " in text
    assert "signcache train tiny lstm_late --set stages=kinematics,mp_data" in text
    again = Trained(home, trained.root, trained.run).refused("--split", "test")
    assert "are published now; train it anew: signcache train tiny lstm_late" in again


# --- the LIS submission -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on the LIS layout, all of whose clips are whole."""
    root = tmp_path_factory.mktemp("submission")
    home = Home(root / "cache", root / "manifests")
    write_lis(root / "lis")
    said(home, "extract", "lis", "--root", root / "lis", *SMALL)
    return Trained(home, root, train(home, "lis", "lstm_late"))


def test_the_lis_submission_holds_every_unlabelled_clip_once_by_number_and_class_index(submitted: Trained, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    said(submitted.home, "predict", submitted.run, "--split", "test", "--split", "val", "--out", out)
    header, *rows = rows_of(out)
    assert header == ["id", "Pred"]
    assert [row[0] for row in rows] == ["100", "101", "200", "201"]
    document, _ = submitted.predict("--split", "val", "--split", "test")
    said_of = {row["id"].removeprefix("SAMPLE_"): row["top"][0]["label"].partition("_")[0] for row in document["predictions"]}
    assert dict(rows) == said_of
    assert {label.partition("_")[0] for label in CLASSES} == {"0", "2", "10"}


def test_a_lis_clip_in_a_folder_is_predicted_as_in_the_submission(submitted: Trained) -> None:
    test = submitted.root / "lis/test"
    document, _ = submitted.predict(test)
    expected, _ = submitted.predict("--split", "test")
    assert [row["id"] for row in document["predictions"]] == [f"{test}/SAMPLE_200", f"{test}/SAMPLE_201"]
    assert [row["top"] for row in document["predictions"]] == [row["top"] for row in expected["predictions"]]


def test_a_missing_receiver_is_named(submitted: Trained, tmp_path: Path) -> None:
    shutil.copytree(submitted.root / "lis/test/SAMPLE_200", tmp_path / "SAMPLE_200")
    (tmp_path / "SAMPLE_200/SAMPLE_200_RDM2.mp4").unlink()
    document, _ = submitted.predict(tmp_path, status=1)
    assert document["failed"] == [{"id": f"{tmp_path}/SAMPLE_200", "reason": "radar_cnn: SAMPLE_200_RDM2.mp4 is missing"}]


def test_a_submission_with_a_clip_missing_is_refused_by_name(submitted: Trained, tmp_path: Path) -> None:
    clip = submitted.root / "lis/test/SAMPLE_202"
    shutil.copytree(submitted.root / "lis/test/SAMPLE_200", clip)
    try:
        said(submitted.home, "manifest", "lis")
        text = submitted.refused("--split", "test", "--out", tmp_path / "s.csv")
    finally:
        shutil.rmtree(clip)
        said(submitted.home, "manifest", "lis")
    assert "1 of 3 clips has no features in lis/resnet50 (first: SAMPLE_202: not published yet); run: signcache extract lis" in text
    assert not (tmp_path / "s.csv").exists()


def test_a_clip_without_a_number_has_no_place_in_the_submission() -> None:
    with pytest.raises(UserError, match="clip 'CLIP_7' has no number for the submission; expected a folder SAMPLE_<n>"):
        list(lis.Lis().submission({"CLIP_7": "0_ZERO"}))


def test_an_unfinished_run_and_an_empty_split_are_one_line(tmp_path: Path, trained: Trained) -> None:
    from pipeline import runs
    from pipeline.predict import predict_splits

    home, _ = corpus(tmp_path, {"a/1": ("train", "x"), "b/1": ("val", "x")})
    runs.write_record(tmp_path / "run", {"dataset": "signs", "model": "lstm_late", "command": "signcache train signs lstm_late"})
    with pytest.raises(UserError, match=r"the run .*run is unfinished; start its training again to go on: signcache train signs"):
        predict_splits(home, tmp_path / "run", ["test"])
    with pytest.raises(UserError, match=r"tiny has no clips in split 'unassigned'; see: manifests/tiny\.csv"):
        predict_splits(trained.home, trained.run, ["unassigned"])
