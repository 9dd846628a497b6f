"""Several processes that train one model: the numbers of one process, one run folder, one voice, and one end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from models.lstm_late import LstmLate
from pipeline.cache.trained import BACKBONE
from pipeline.corpus.manifest import Home
from pipeline.data.batch import share_of
from pipeline.errors import UserError
from pipeline.learning import devices, fitting, training_processes
from pipeline.learning.epochs import read_figures
from pipeline.learning.fitting import Fitting
from pipeline.learning.network import WEIGHTS, Network
from pipeline.learning.recipe import Training
from pipeline.testing.models import table_of
from tests.checkout import PATIENCE
from tests.commands import run
from tests.feature_cache import balanced, corpus, publish, signals
from tests.killing import ROOT
from tests.small_network import SETTINGS, prepared

torch.set_num_threads(1)
LENGTHS = [4 + number % 5 for number in range(19)]
"""In batches of 6 the last has one clip, so the second process has none of it."""
LSTM: dict[str, Any] = {"stages": ("a",), "hidden": 4, "normalize": "none", "dropout": 0, "epochs": 3, "batch_size": 6, "lr": 0.003}
CASES: dict[str, Network] = {
    "plain": LstmLate(**LSTM),
    "weighted": LstmLate(**LSTM, class_weights="balanced", focal_gamma=2.0, clip_norm=0.5),
    "accumulated": LstmLate(**LSTM, accumulate=2, class_weights="balanced"),
    "accumulated to the end": LstmLate(**LSTM, accumulate=3),
    "mixed": LstmLate(**LSTM, mixup=0.4, class_weights="balanced"),
    "one clip a batch": LstmLate(**{**LSTM, "batch_size": 1, "epochs": 1}),
}
NOISY = LstmLate(**{**LSTM, "dropout": 0.5, "epochs": 6, "patience": 5, "schedule": "plateau"})
CHILD = """
import sys
from pathlib import Path
import numpy as np
from pipeline.learning import devices
from tests.learning import test_devices as cases

folder = Path(sys.argv[1])
with devices.joined(None, "cpu"):
    found = {name: cases.trained(recipe) for name, recipe in cases.CASES.items()}
    found["whole"] = cases.trained(cases.NOISY, folder / "whole")
    found["resumed"] = cases.interrupted(cases.NOISY, folder / "parts")
    found["finetuned"] = cases.finetuned(folder / "signs", "--devices", "2")
    for name, values in found.items():
        np.savez(folder / f"{name} {devices.rank()}.npz", **values)
