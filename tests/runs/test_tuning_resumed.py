"""A search that was killed or interrupted goes on as if it had not been."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from pipeline.corpus.manifest import Home
from pipeline.learning import fitting
from pipeline.runs.trials import Found
from pipeline.runs.tuning import Search
from tests.checkout import ROOT
from tests.runs.test_tuning import SETTINGS, Fixture, figures, signs, silently

__all__ = ["signs"]


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from pipeline.data.table import Table
from pipeline.corpus.manifest import Home, read
from pipeline.runs.tuning import Search, search_for, tune

torch.set_num_threads(1)
trained, started = Search.trained, []

def dying(self, settings, hears):
    started.append(settings)
    def hear(figures):
        hears(figures)
        if len(started) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
    return trained(self, settings, hear)

Search.trained = dying
home = Home(Path(sys.argv[1]) / "cache", Path(sys.argv[1]) / "manifests")
settings = dict(word.split("=") for word in sys.argv[2:])
tune(search_for(home, read(home, "signs"), "lstm_late", settings, device="cpu"), 4)
"""


def test_a_search_killed_in_a_trial_goes_on_as_if_it_had_not_been(signs: Fixture, tmp_path: Path) -> None:
    shutil.copytree(signs[0].cache, tmp_path / "whole" / "cache")
    whole = silently((Home(tmp_path / "whole" / "cache", signs[0].manifests), signs[1]), 4)
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    child = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert "trial 1/4" in child.stdout
    found = silently(signs, 4)
    assert figures(found) == figures(whole)
    assert len(found.trials) == 4
    states = [trial.state.name for trial in trials_of(found)]
    assert states.count("FAIL") == 1


def trials_of(found: Found) -> list[optuna.trial.FrozenTrial]:
    """Every trial in the file, those that do not count too."""
    storage = optuna.storages.RDBStorage(f"sqlite:///{found.place}")
    try:
        return optuna.load_study(study_name=found.study, storage=storage).get_trials(deepcopy=False)
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_an_interrupted_trial_does_not_count(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fitting.Fitting, "_judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            silently(signs, 2)
    found = silently(signs, 1)
    assert [tried.number for tried in found.trials] == [1]
    assert [trial.state.name for trial in trials_of(found)] == ["FAIL", "COMPLETE"]
    assert found.trials[0].settings["dropout"] == 0.3  # the settings as they are come first all the same


def test_past_its_random_beginning_an_interrupted_search_goes_on_alike(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = list[int]()

    def trained(self: Search, settings: dict[str, Any], hears: Any) -> Any:
        calls.append(1)
        if len(calls) == 14 + 12:
            raise KeyboardInterrupt
        return settings["dropout"]

    monkeypatch.setattr(Search, "trained", trained)
    monkeypatch.setattr(Search, "judged", lambda self, value: (value, 1.0))
    whole = silently(signs, 14)
    shutil.rmtree(signs[0].cache / "tuning")
    with pytest.raises(KeyboardInterrupt):
        silently(signs, 14)
    assert figures(silently(signs, 14)) == figures(whole)
    assert [trial.state.name for trial in trials_of(whole)].count("FAIL") == 1
