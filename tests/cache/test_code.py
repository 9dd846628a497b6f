"""Which files are a stage's code, and what of their imports from `pipeline` counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import registry
from pipeline.cache.code import code_hashes
from pipeline.errors import UserError
from tests.cache.test_fingerprint import hashes
from tests.checkout import Checkout

FILES = {
    "__init__": "",
    "stage": "X = 1",
    "_net/__init__": "from stages._net.layer import f",
    "_net/layer": "from .. import _top\nfrom .deep.part import g\nX = 1",
    "_net/deep/__init__": "X = 1",
    "_net/deep/part": "X = 1",
    "_net/unused": "X = 1",
    "_top": "X = 1",
}
PACKAGE = [f"stages/{name}.py" for name in ("_net/__init__", "_net/deep/__init__", "_net/deep/part", "_net/layer", "_top", "stage")]


@pytest.mark.parametrize(
    "line",
    [
        "from stages._net import f",
        "from stages import _net",
        "import stages._net",
        "import stages._net.layer as layer",
        "from . import _net",
        "from ._net.layer import f",
        "def g():\n    from ._net import layer",
    ],
)
def test_a_package_counts_with_all_that_runs_when_it_is_imported(line: str, tmp_path: Path) -> None:
    found = hashes(tmp_path, **{**FILES, "stage": line})
    assert list(found) == PACKAGE
    for name in ("_net/__init__", "_net/deep/__init__", "_net/deep/part", "_net/layer", "_top"):
        changed = hashes(tmp_path, **{**FILES, "stage": line, name: f"{FILES[name]}\nY = 2"})
        assert [file for file in found if found[file] != changed[file]] == [f"stages/{name}.py"]


def test_a_stage_that_is_a_package_is_all_that_it_imports(tmp_path: Path) -> None:
    hashes(tmp_path, **FILES)
    assert list(code_hashes(tmp_path / "stages/_net/__init__.py")) == [file for file in PACKAGE if file != "stages/stage.py"]


def test_what_every_stage_runs_on_its_way_counts_where_there_is_any(tmp_path: Path) -> None:
    assert list(hashes(tmp_path, **{**FILES, "__init__": '"""The stages."""\n'})) == ["stages/stage.py"]
    assert list(hashes(tmp_path, **{**FILES, "__init__": "X = 1"})) == ["stages/__init__.py", "stages/stage.py"]


def test_a_stage_of_another_package_counts_with_what_it_takes_from_stages(tmp_path: Path) -> None:
    (tmp_path / "waving").mkdir()
    (tmp_path / "waving/__init__.py").touch()
    (tmp_path / "waving/bright.py").write_text("from stages._points import FIGURES\nfrom . import part")
    (tmp_path / "waving/part.py").write_text("X = 1")
    registry.find("stage", "kinematics")
    assert list(code_hashes(tmp_path / "waving/bright.py")) == ["stages/_points.py", "waving/bright.py", "waving/part.py"]


def test_a_stage_in_no_package_is_its_file_wherever_it_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for place in ("site-packages", "src"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "bright.py").write_text("X = 1")
        monkeypatch.syspath_prepend(str(tmp_path / place))
        found.append(code_hashes(tmp_path / place / "bright.py"))
    assert list(found[0]) == ["bright.py"]
    assert found[0] == found[1]


def test_a_file_that_is_no_python_is_one_line(tmp_path: Path) -> None:
    text = r"^stages/part\.py cannot be read: SyntaxError in line 1: .*; mend it, then run this again$"
    with pytest.raises(UserError, match=text):
        hashes(tmp_path, stage="from . import part", part="X = (")


PLACES = {
    "another module": ("from pipeline.types import Array, evenly", "from pipeline.rooms.nouns import Array, evenly"),
    "two modules": ("from pipeline.types import Array, evenly", "from pipeline.a import Array\nfrom pipeline.b import evenly"),
    "another order": ("from pipeline.types import Array, evenly", "from pipeline.types import evenly, Array"),
    "another place": ("import numpy\nfrom pipeline.types import Array, evenly", "from pipeline.types import Array, evenly\nimport numpy"),
    "under a name": ("from pipeline import weights as w", "from pipeline.cache.publishing import weights as w"),
    "a module": ("import pipeline.decoding.decode as d", "import pipeline.extraction.preparing.decode_processes.video as d"),
    "within a function": ("from pipeline.decoding.decode import gray", "from pipeline.extraction.preparing.decode_processes import gray"),
}
NAMES = {
    "another name": ("import Array, evenly", "import Array, oddly"),
    "a name less": ("import Array, evenly", "import evenly"),
    "called otherwise": ("import Array, evenly", "import Array, evenly as e"),
    "another thing under a name": ("import weights as w", "import network as w"),
    "a module called otherwise": ("import pipeline.decoding.decode as d", "import pipeline.decoding.decode as e"),
    "from elsewhere": ("from pipeline.decoding.decode import gray", "from numpy import gray"),
}
LINES = """import numpy
from pipeline.types import Array, evenly
from pipeline import weights as w
import pipeline.decoding.decode as d