"""


def trained(recipe: Network, folder: Path | None = None) -> dict[str, np.ndarray]:
    """The weights after a training, and the figures of its epochs."""
    if folder:
        folder.mkdir(exist_ok=True)
    train, val = table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:9], seed=1)
    torch.manual_seed(0)
    fit = Fitting(recipe, Training(train.ids, train.labels, train.classes, train.stages, 3, folder), val, "cpu")
    weights = {name: values.numpy() for name, values in fit.run().state_dict().items()}
    figures = [[row.loss, row.val_loss, row.val_top1, row.lr, row.best] for row in fit.state.figures]
    return {**weights, "figures": np.array(figures), "noise": torch.rand(3).numpy()}


def interrupted(recipe: Network, folder: Path) -> dict[str, np.ndarray]:
    """The same of a training that stops after its third epoch and goes on from the second."""
    fitting.CHECKPOINT_SHARE = float("inf")
    keep = Fitting._keep

    def stop(fit: Fitting) -> None:
        if len(fit.state.figures) == 3:
            raise KeyboardInterrupt
        keep(fit)

    Fitting._keep = stop  # type: ignore[method-assign, assignment]
    try:
        trained(recipe, folder)
    except KeyboardInterrupt:
        Fitting._keep = keep  # type: ignore[method-assign]
    assert (folder / "checkpoint.pt").exists()
    return trained(recipe, folder)


def finetuned(root: Path, *words: str) -> dict[str, np.ndarray]:
    """The head and the network of a stage after the command has finetuned it on what is `prepared` there, and the losses.

    Not standardised: like batch norm, that goes by the share of a batch that a process has.
    """
    settings = {**SETTINGS, "standardised": "false", "epochs": "2"}
    given = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    done = run(Home(root / "cache", root / "manifests"), "finetune", "signs", "radar_cnn", *given, "--device", "cpu", *words)
    assert done.exit_code == 0, done.output
    (folder,) = (root / "cache/runs/signs/finetuned").glob("*/")
    losses = [[row.loss, row.val_loss] for row in read_figures(folder)]
    return {**load_file(folder / BACKBONE), **load_file(folder / WEIGHTS), "figures": np.array(losses)}


def told(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a process by its environment."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return {**{name: str(number) for name, number in numbers.items()}, "MASTER_ADDR": "127.0.0.1"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, np.ndarray]]]:
    """What each of two processes found of every case."""
    folder, port = tmp_path_factory.mktemp("pair"), training_processes._free_port()
    prepared(folder / "signs")
    command = [sys.executable, "-c", CHILD, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, env={**environment, **told(rank, 2, port)}) for rank in (0, 1)]
    assert [process.wait(timeout=PATIENCE) for process in both] == [0, 0]
    names = [*CASES, "whole", "resumed", "finetuned"]
    return [{name: dict(np.load(folder / f"{name} {rank}.npz")) for name in names} for rank in (0, 1)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_weights_of_one(pair: list[dict[str, dict[str, np.ndarray]]], name: str) -> None:
    one = trained(CASES[name])
    for key, values in one.items():
        if key != "noise":
            np.testing.assert_allclose(pair[0][name][key], values, rtol=2e-5, atol=2e-5, err_msg=key)


def test_two_processes_finetune_the_network_of_a_stage_to_the_weights_of_one(
    pair: list[dict[str, dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    prepared(tmp_path)
    one = finetuned(tmp_path)
    assert pair[0]["finetuned"].keys() == one.keys()
    for key, values in one.items():
        np.testing.assert_allclose(pair[0]["finetuned"][key], values, rtol=2e-5, atol=2e-5, err_msg=key)
        np.testing.assert_array_equal(pair[1]["finetuned"][key], pair[0]["finetuned"][key], err_msg=key)


@pytest.mark.parametrize("name", [*CASES, "whole"])
def test_both_processes_hold_the_same_weights_and_decide_by_the_same_figures(
    pair: list[dict[str, dict[str, np.ndarray]]], name: str
) -> None:
    for key, values in pair[0][name].items():
        if key != "noise":
            np.testing.assert_array_equal(pair[1][name][key], values, err_msg=key)


def test_each_process_draws_noise_of_its_own(pair: list[dict[str, dict[str, np.ndarray]]]) -> None:
    assert not np.array_equal(pair[0]["whole"]["noise"], pair[1]["whole"]["noise"])


def test_two_processes_that_were_interrupted_go_on_to_the_same_weights(pair: list[dict[str, dict[str, np.ndarray]]]) -> None:
    for rank in (0, 1):
        for key, values in pair[rank]["whole"].items():
            np.testing.assert_array_equal(pair[rank]["resumed"][key], values, err_msg=key)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_shares_hold_every_clip_once_and_a_process_without_any_has_a_stand_in(count: int) -> None:
    shares = [share_of(count, rank, 4).tolist() for rank in range(4)]
    assert sorted(clip for share in shares[:count] for clip in share) == list(range(count))
    assert all(share == [0] for share in shares[count:])


class Trainings:
    """Trainings of one small corpus by the real command."""

    def __init__(self, folder: Path) -> None:
        self.home, table = corpus(folder, balanced())
        publish(self.home, table, signals(table))

    def words(self, *more: str, epochs: int) -> list[str]:
        places = ["--cache", str(self.home.cache), "--manifests", str(self.home.manifests)]
        settings = {"epochs": epochs, "hidden": 8, "lr": 0.003, "batch_size": 8, "dropout": 0}
        words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        return [*places, "train", "signs", "lstm_late", "--device", "cpu", *words, *more]

    def start(self, *command: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-m", *command], env=environment, text=True, **pipes)

    def under_way(self, epochs: int) -> subprocess.Popen[str]:
        """Two processes that have done an epoch."""
        process = self.start("pipeline", *self.words("--devices", "2", epochs=epochs))
        assert process.stderr is not None
        first = next((line for line in process.stderr if line.startswith("epoch ")), None)
        assert first is not None
        return process


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


LONG = 100_000


def test_ctrl_c_ends_all_processes_with_one_line(trainings: Trainings) -> None:
    process = trainings.under_way(LONG)
    ranks = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.count("signcache: interrupted; finished clips are kept. Go on with: signcache --cache") == 1
    assert "Traceback" not in err
    assert not any(rank.is_running() for rank in ranks)


def test_a_killed_process_ends_the_others_and_torchrun_goes_on_in_the_same_folder(trainings: Trainings) -> None:
    process = trainings.under_way(150)
    ranks = psutil.Process(process.pid).children()
    next(rank for rank in ranks if rank.environ()["RANK"] == "1").kill()
    _, err = process.communicate(timeout=PATIENCE)
    said = "signcache: process 1 of 2 was killed by SIGKILL; the same line goes on from the last checkpoint\n"
    assert (process.returncode, err.endswith(said), "Traceback" in err) == (2, True, False), err
    assert not any(rank.is_running() for rank in ranks)

    torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "pipeline")
    process = trainings.start(*torchrun, *trainings.words("--json", epochs=150))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert err.count("resumed after epoch") == 1
    run = Path(json.loads(out)["run"])  # nothing else on stdout
    record = json.loads((run / "run.json").read_bytes())
    assert record["environment"]["devices"] == 2
    assert len((run / "metrics.csv").read_text().splitlines()) == 151
    assert load_file(run / "weights.safetensors")


def test_what_all_processes_find_wrong_is_said_once(trainings: Trainings) -> None:
    process = trainings.start("pipeline", *trainings.words("--devices", "2", "--set", "hidden=0", epochs=3))
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("signcache: model 'lstm_late': hidden=")


def test_more_devices_than_there_are_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in told(0, 3, 1).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match="--devices 3: torch sees 1 CUDA device here; use --devices 1, or --device cpu"):
        devices.fabric("cuda")


def test_a_training_inside_a_slurm_job_is_alone_and_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert devices.fabric("cpu").world_size == 1  # a warning would be an error here
    for name, value in {"SLURM_JOB_NAME": "train", "SLURM_JOB_ID": "1", "SLURM_NTASKS": "4", "SLURM_PROCID": "3"}.items():
        monkeypatch.setenv(name, value)
    alone = devices.fabric("cpu")
    assert (alone.world_size, alone.global_rank) == (1, 0)


def test_another_number_than_torchrun_started_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in told(0, 2, 1).items():
        monkeypatch.setenv(name, value)
    with (
        pytest.raises(UserError, match="--devices 3: 2 processes were started; leave --devices out, or start 3"),
        devices.joined(3, "cpu"),
    ):
        pass
