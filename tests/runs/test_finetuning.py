"""The network of a stage is trained on items that are prepared once: what learns, what stays, how it repeats, what it tells of itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline import registry
from pipeline.cache.stage import configure
from pipeline.cache.trained import BACKBONE, story_of
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.runs import finetuning
from pipeline.runs.training import evaluate
from tests.small_network import STAGE, backbone, finetuned, prepared

Fixture = tuple[Home, Manifest]
FIRST, LAST = {"0.weight", "0.bias"}, {"3.weight", "3.bias"}


@pytest.fixture
def images(tmp_path: Path) -> Fixture:
    return prepared(tmp_path)


def untrained() -> dict[str, Tensor]:
    stage = registry.create("stage", "radar_cnn", {**STAGE, "weights": "random:0"})
    return dict(stage.network().state_dict())


def moved(found: dict[str, Tensor], before: dict[str, Tensor]) -> set[str]:
    """The tensors that are not what they were."""
    assert found.keys() == before.keys()
    return {name for name, values in found.items() if not torch.equal(values, before[name])}


@pytest.mark.parametrize(("depth", "learns"), [("head", set()), ("1", LAST), ("2", FIRST | LAST), ("all", FIRST | LAST)])
def test_only_the_blocks_that_depth_names_learn(images: Fixture, depth: str, learns: set[str]) -> None:
    assert moved(backbone(finetuned(*images, {"depth": depth})), untrained()) == learns


def test_while_the_head_learns_first_the_network_rests(images: Fixture) -> None:
    assert moved(backbone(finetuned(*images, {"head_epochs": "3"})), untrained()) == set()


def test_a_trained_network_tells_clips_apart_that_it_never_saw(images: Fixture) -> None:
    run = finetuned(*images, {"epochs": "12", "backbone_rate": "1"})
    assert (run.scores["split"], run.scores["top1"]) == ("test", 1.0)
    assert evaluate(images[0], run.folder)["top1"] == 1.0


@pytest.mark.parametrize(
    "settings",
    [
        {"learns_from": "frames", "precision": "bfloat16"},
        {"learn": "all", "hidden": "8"},
        {"class_weights": "balanced", "focal_gamma": "2"},
    ],
)
def test_a_network_learns_by_the_means_of_any_training(images: Fixture, settings: dict[str, str]) -> None:
    assert finetuned(*images, {"epochs": "6", **settings}).scores["top1"] == 1.0


def test_maps_have_the_head_of_the_micro_gesture_system() -> None:
    fields = {"max_frames": 2, "resize": (32, 32), "output": "map"}
    settings = {"kind": "resnet50", "fields": fields, "map_channels": 1024, "standardised": False, "learns_from": "frames"}
    recipe = registry.create("model", "finetuned", {**settings, "weights": "random:0"})
    module = recipe.build({"resnet50": 32 * 32 * 3}, 32)
    head = [*module.pooled.parameters(), *module.head.parameters()]
    assert sum(values.numel() for values in head) == 18_910_240, "that of models/frame_cnn.py"
    items = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 2, 32, 32, 3), np.uint8))
    batch = Batch(("a", "b"), {"resnet50": items}, {"resnet50": torch.tensor([2, 1])}, torch.tensor([3, 5]))
    found = module.train()(batch)
    assert found.rows.shape == (3, 32)
    each = torch.nn.functional.cross_entropy(found.rows, torch.tensor([3, 3, 5]), reduction="none")
    torch.testing.assert_close(recipe.losses(found, batch), torch.stack([each[:2].mean(), each[2]]))
    assert module.eval()(batch).shape == (2, 32)


def test_one_seed_gives_the_same_file_and_another_seed_another(images: Fixture) -> None:
    first = (finetuned(*images).folder / BACKBONE).read_bytes()
    assert (finetuned(*images, again=True).folder / BACKBONE).read_bytes() == first
    assert (finetuned(*images, seed=2).folder / BACKBONE).read_bytes() != first


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from pipeline.corpus.manifest import Home, read
from pipeline.data.table import Table
from pipeline.learning import fitting
from tests.small_network import finetuned

torch.set_num_threads(1)
fitting.CHECKPOINT_SHARE = float("inf")
batches = Table.batches

def dying(self, *args, epoch=0, **options):
    for number, batch in enumerate(batches(self, *args, epoch=epoch, **options)):
        if (epoch, number) == (2, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch

Table.batches = dying
home = Home(Path(sys.argv[1]) / "cache", Path(sys.argv[1]) / "manifests")
finetuned(home, read(home, "signs"))
"""


