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
from pipeline.recipe_code import _modules
from pipeline.types import Recipe
from tests.feature_cache import balanced, corpus, publish, signals
from tests.killing import ROOT

CODES = """
import json
from pipeline import registry
from pipeline.recipe_code import code_of

print(json.dumps({name: code_of(registry.create("model", name)) for name in ("lstm_late", "xgb_meta")}))
"""
LSTM = ["--set", "epochs=2", "--set", "hidden=8", "--set", "batch_size=8", "--set", "normalize=none", "--device", "cpu"]
EDITED = """
import models.lstm_late
from pathlib import Path

Path(models.lstm_late.__file__).write_text("EDITED = 1")
"""


class Copy:
    """The code in a folder of its own, where a test edits it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in ("pipeline", "stages", "models"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))

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
    copy.edit("pipeline/mixing.py", "1e-30", "1e-20")
    found = copy.codes()
    assert found["lstm_late"] == codes["lstm_late"]
    assert found["xgb_meta"]["pipeline"] != codes["xgb_meta"]["pipeline"]


def test_where_machinery_lives_what_is_said_of_it_and_what_a_search_may_set_change_no_run(
    copy: Copy, codes: dict[str, dict[str, str]]
) -> None:
    room = copy.folder / "pipeline/room"
    room.mkdir()
    for name in ("losses", "batch"):
        shutil.move(copy.folder / f"pipeline/{name}.py", room / f"{name}.py")
    (room / "__init__.py").write_text('"""A room."""\n\nfrom pipeline.room.batch import Batch, check_vectors, fused, share_of\n')
    for path in [*copy.folder.glob("*/*.py"), *copy.folder.glob("*/*/*.py")]:
        text = path.read_text().replace("from pipeline.batch import", "from pipeline.room import")
        path.write_text(text.replace("import atomic, devices, journal, losses, schedule", "import atomic, devices, journal, schedule"))
    copy.edit("pipeline/fitting.py", "from pipeline.augment import", "from pipeline.room import losses\nfrom pipeline.augment import")
    copy.edit("pipeline/network.py", "import atomic, losses", "import atomic\nfrom pipeline.room import losses")
    copy.edit("models/frame_cnn.py", "from pipeline import losses", "from pipeline.room import losses")
    schedule = copy.folder / "pipeline/schedule.py"
    text, drops = (part for part in schedule.read_text().split("\n\n\ndef drops"))
    schedule.write_text(f"{text}\n")
    copy.edit("pipeline/schedule.py", "from pipeline.epochs", "from pipeline.room.losses import drops\nfrom pipeline.epochs")
    copy.edit("pipeline/room/losses.py", "\n\n\ndef balanced", f"\n\n\ndef drops{drops}\n\ndef balanced")
    copy.edit(
        "pipeline/room/losses.py",
        "import numpy as np",
        "from collections.abc import Sequence\n\nfrom pipeline.epochs import Epoch\nimport numpy as np",
    )
    copy.edit("pipeline/order.py", '"""The clips of each batch', '# A comment.\n"""Clips of each batch')
    copy.edit("models/transformer.py", "Choice((4, 6, 8))", "Choice((2, 4))")
    assert copy.codes() == codes


def test_a_model_edited_after_it_was_loaded_counts_as_it_was_loaded(copy: Copy, codes: dict[str, dict[str, str]]) -> None:
    assert json.loads(copy.python("-c", f"import pipeline.code{EDITED}{CODES}")) == codes


@pytest.mark.parametrize("name", registry.names("model"))
def test_the_loop_of_every_model_counts_and_where_its_rows_come_from_does_not(name: str) -> None:
    recipe: Recipe = registry.create("model", name)
    found = {module.removeprefix("pipeline.") for module in _modules(recipe)}
    assert {"batch", "data", "order", "network", "fitting", "losses", "schedule", "augment", "devices"} <= found
    assert f"models.{name}" in found
    assert not {"cache", "features", "shards", "manifest", "registry", "runs", "journal", "errors", "types"} & found


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