def f():
    from pipeline.decoding.decode import gray
"""


@pytest.mark.parametrize("move", PLACES)
def test_where_machinery_lives_is_no_part_of_a_stage(move: str, tmp_path: Path) -> None:
    before, after = PLACES[move]
    assert before in LINES
    assert hashes(tmp_path, stage=LINES.replace(before, after)) == hashes(tmp_path, stage=LINES)


@pytest.mark.parametrize("edit", NAMES)
def test_the_names_that_it_takes_from_there_are(edit: str, tmp_path: Path) -> None:
    before, after = NAMES[edit]
    assert before in LINES
    assert hashes(tmp_path, stage=LINES.replace(before, after)) != hashes(tmp_path, stage=LINES)


def test_a_function_of_the_machinery_that_moved_to_another_module_keeps_the_cache(checkout: Checkout) -> None:
    text = (checkout.folder / "pipeline/types.py").read_text()
    a = text.index("def evenly(")
    function = text[a : text.index("\n\n\n", a)] + "\n"
    checkout.edit("pipeline/types.py", function, "")
    head = "import numpy as np\nfrom numpy.typing import NDArray\n\n\n"
    (checkout.folder / "pipeline/spacing.py").write_text(head + function)
    for path in (checkout.folder / "stages").glob("*.py"):
        stage = path.read_text()
        for line in [line for line in stage.splitlines() if line.startswith("from pipeline.types import") and "evenly" in line]:
            rest = line.replace(", evenly", "").replace("evenly, ", "")
            stage = stage.replace(line, f"from pipeline.spacing import evenly\n{rest}")
        path.write_text(stage)
    assert "spacing" in (checkout.folder / "stages/colour.py").read_text()
    assert {name: part["fresh"] for name, part in checkout.plan("colour", "brightness").items()} == {"colour": 6, "brightness": 6}
    assert checkout.extracted("colour") == {}


def test_features_from_before_places_stopped_counting_are_adopted(checkout: Checkout) -> None:
    checkout.edit("pipeline/cache/code.py", '.partition(".")[0] == "pipeline"', '.partition(".")[0] == "nowhere"')
    old = checkout.plan("colour")["colour"]
    assert (old["fresh"], list(old["reasons"])) == (0, ["stale: code of stages/colour.py; code of stages/palette.py"])
    checkout.ok("extract", "tiny", "colour", "brightness")
    rows = checkout.rows("colour"), checkout.rows("brightness")
    checkout.edit("pipeline/cache/code.py", '"nowhere"', '"pipeline"')
    for marker in checkout.markers("colour"):
        if marker.parent.name != old["digest"]:
            marker.unlink()  # what the fixture extracted with today's identity
    assert checkout.plan("colour")["colour"]["fresh"] == 0
    for stage in ("colour", "brightness"):
        checkout.ok("adopt", "tiny", stage, "--sample", "2")
        assert checkout.plan(stage)[stage]["fresh"] == 6
    assert (checkout.rows("colour"), checkout.rows("brightness")) == rows
    assert checkout.extracted("colour", "brightness") == {}
