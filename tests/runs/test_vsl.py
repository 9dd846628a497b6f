"""Self-learning fusion from end to end on a corpus in VSL's layout: sensors teach where they are, and only video is scored."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.corpus.manifest import Home
from pipeline.runs import run_folder
from tests.commands import said

LABELS = ("2.npy", "10.npy")
UNPAIRED = ("N2_10_1", "N3_2_1", "N6_10_1")
I3D = ("window=9", "frames=9", "pool=2", "short_side=193", "side=193")
"""Small ones, in place of 24 frames of 224 pixels."""


def vsl(root: Path, people: Iterable[int] = range(1, 8)) -> Path:
    """A clip of two signs by each of seven people, of which three lack the sensor; colours and signals tell the sign."""
    for person, label in itertools.product(people, LABELS):
        random, word = np.random.default_rng(person), label.removesuffix(".npy")
        name, place = f"N{person}_{word}_1", LABELS.index(label)
        video = random.integers(0, 60, (24, 24, 24, 3), np.uint8)
        video[..., place] += 150
        files = {root / "Frames" / label / f"{name}.npy": video}
        if name not in UNPAIRED:
            signal = np.sin(np.arange(30 + person)[:, None] * (0.2 + place) + np.arange(12)) + 0.1 * random.normal(size=(30 + person, 12))
            files[root / "Signals" / label / f"{name}.npy"] = signal
        for file, values in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, values)
    return root


@pytest.mark.parametrize("model", ["self_learning_fusion", "self_learning_feature_fusion"])
def test_sensors_of_some_clips_teach_and_videos_alone_are_scored_and_labelled(
    model: str, tmp_path_factory: pytest.TempPathFactory, extracted: tuple[Home, Path]
) -> None:
    home, root = extracted
    quick = ["epochs=30", "generator_epochs=8", "generator_lr=0.003", "mlp_hidden=16,8", "normalize=train", "best_by=last"]
    quick += ["teacher=inception_time:epochs=4:modules=3:steps=30:kernel=8", *(["fusion_epochs=30"] if "feature" in model else [])]
    out = said(home, "train", "vsl", model, *(word for pair in quick for word in ("--set", pair)), "--json")
    run = json.loads(out.splitlines()[-1])["run"]
    record = run_folder.read(run).record
    assert record["dropped"] == {}, "a clip without a sensor is no clip less"
    assert record["clips"]["train"] + record["clips"]["val"] == 10
    assert record["clips"]["test"] == 4
    teacher = json.loads(next((home.cache / "runs/vsl/inception_time").glob("*/run.json")).read_text())
    paired = sum(teacher["clips"][split] for split in ("train", "val"))
    assert paired == 8, "the teacher learns from the pairs"
    away = root.with_name("sensors away")
    shutil.move(root / "Signals", away)
    try:
        assert json.loads(said(home, "evaluate", run, "--json").splitlines()[-1])["n"] == 4
        video = tmp_path_factory.mktemp("new") / "somebody.npy"
        shutil.copy(root / "Frames/2.npy/N7_2_1.npy", video)
        (guess,) = json.loads(said(home, "predict", run, str(video), "--json").splitlines()[-1])
    finally:
        shutil.move(away, root / "Signals")
    assert guess["label"] == "2"
    assert [label for label, _ in guess["top"]] == ["2", "10"]


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("vsl")
    home, root = Home(place / "cache", place / "manifests"), vsl(place / "data")
    assert "14 clips, 2 classes" in said(home, "manifest", "vsl", "--root", str(root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.machine.cores", lambda: 1)
        said(home, "extract", "vsl", "i3d", "inertial", *(word for pair in I3D for word in ("--set", f"i3d.{pair}")))
    return home, root
