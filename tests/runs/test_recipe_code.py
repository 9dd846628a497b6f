"""The code that makes a run: found by what a recipe imports, wherever it lives, and read once a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import registry
from pipeline.learning.recipe import Recipe
from pipeline.runs._recipe_code import _modules
from tests.feature_cache import balanced, corpus, publish, signals
from tests.killing import ROOT

CODES = """
import json
from pipeline import registry
from pipeline.runs._recipe_code import code_of

print(json.dumps({name: code_of(registry.create("model", name)) for name in ("lstm_late", "toy")}))
"""
ROOTS = """

def root(number):
    return math.sqrt(number)
"""
TOY = {
    "models/toy.py": '''"""A toy."""

from typing import Any, ClassVar

from models._inputs import Sequences
from models.transformer import Between
from pipeline.toy_loop import turns


class Toy(Sequences):
    space: ClassVar[Any] = {}
    stages: tuple[str, ...] = ("resnet50",)

    def build(self, dims, n_classes):
        return turns(2)


model = Toy
''',
    "pipeline/toy_loop.py": f'''"""A loop."""

import math

from pipeline.toy_steps import step
{ROOTS}

def turns(count):
    return [step(root(number)) for number in range(count)]
''',
    "pipeline/toy_steps.py": '''"""Steps."""


def step(number):
    return number + 1
''',
}
LSTM = ["--set", "epochs=2", "--set", "hidden=8", "--set", "batch_size=8", "--set", "normalize=none", "--device", "cpu"]
EDITED = """
import models.lstm_late
from pathlib import Path

Path(models.lstm_late.__file__).write_text("EDITED = 1")
"""


class Copy:
    """The code, and a toy model, in a folder of their own, where a test edits them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in ("pipeline", "stages", "models"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file, text in TOY.items():
            (folder / file).write_text(text)

    def python(self, *words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, *words], cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def codes(self) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = json.loads(self.python("-c", CODES))
        return found

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path / "copy")


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return Copy(tmp_path_factory.mktemp("code") / "copy").codes()


def test_an_edit_of_what_a_recipe_imports_is_another_run_of_that_recipe_alone(copy: Copy, codes: dict[str, dict[str, str]]) -> None:
    copy.edit("pipeline/toy_steps.py", "number + 1", "number + 2")
    found = copy.codes()
    assert found["lstm_late"] == codes["lstm_late"]
    assert found["toy"]["models/toy.py"] == codes["toy"]["models/toy.py"]
    assert found["toy"]["pipeline"] != codes["toy"]["pipeline"]


def test_where_machinery_lives_what_is_said_of_it_and_what_a_search_may_set_change_no_run(
    copy: Copy, codes: dict[str, dict[str, str]]
) -> None:
    (copy.folder / "pipeline/toys").mkdir()
    (copy.folder / "pipeline/toys/__init__.py").write_text('"""A room."""\n\nfrom pipeline.toys.steps import root, step\n')
    shutil.move(copy.folder / "pipeline/toy_steps.py", copy.folder / "pipeline/toys/steps.py")
    copy.edit("pipeline/toys/steps.py", '"""Steps."""', f'"""Steps and roots."""\n\nimport math\n{ROOTS}')
    copy.edit("pipeline/toy_loop.py", ROOTS, "\n# Roots are steps.\n")
    copy.edit("pipeline/toy_loop.py", "import math\n\nfrom pipeline.toy_steps import step", "from pipeline.toys import root, step")
    copy.edit("models/toy.py", "= {}", '= {"lr": Between(1e-4, 1e-2)}')
    assert copy.codes() == codes


def test_a_model_edited_after_it_was_loaded_counts_as_it_was_loaded(copy: Copy, codes: dict[str, dict[str, str]]) -> None:
    assert json.loads(copy.python("-c", f"import pipeline.cache.code{EDITED}{CODES}")) == codes


@pytest.mark.parametrize("name", registry.names("model"))
def test_the_loop_of_every_model_counts_and_where_its_rows_come_from_does_not(name: str) -> None:
    recipe: Recipe = registry.create("model", name)
    modules = _modules(recipe)
    found = {module.rpartition(".")[2] for module in modules if module.startswith("pipeline.")}
    loop = set() if name == "xgb" else {"network", "fitting", "checkpoint"}  # trees alone are grown without it
    assert {"batch", "table", "_order", "losses", "schedule", "augment", "devices", *loop} <= found
    assert f"models.{name}" in modules
    assert (
        not {"publishing", "features", "shards", "manifest", "registry", "run_folder", "journal", "errors", "types", "plan", "stage"}
        & found
    )


def test_a_model_edited_while_its_folds_train_is_recorded_as_it_was_loaded(copy: Copy, tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    words = ["--cache", str(home.cache), "--manifests", str(home.manifests), "train", "signs", "lstm_late", *LSTM, "--folds", "3", "--json"]
    line, editing = "        return LateLstm(", "        open(__file__, 'a').write('EDITED = 1\\n')\n        return LateLstm("
    copy.edit("models/lstm_late.py", line, editing)
    whole = Path(json.loads(copy.python("-m", "pipeline", *words))["run"])
    assert (copy.folder / "models/lstm_late.py").read_text().count("EDITED = 1") >= 3
    record = json.loads((whole / "run.json").read_text())
    folds = [json.loads((whole.parent / fold / "run.json").read_text()) for fold in record["folds"]]
    assert [fold["code"] for fold in folds] == [record["code"]] * 3
    assert len(list(whole.parent.iterdir())) == 4
    text = (copy.folder / "models/lstm_late.py").read_text()
    (copy.folder / "models/lstm_late.py").write_text(text.replace("EDITED = 1\n", ""))
    assert json.loads(copy.python("-m", "pipeline", *words))["run"] == str(whole)
