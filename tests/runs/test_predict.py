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

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from tests.commands import run, said
from tests.feature_cache import corpus

torch.set_num_threads(1)
TINY = ("--set", "hidden=8", "--set", "epochs=2", "--set", "normalize=clip", "--device", "cpu")


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@dataclass
class Trained:
    """A finished run, and where the corpus and new clips lie."""

    home: Home
    root: Path
    run: str

    def predict(self, *words: object, status: int = 0) -> tuple[list[dict[str, Any]], str]:
        """What a prediction says of each clip, and what it says besides."""
        done = run(self.home, "predict", self.run, *words, "--device", "cpu", "--json")
        assert done.exit_code == status, done.output
        document: list[dict[str, Any]] = json.loads(done.stdout)
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


def learned(root: Path, new: int) -> Trained:
    """A run on `mp_data` and on `kinematics`, which derives from it, of clips of two classes; so many new clips lie in `new`."""
    home = Home(root / "cache", root / "manifests")
    for number in range(20):
        write_frames(root / "MP_Data" / f"class{number % 2}" / f"clip {number}", number)
    for number in range(new):
        write_frames(root / "new" / f"clip {number}", 100 + number)
    said(home, "manifest", "tiny", "--corpus", "mp_data", "--root", root)
    said(home, "extract", "tiny", "mp_data", "kinematics")
    return Trained(home, root, train(home, "tiny", "lstm_late", "--set", "stages=kinematics,mp_data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return learned(tmp_path_factory.mktemp("predict"), new=3)


def test_unlabelled_clips_are_labelled_and_a_second_call_extracts_nothing(trained: Trained) -> None:
    document, first = trained.predict(trained.root / "new", "--top", 2)
    assert [row["clip"] for row in document] == [f"{trained.root}/new/clip {n}" for n in range(3)]
    for row in document:
        assert row.keys() == {"clip", "label", "probability", "top"}
        assert {label for label, _ in row["top"]} == {"class0", "class1"}
        assert sum(share for _, share in row["top"]) == pytest.approx(1)
        assert row["top"][0] == [row["label"], row["probability"]]
        assert row["probability"] >= row["top"][1][1]
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
    assert after[0]["top"] == before[0]["top"]
    assert "clips" not in words


def test_files_of_one_typed_name_in_two_folders_are_two_clips(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one size and time as well: nothing but their place tells them apart."""
    alone = []
    for number in range(2):
        write_frames(tmp_path / f"folder {number}" / "clip", 500 + number)
        for file in [*(tmp_path / f"folder {number}" / "clip").iterdir(), tmp_path / f"folder {number}" / "clip"]:
            os.utime(file, ns=(10**18, 10**18))
    for number in range(2):
        shutil.copytree(tmp_path / f"folder {number}" / "clip", tmp_path / "apart" / str(number))
        alone.append(trained.predict(tmp_path / "apart" / str(number))[0][0]["top"])
    said(trained.home, "drop", "tiny-predict", "--yes")
    for number in range(2):
        monkeypatch.chdir(tmp_path / f"folder {number}")
        (row,) = trained.predict("clip")[0]
        assert (row["clip"], row["top"]) == ("clip", alone[number])
    assert alone[0] != alone[1]


def test_a_clip_named_twice_is_labelled_twice_and_extracted_once(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "clip", 600)
    monkeypatch.chdir(tmp_path)
    document, words = trained.predict("clip", tmp_path / "clip", "../" + tmp_path.name + "/clip")
    assert [row["clip"] for row in document] == ["clip", str(tmp_path / "clip"), f"../{tmp_path.name}/clip"]
    assert "mp_data: 1/1 clips" in words


def test_a_clip_of_the_corpus_is_predicted_as_its_published_features_are(trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "own.csv"
    said(trained.home, "predict", trained.run, "--split", "test", "--out", out)
    header, *rows = rows_of(out)
    assert header == ["id", "label"]
    assert len(rows) == 2
    places = {str(trained.root / clip): label for clip, label in rows}
    document, _ = trained.predict(*places)
    assert {row["clip"]: row["label"] for row in document} == places


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
        assert [row["clip"] for row in document] == [str(good), str(bad)]
        assert [("reason" in row, row["label"] is None, row["top"] == []) for row in document] == [(False,) * 3, (True,) * 3]
        assert "4.npy is no plain .npy array" in document[1]["reason"]
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
    assert [(row["clip"], row["label"], "reason" in row) for row in document] == [(str(tmp_path / "worse"), None, True)]


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
    from pipeline.runs.predict import _alone

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
    assert len(document) == 3


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


def test_an_unfinished_run_and_an_empty_split_are_one_line(tmp_path: Path, trained: Trained) -> None:
    from pipeline.runs import run_folder
    from pipeline.runs.predict import predict_splits

    home, _ = corpus(tmp_path, {"a/1": ("train", "x"), "b/1": ("val", "x")})
    run_folder.write_record(tmp_path / "run", {"dataset": "signs", "model": "lstm_late", "command": "signcache train signs lstm_late"})
    with pytest.raises(UserError, match=r"the run .*run is unfinished; start its training again to go on: signcache train signs"):
        predict_splits(home, tmp_path / "run", ["test"])
    with pytest.raises(UserError, match=r"tiny has no clips in split 'unassigned'; see: manifests/tiny\.csv"):
        predict_splits(trained.home, trained.run, ["unassigned"])
