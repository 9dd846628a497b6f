"""Threads that wait leave the cores to those that work, in every process that a command starts; how many is the user's to say."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from pipeline import machine
from tests.checkout import Checkout

NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM", "GOMP_SPINCOUNT")
TOLD = '''"""What the processes of a run are told of threads."""

import os

import numpy as np

from pipeline.types import Extractor

NAMES = SAID


def told():
    return [float(os.environ.get(name, -1)) for name in NAMES]


class Told(Extractor):
    source: str = "rgb"

    @property
    def row_shape(self):
        return (9,)

    def select(self, length, rate_hz):
        return np.arange(1)

    def prepare(self, frames):
        for _ in frames:
            yield np.array(told())

    def load(self, device):
        import torch

        return lambda items: torch.cat([items, torch.tensor([[*told(), torch.get_num_threads()]] * len(items))], 1).float()


stage = Told
'''.replace("SAID", repr(NAMES))


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with one clip and a stage whose row is what its processes are told: where it prepares, then where it computes."""
    checkout = Checkout.make(tmp_path_factory.mktemp("telling") / "checkout", clips=1)
    (checkout.folder / "stages" / "told.py").write_text(TOLD)
    return checkout


def row_of(checkout: Checkout, monkeypatch: pytest.MonkeyPatch, *arguments: object, **said: str) -> list[float]:
    """The row of a new extraction whose user said so much in the environment."""
    for name in (*NAMES, "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    shutil.rmtree(checkout.folder / "cache", ignore_errors=True)
    checkout.ok("extract", "tiny", "told", *arguments)
    (row,) = checkout.rows("told").values()
    found: list[float] = np.frombuffer(row[1], np.float32).tolist()
    return found


def test_decode_processes_have_one_thread_and_torch_as_many_as_there_are_cores(telling: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, computed = (row := row_of(telling, monkeypatch))[:4], row[4:]
    assert prepared == [1, 1, 1, 1000]
    assert computed == [-1, -1, -1, 1000, machine.cores()]


def test_what_the_user_says_of_threads_holds(telling: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    assert row_of(telling, monkeypatch, "--threads", 3)[4:] == [3, -1, -1, 1000, 3]
    assert row_of(telling, monkeypatch, OMP_NUM_THREADS="3", OMP_WAIT_POLICY="ACTIVE")[7:] == [-1, 3]


def test_local_workers_are_told_the_same(telling: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    row = row_of(telling, monkeypatch, "--workers", 1, "--threads", 3)
    assert row[:4] == [1, 1, 1, 1000]
    assert row[7:] == [1000, 3]


def test_another_number_of_threads_makes_nothing_stale(telling: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    row_of(telling, monkeypatch, "--threads", 1)
    done = telling.ok("extract", "tiny", "told", "--threads", 2, "--json")
    assert json.loads(done.stdout)["extracted"] == {}


def test_a_number_of_threads_that_is_none_is_a_usage_error(telling: Checkout) -> None:
    done = telling.run("extract", "tiny", "--threads", 0)
    assert done.returncode == 2
    assert "Invalid value for '--threads'" in done.stderr