def test_a_killed_finetuning_goes_on_to_the_same_weights(images: Fixture, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, table = images
    shutil.copytree(home.cache, tmp_path / "other")
    whole = finetuned(Home(tmp_path / "other", home.manifests), table)
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    capsys.readouterr()
    resumed = finetuned(*images)
    assert "resumed after epoch 2" in capsys.readouterr().err
    assert (resumed.folder / BACKBONE).read_bytes() == (whole.folder / BACKBONE).read_bytes()


def test_items_that_are_in_the_cache_are_not_prepared_again(images: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something is extracted")

    monkeypatch.setattr(finetuning, "extract", refuse)
    finetuned(*images)
    finetuned(*images, {"depth": "1", "frames": "2", "weights": "random:7"})


def test_the_weights_tell_what_they_learned_from(images: Fixture) -> None:
    run, table = finetuned(*images), images[1]
    story = story_of(run.folder / BACKBONE)
    assert story is not None
    assert (story["stage"], story["dataset"], story["corpus"], story["part"]) == ("radar_cnn", "signs", "folder", "")
    assert (story["run"], story["seed"], story["before"]) == (run.folder.name, 1, None)
    assert story["start"]["weights"] == {"random": 0}
    assert {(clip["id"], clip["split"], clip["signer"]) for clip in story["clips"]} == {
        (sample.id, sample.split, sample.signer) for sample in table.samples if sample.split != "test"
    }
    assert len({clip["content"] for clip in story["clips"]}) == len(story["clips"])
    again = finetuned(*images, {"weights": f"run:{run.folder.name}"})
    assert story_of(again.folder / BACKBONE)["before"] == story  # type: ignore[index]


def test_each_fold_has_a_network_that_never_saw_it(images: Fixture) -> None:
    run = finetuned(*images, folds=2)
    files = finetuning.weights_of(run)
    assert len({file.read_bytes() for file in files}) == len(files) == 2
    held = []
    for number, file in enumerate(files, 1):
        story = story_of(file)
        assert story is not None
        assert story["part"] == f"fold {number} of 2"
        held.append({sample.id for sample in images[1].samples if sample.split != "test"} - {clip["id"] for clip in story["clips"]})
    assert not held[0] & held[1]
    assert held[0] | held[1] == {sample.id for sample in images[1].samples if sample.split != "test"}


def test_a_wrong_wish_is_one_line(images: Fixture) -> None:
    home, table = images
    with pytest.raises(UserError, match=r"stage 'keypoints' has no network to train; those that have one: .*radar_cnn, resnet50"):
        finetuning.finetune(home, table, "keypoints", {})
    with pytest.raises(UserError, match=r"--depth 9: the network of RadarCNN has 2 blocks; use --depth all"):
        finetuned(*images, {"depth": "9"})
    with pytest.raises(UserError, match=r"--set i3d.window: finetune takes settings of its training and of radar_cnn"):
        finetuned(*images, {"i3d.window": "9"})
    with pytest.raises(UserError, match=r"stage 'radar_cnn' has no field 'frame'"):
        finetuned(*images, {"frame": "9"})


def test_weights_of_no_such_run_are_one_line(images: Fixture, signs: Fixture, tmp_path: Path) -> None:
    home, table = images
    run = finetuned(*images)

    def asked(stage: str, weights: str) -> None:
        configure(home, table, stage, now={"weights": weights})

    with pytest.raises(UserError, match=r"weights='run:nowhere': there is no such run; give the id or the folder of one"):
        asked("radar_cnn", "run:nowhere")
    with pytest.raises(UserError, match=r"are those of radar_cnn, not of resnet50; train them: signcache finetune NAME resnet50"):
        asked("resnet50", f"run:{run.folder}")
    folds = finetuned(*images, folds=2)
    with pytest.raises(UserError, match=rf"is a run of folds, with weights each; name one: run:{folds.record['folds'][0]}, run:"):
        asked("radar_cnn", f"run:{folds.folder.name}")
    (run.folder / BACKBONE).unlink()
    with pytest.raises(UserError, match=r"trained 'finetuned' on features and no stage; use a run of: signcache finetune"):
        asked("radar_cnn", f"run:{run.folder.name}")
    (run.folder / "result.json").unlink()
    with pytest.raises(UserError, match=r"is unfinished; start its training again to go on: signcache finetune signs radar_cnn --set"):
        asked("radar_cnn", f"run:{run.folder.name}")


def test_weights_are_known_by_their_bytes_wherever_the_run_lies(images: Fixture, tmp_path: Path) -> None:
    home, table = images
    run = finetuned(*images)
    stage = configure(home, table, "radar_cnn", now={**STAGE, "weights": f"run:{run.folder}"})
    assert stage.settings["weights"] == f"run:{run.folder.name}"
    digest = stage.fingerprint.digest
    shutil.move(run.folder, tmp_path / "elsewhere")
    moved_run = configure(home, table, "radar_cnn", now={**STAGE, "weights": f"run:{tmp_path / 'elsewhere'}"})
    file = configure(home, table, "radar_cnn", now={**STAGE, "weights": str(tmp_path / "elsewhere" / BACKBONE)})
    assert moved_run.fingerprint.digest == file.fingerprint.digest == digest
    assert configure(home, table, "radar_cnn", now=STAGE).fingerprint.digest != digest
