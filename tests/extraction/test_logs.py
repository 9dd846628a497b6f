"""What other programs read of a training: every epoch once, as `metrics.csv` has it, also after a kill."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboardX.proto.event_pb2 import Event

from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.learning import fitting
from pipeline.learning.epochs import read_figures, write_figures
from pipeline.learning.fitting import Fitting
from pipeline.runs import tracking
from pipeline.runs.journal import FIGURES
from pipeline.runs.run_folder import Run
from pipeline.runs.training import train

torch.set_num_threads(1)
SETTINGS = {"epochs": "6", "hidden": "8", "lr": "0.003", "batch_size": "8", "normalize": "none"}
Fixture = tuple[Home, Manifest]


@pytest.fixture
def signs(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> Fixture:
    monkeypatch.delenv(tracking.ADDRESS, raising=False)
    return signs


def trained(signs: Fixture, **options: Any) -> Run:
    return train(*signs, "lstm_late", SETTINGS, seed=1, device="cpu", **options)


def killed(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that has done four epochs, of which its checkpoint knows two."""
    monkeypatch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
    keep = Fitting._keep

    def stop(fit: Fitting) -> None:
        if len(fit.state.figures) == 5:
            raise KeyboardInterrupt
        if len(fit.state.figures) <= 2:
            keep(fit)
        else:
            assert fit.train.folder
            write_figures(fit.train.folder, fit.state.figures)

    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_keep", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(signs)


def events(folder: Path) -> list[Event]:
    """The records of all event files of a folder; TFRecord: length, its checksum, the bytes, their checksum."""
    found = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            found.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += length + 16
    return found


def curves(run: Run) -> list[tuple[int, str, float]]:
    return [(event.step, value.tag, value.simple_value) for event in events(run.folder / "tensorboard") for value in event.summary.value]


def in_the_table(run: Run) -> list[tuple[int, str, Any]]:
    return [(row.epoch, name, pytest.approx(getattr(row, name), rel=1e-6)) for row in read_figures(run.folder) for name in FIGURES]


def test_event_files_hold_the_figures_of_every_epoch_once(signs: Fixture) -> None:
    run = trained(signs)
    assert curves(run) == in_the_table(run)
    assert len(in_the_table(run)) == 6 * len(FIGURES)


def test_a_killed_and_resumed_training_doubles_no_step(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(signs, monkeypatch)
    run = trained(signs)
    assert curves(run) == in_the_table(run)
    times = [event.wall_time for event in events(run.folder / "tensorboard")][1:]
    assert times == sorted(times)


def test_scores_stand_beside_the_settings(signs: Fixture) -> None:
    run = trained(signs)
    values = {value.tag: value for event in events(run.folder / "tensorboard" / "scores") for value in event.summary.value}
    assert values["test_top1"].simple_value == pytest.approx(run.scores["top1"])
    assert b"hidden" in values["_hparams_/session_start_info"].metadata.plugin_data.content


def test_mlflow_that_is_not_installed_is_named_in_one_line(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.ADDRESS, "sqlite:///nowhere.db")
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = r"MLFLOW_TRACKING_URI asks for MLflow, which is not installed .*; run: pip install 'signcache\[mlflow\]'"
    with pytest.raises(UserError, match=said):
        trained(signs)


def test_the_store_is_the_environments_or_else_the_caches_own(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    home, _ = signs
    monkeypatch.setenv(tracking.ADDRESS, "http://somewhere")
    tracking.ask(home)
    assert os.environ[tracking.ADDRESS] == "http://somewhere"
    monkeypatch.delenv(tracking.ADDRESS)
    tracking.ask(home)
    assert os.environ[tracking.ADDRESS] == f"sqlite:///{home.cache}/runs/mlflow.db"


@pytest.mark.filterwarnings("ignore")
def test_a_training_is_one_mlflow_run_however_often_it_is_started(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'signcache[mlflow]'")
    monkeypatch.delenv(tracking.ADDRESS, raising=False)
    monkeypatch.setenv(tracking.ADDRESS, f"sqlite:///{signs[0].cache / 'runs' / 'mlflow.db'}")
    (signs[0].cache / "runs").mkdir()
    killed(signs, monkeypatch)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("signcache signs").experiment_id
    first = client.search_runs([experiment])[0].info
    assert first.status == "RUNNING"
    run = trained(signs)
    trained(signs)
    (only,) = client.search_runs([experiment])
    assert (only.info.run_id, only.info.status) == (first.run_id, "FINISHED")
    assert only.data.tags["signcache.run"] == run.record["id"]
    assert (only.data.params["hidden"], only.data.params["stages"]) == ("8", '["resnet50"]')
    assert only.data.metrics["test_top1"] == run.scores["top1"]
    for name in ("loss", "val_loss", "val_top1", "lr"):
        told = [(metric.step, metric.value) for metric in client.get_metric_history(only.info.run_id, name)]
        assert sorted(told) == [(row.epoch, pytest.approx(getattr(row, name))) for row in read_figures(run.folder)]
    artifacts = [item.path for item in client.list_artifacts(only.info.run_id)]
    assert artifacts == ["metrics.csv", "result.json", "run.json"]
