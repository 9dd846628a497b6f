"""The LIS submission: every unlabelled clip once, by number and class index."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from pipeline.corpus.manifest import Home
from pipeline.datasets import lis
from pipeline.errors import UserError
from tests.commands import said
from tests.runs.test_predict import Trained, rows_of, train
from tests.test_main_job import CLASSES, SMALL, write_lis

torch.set_num_threads(1)


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
    said_of = {row["clip"].removeprefix("SAMPLE_"): row["label"].partition("_")[0] for row in document}
    assert dict(rows) == said_of
    assert {label.partition("_")[0] for label in CLASSES} == {"0", "2", "10"}


def test_a_lis_clip_in_a_folder_is_predicted_as_in_the_submission(submitted: Trained) -> None:
    test = submitted.root / "lis/test"
    document, _ = submitted.predict(test)
    expected, _ = submitted.predict("--split", "test")
    assert [row["clip"] for row in document] == [f"{test}/SAMPLE_200", f"{test}/SAMPLE_201"]
    assert [row["top"] for row in document] == [row["top"] for row in expected]


def test_a_missing_receiver_is_named(submitted: Trained, tmp_path: Path) -> None:
    shutil.copytree(submitted.root / "lis/test/SAMPLE_200", tmp_path / "SAMPLE_200")
    (tmp_path / "SAMPLE_200/SAMPLE_200_RDM2.mp4").unlink()
    document, _ = submitted.predict(tmp_path, status=1)
    assert [(row["clip"], row["reason"]) for row in document] == [(f"{tmp_path}/SAMPLE_200", "radar_cnn: SAMPLE_200_RDM2.mp4 is missing")]


def test_a_submission_with_a_clip_missing_is_refused_by_name(submitted: Trained, tmp_path: Path) -> None:
    clip = submitted.root / "lis/test/SAMPLE_202"
    shutil.copytree(submitted.root / "lis/test/SAMPLE_200", clip)
    try:
        said(submitted.home, "manifest", "lis")
        text = submitted.refused("--split", "test", "--out", tmp_path / "s.csv")
    finally:
        shutil.rmtree(clip)
        said(submitted.home, "manifest", "lis")
    assert "1 of 3 clips has no features in lis/resnet50 (first: SAMPLE_202: new); run: signcache extract lis" in text
    assert not (tmp_path / "s.csv").exists()


def test_a_clip_without_a_number_has_no_place_in_the_submission() -> None:
    with pytest.raises(UserError, match="clip 'CLIP_7' has no number for the submission; expected a folder SAMPLE_<n>"):
        list(lis.Lis().submission({"CLIP_7": "0_ZERO"}))
