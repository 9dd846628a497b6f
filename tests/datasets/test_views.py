"""Videos of several cameras are media of one clip: each view is a stage of its own, and a model fuses what they show."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.runs import run_folder
from pipeline.types import Array, Sample
from tests.commands import said
from tests.video_files import write_clip

torch.set_num_threads(1)
SMALL = ("--set", "weights=random:0", "--set", "max_frames=1", "--device", "cpu")
MODEL = ("--set", "epochs=1", "--set", "hidden=4", "--set", "batch_size=4", "--device", "cpu")


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def listed(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in registry.create("dataset", "folder").samples(root)}


def test_views_of_a_clip_are_its_media_and_other_names_are_clips_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/1@top.MOV", "a/1@side.mp4", "a/2@front.mp4", "a/2@top.mp4", "a/3@top.mp4")
    touch(tmp_path, "a/1@home.mp4", "a/@top.mp4", "b/1@top.mp4", "a/deep/1@side.mp4", "a/x@y@top.mp4", "a/x@y.mp4")
    media = {clip: {modality: file for modality, (file,) in sample.media.items()} for clip, sample in listed(tmp_path).items()}
    assert media == {
        "a/1": {"rgb": "a/1.mp4", "rgb_top": "a/1@top.MOV", "rgb_side": "a/1@side.mp4"},
        "a/2": {"rgb": "a/2@front.mp4", "rgb_top": "a/2@top.mp4"},
        "a/3": {"rgb_top": "a/3@top.mp4"},
        "a/1@home": {"rgb": "a/1@home.mp4"},
        "a/@top": {"rgb": "a/@top.mp4"},
        "a/x@y": {"rgb": "a/x@y.mp4", "rgb_top": "a/x@y@top.mp4"},
        "b/1": {"rgb_top": "b/1@top.mp4"},
        "a/deep/1": {"rgb_side": "a/deep/1@side.mp4"},
    }


@pytest.mark.parametrize("files", [("a/1@top.mov", "a/1@top.mp4"), ("a/1.mp4", "a/1@front.mp4")])
def test_two_files_of_one_view_are_one_error_that_names_both(files: tuple[str, str], tmp_path: Path) -> None:
    touch(tmp_path, "a/1@side.mp4", *files)
    with pytest.raises(UserError, match=rf"two clips below .* have the id 'a/1': {files[0]} and {files[1]}; rename one of them"):
        listed(tmp_path)


def test_a_split_table_names_any_of_the_views(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.mp4", "a/1@top.mp4", "a/2.mp4", "a/2@top.mp4")
    (tmp_path / "split.csv").write_text("file,split,signer\na/1.mp4,train,ann\na/1@top.mp4,train,ann\na/2@top.mp4,test,bo\n")
    assert {clip: (sample.split, sample.signer) for clip, sample in listed(tmp_path).items()} == {
        "a/1": ("train", "ann"),
        "a/2": ("test", "bo"),
    }
    (tmp_path / "split.csv").write_text("file,split,signer\na/1.mp4,train,ann\na/1@top.mp4,test,ann\n")
    with pytest.raises(UserError, match=r"split\.csv gives the views of 'a/1' different splits or signers; name one of them"):
        listed(tmp_path)


def rows(home: Home, name: str, stage: str) -> dict[str, Array]:
    features = open_stage(name, stage, cache=home.cache, manifests=home.manifests)
    return {clip: np.array(features[clip]) for clip in features}


def test_two_views_are_extracted_fused_and_trained_and_a_clip_without_one_is_named(tmp_path: Path) -> None:
    home, root = Home(tmp_path / "cache", tmp_path / "manifests"), tmp_path / "root"
    lines = ["file,split"]
    for number in range(8):
        label, split = ("a", "b")[number % 2], ("train", "train", "val", "test")[number // 2]
        write_clip(root / f"{label}/{number}.mp4", 3 + number % 2)
        write_clip(root / f"{label}/{number}@top.mp4", 5)
        lines.append(f"{label}/{number}.mp4,{split}")
    (root / "split.csv").write_text("\n".join(lines))
    manifest.bind(home, "signs", corpus="folder", root=root)
    assert "rgb 8, rgb_top 8" in manifest.summary(manifest.read(home, "signs"))
    said(home, "extract", "signs", "resnet50", *SMALL)
    said(home, "extract", "signs", "resnet50", "--as", "resnet50_top", "--set", "source=rgb_top", *SMALL)

    for number in range(8):  # the same videos as clips of their own
        alone = tmp_path / "alone" / "ab"[number % 2] / f"{number}.mp4"
        alone.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "ab"[number % 2] / f"{number}@top.mp4", alone)
    manifest.bind(home, "tops", corpus="folder", root=tmp_path / "alone")
    said(home, "extract", "tops", "resnet50", *SMALL)
    top, expected = rows(home, "signs", "resnet50_top"), rows(home, "tops", "resnet50")
    assert {clip: values.tobytes() for clip, values in top.items()} == {clip: values.tobytes() for clip, values in expected.items()}

    text = said(home, "train", "signs", "lstm_late", "--set", "stages=resnet50,resnet50_top", *MODEL)
    run = run_folder.read(next(Path(line.split()[-1]) for line in text.splitlines() if line.startswith("run:")))
    assert list(run.record["stages"]) == ["resnet50", "resnet50_top"]
    labelled = said(home, "predict", str(run.folder), str(root / "a"), "--device", "cpu")
    assert [clip for clip in ("a/0", "a/2", "a/4", "a/6") if labelled.count(f"{root / clip}") != 1] == []
    (root / "b/1@top.mp4").unlink()
    manifest.bind(home, "signs")
    said(home, "extract", "signs", "resnet50_top")
    refused = said(home, "train", "signs", "lstm_late", "--set", "stages=resnet50,resnet50_top", *MODEL, status=2)
    assert "b/1" in refused
    assert "resnet50_top" in refused
