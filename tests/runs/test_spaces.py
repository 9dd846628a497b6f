"""Spaces of a search, and the line that trains what it found."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from models.transformer import Transformer
from pipeline import registry
from pipeline.corpus.manifest import Home
from pipeline.learning.recipe import Between, Choice, Recipe
from pipeline.runs.trials import training_line
from tests.checkout import ROOT

torch.set_num_threads(1)


def test_the_best_is_printed_as_a_line_that_make_reads_back() -> None:
    settings = {"stages": "kinematics,keypoints", "layers": 4, "lr": 0.00034, "class_weights": "none"}
    line = training_line(Home(), "include50", "transformer", settings, 3)
    words = 'SET="stages=kinematics,keypoints layers=4 lr=0.00034 class_weights=none"'
    assert line == f"make train DATASET=include50 MODEL=transformer {words} SEED=3"
    command, *rest = shlex.split(line)
    shell = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    would = subprocess.run([command, "-n", "VENV=/venv", *rest], cwd=ROOT, env=shell, capture_output=True, text=True, check=True).stdout
    said = shlex.split(would)
    assert said[said.index("train") : said.index("train") + 3] == ["train", "include50", "transformer"]
    given = dict(said[place + 1].split("=", 1) for place, word in enumerate(said) if word == "--set")
    recipe: Recipe = registry.create("model", "transformer", given)
    assert {key: getattr(recipe, key) for key in ("layers", "lr", "stages")} == {
        "layers": 4,
        "lr": 0.00034,
        "stages": ("kinematics", "keypoints"),
    }
    assert said[said.index("--seed") + 1] == "3"


def test_a_line_that_make_cannot_say_is_signcaches_own(tmp_path: Path) -> None:
    home = Home(tmp_path / "a b", tmp_path / "m")
    line = shlex.split(training_line(home, "signs", "lstm_late", {"lr": 0.1, "stages": "a"}, 0))
    assert line[:5] == ["signcache", "--cache", str(home.cache), "--manifests", str(home.manifests)]
    assert line[5:] == ["train", "signs", "lstm_late", "--set", "lr=0.1", "--set", "stages=a"]
    assert training_line(Home(), "signs", "m", {"weights": "$HOME/it's"}, 0).startswith("signcache train signs m --set ")


def test_the_transformers_space_is_its_sources() -> None:
    space: Any = Transformer.space
    assert space["layers"] == Choice((4, 6, 8))
    assert space["width"] == Choice((128, 256))
    assert space["lr"] == Between(1e-5, 1e-3, log=True)
    assert space["batch_size"] == Choice((32, 64, 128))


@pytest.mark.parametrize("model", registry.names("model"))
def test_every_space_names_fields_and_holds_values_that_they_take(model: str) -> None:
    kind: type[Recipe] = registry.find("model", model)
    for field, where in kind.space.items():
        for value in where.values if isinstance(where, Choice) else (where.low, where.high):
            assert getattr(registry.create("model", model, {field: value}), field) == value
