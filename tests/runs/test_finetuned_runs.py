"""A finetuned run is a run like any other: it labels files, a package of it labels them elsewhere, and cards tell of it."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file

from pipeline.cache.trained import BACKBONE, story_of
from pipeline.corpus.manifest import Home
from tests.commands import run, said
from tests.small_network import SETTINGS, SIDE
from tests.video_files import write_clip

torch.set_num_threads(1)


@dataclass
class Videos:
    """A finetuned run on videos of two signs, with its package; `told` is what the run says of its test clips."""

    home: Home
    root: Path
    run: Path
    package: Path

    @property
    def told(self) -> dict[str, tuple[str, float]]:
        """`{clip: (label, probability)}`."""
        with open(self.run / "predictions.csv", newline="", encoding="utf-8") as file:
            return {row["id"]: (row["guess"], float(row["confidence"])) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Videos:
    root = tmp_path_factory.mktemp("videos")
    home, lines = Home(root / "cache", root / "manifests"), ["file,split,signer"]
    for label in range(2):
        for number, split in enumerate(("train", "train", "val", "test")):
            write_clip(root / f"data/sign{label}/{number}.mp4", 5 + 3 * label + number, size=(32, 24))
            lines.append(f"sign{label}/{number}.mp4,{split},signer{number}")
    (root / "data/split.csv").write_text("\n".join(lines) + "\n")
    said(home, "manifest", "signs", "--corpus", "folder", "--root", root / "data")
    words = [word for key, value in {**SETTINGS, "max_frames": "4"}.items() for word in ("--set", f"{key}={value}")]
    done = run(home, "finetune", "signs", "radar_cnn", *words, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    folder = Path(json.loads(done.stdout.splitlines()[-1])["run"])
    said(home, "package", folder, root / "signs.zip")
    return Videos(home, root, folder, root / "signs.zip")


def labelled(home: Home, place: Path, clips: Path) -> dict[str, tuple[str, float]]:
    done = run(home, "predict", place, clips, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return {Path(row["clip"]).name: (row["label"], row["probability"]) for row in found}


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_finetuned_run_labels_files_as_it_scored_them_and_so_does_its_package_elsewhere(
    videos: Videos, tmp_path: Path, is_packed: bool
) -> None:
    for label in range(2):
        shutil.copy(videos.root / f"data/sign{label}/3.mp4", tmp_path / f"new{label}.mp4")
    home = Home(tmp_path / "cache", tmp_path / "manifests") if is_packed else videos.home
    found = labelled(home, videos.package if is_packed else videos.run, tmp_path)
    for label in range(2):
        guess, confidence = found[f"new{label}.mp4"]
        expected, probability = videos.told[f"sign{label}/3"]
        assert guess == expected
        assert confidence == pytest.approx(probability, abs=1e-5)


def test_the_network_in_a_package_tells_what_it_learned_from_and_its_card_too(videos: Videos, tmp_path: Path) -> None:
    shutil.unpack_archive(videos.package, tmp_path)
    (packed,) = tmp_path.rglob(BACKBONE)
    story = story_of(videos.run / BACKBONE)
    assert story is not None
    assert story_of(packed) == story
    expected, found = load_file(videos.run / BACKBONE), load_file(packed)
    assert {name: values.tobytes() for name, values in found.items()} == {name: values.tobytes() for name, values in expected.items()}
    assert "radar\\_cnn.items: Items of rgb" in (tmp_path / "MODEL_CARD.md").read_text()


def test_weights_of_a_finetuned_run_are_told_by_the_card_of_what_reads_their_rows(videos: Videos) -> None:
    few = ("--set", "source=rgb", "--set", "receivers=1", "--set", f"resize={SIDE},{SIDE}", "--set", "max_frames=4")
    said(videos.home, "extract", "signs", "radar_cnn", *few, "--set", f"weights={videos.run / BACKBONE}", "--device", "cpu")
    words = ("--set", "stages=radar_cnn", "--set", "epochs=1", "--set", "hidden=4", "--device", "cpu", "--json")
    done = run(videos.home, "train", "signs", "lstm_late", *words)
    assert done.exit_code == 0, done.output
    folder = Path(json.loads(done.stdout)["run"])
    told = f"run {videos.run.name} trained radar\\_cnn on signs, seed 0: learned 4 clips of 2 signers (signer0, signer1)"
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"  - {told}; selected on 2 clips of 1 signers (signer2); began with random:0." in card
    assert "- Of the weights of radar\\_cnn: trained by signcache on clips of signs, whose licence holds for them." in card
    assert told.replace("\\", "") in (folder / "report.html").read_text()
