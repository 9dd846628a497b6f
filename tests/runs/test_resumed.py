"""A training that is interrupted or killed goes on to the same weights, and is not run twice at a time."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.learning import devices, fitting
from pipeline.runs.run_folder import at_work
from pipeline.runs.training import train
from tests.runs.test_training import SETTINGS, Fixture, assert_same_weights, trained, weights

torch.set_num_threads(1)


def interrupted_at(place: int) -> Callable[[fitting.Fitting], None]:
    """In place of the end of an epoch: the first ones as ever, then Ctrl-C before anything of that one is kept."""
    keep = fitting.Fitting._keep

    def stop(fitting: fitting.Fitting) -> None:
        if len(fitting.state.figures) == place:
            raise KeyboardInterrupt
        keep(fitting)

    return stop


@pytest.mark.parametrize("place", [1, 2, 5, 8])
def test_a_training_interrupted_in_any_epoch_goes_on_to_the_same_weights(
    signs: Fixture, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    whole = weights(trained(signs))
    monkeypatch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Fitting, "_keep", interrupted_at(place))
        with pytest.raises(KeyboardInterrupt):
            trained(signs, again=True)
    resumed = trained(signs)
    assert all((values == whole[name]).all() for name, values in weights(resumed).items())
    assert len((resumed.folder / "metrics.csv").read_text().splitlines()) == 9


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from pipeline.learning import fitting
from pipeline.data.table import Table
from pipeline.corpus.manifest import Home, read
from pipeline.runs.training import train

torch.set_num_threads(1)
fitting.CHECKPOINT_SHARE = float("inf")
place, root, settings = sys.argv[1], Path(sys.argv[2]), dict(word.split("=") for word in sys.argv[3:])
batches, replaced, saved = Table.batches, os.replace, []

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying_batches(self, *args, epoch=0, **options):
    for number, batch in enumerate(batches(self, *args, epoch=epoch, **options)):
        if place == "epoch" and (epoch, number) == (3, 1):
            die()
        yield batch

def dying_replace(source, target):
    if Path(target).name == "checkpoint.pt":
        saved.append(target)
        if place == "checkpoint" and len(saved) == 3:
            die()
    if place == "result" and Path(target).name == "result.json":
        die()
    replaced(source, target)

Table.batches, os.replace = dying_batches, dying_replace
home = Home(root / "cache", root / "manifests")
train(home, read(home, "signs"), "lstm_late", settings, seed=1, device="cpu")
"""


def test_a_training_killed_again_and_again_ends_with_the_same_weights(signs: Fixture, tmp_path: Path) -> None:
    home, table = signs
    shutil.copytree(home.cache, tmp_path / "other" / "cache")
    whole = train(Home(tmp_path / "other" / "cache", home.manifests), table, "lstm_late", SETTINGS, seed=1, device="cpu")
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    for place in ("epoch", "checkpoint"):
        child = subprocess.run([sys.executable, "-c", KILLED, place, str(tmp_path), *words], capture_output=True, text=True, check=False)
        assert child.returncode == -signal.SIGKILL, child.stderr
    assert "resumed after epoch 3" in child.stderr
    run = trained(signs)
    assert run.folder.name == whole.folder.name
    assert_same_weights(run, whole)
    left = {part.name for part in run.folder.iterdir()}
    assert left == {".lock", "metrics.csv", "predictions.csv", "result.json", "run.json", "tensorboard", "weights.safetensors"}


def test_what_others_hide_in_a_run_stays_and_what_a_kill_left_half_written_goes(signs: Fixture) -> None:
    run = trained(signs)
    (run.folder / "result.json").unlink()
    (run.folder / ".ipynb_checkpoints").mkdir()
    names = (".ipynb_checkpoints/note", ".note", ".result.json.0a1b2c3d")
    for name in names:
        (run.folder / name).touch()
    assert trained(signs).folder == run.folder
    assert [name for name in names if (run.folder / name).exists()] == [".ipynb_checkpoints/note", ".note"]


@pytest.mark.parametrize("is_finished", [True, False])
def test_the_first_process_says_for_all_whether_a_run_is_finished(
    signs: Fixture, monkeypatch: pytest.MonkeyPatch, is_finished: bool
) -> None:
    run = trained(signs)
    if is_finished:
        (run.folder / "result.json").unlink()  # as a process sees it whose disk is late
    monkeypatch.setattr(devices, "rank", lambda: 1)
    said = iter([run.folder, None, is_finished])
    monkeypatch.setattr(devices, "once", lambda make: next(said))
    with at_work(run.folder) as found:
        assert found is is_finished


def test_processes_that_found_different_features_do_not_train_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "rank", lambda: 1)
    monkeypatch.setattr(devices, "once", lambda make: tmp_path / "other")
    with pytest.raises(UserError, match="the processes of this training found different code or features"), at_work(tmp_path / "own"):
        pass


def test_a_run_being_trained_is_not_trained_twice_at_a_time(signs: Fixture) -> None:
    run = trained(signs)
    with at_work(run.folder), pytest.raises(UserError, match=r"this training is running already, in .*; wait for it"):
        trained(signs, again=True)
