"""What changes the identity of a stage, and what does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.atomic import digest_of
from pipeline.cache import code, weights
from pipeline.cache import identity as fingerprints
from pipeline.cache.code import code_hashes
from pipeline.cache.identity import differences, fingerprint
from pipeline.errors import UserError

GOLDEN = Path(__file__).parents[1] / "golden"
BODY = '''"""A stage."""
from math import sqrt
import numpy as np

SCALE = 2.5
NAMES = ["a", 'b']


class Stage:
    """Makes rows."""

    def rows(self, values, *, most=30):
        """Rows of values."""
        if (most := most + 1) > 3 and values:
            return [sqrt(value) * SCALE for value in values[:most]], f"{most:>{4}} rows"
        return {"names": NAMES, "size": 1_000}
'''
SAME = {
    "a comment": ("SCALE = 2.5", "SCALE = 2.5  # of the paper"),
    "a line of comment": ("class Stage", "# the stage\nclass Stage"),
    "the docstring of the file": ('"""A stage."""\n', ""),
    "the docstring of a class": ("Makes rows", "Returns rows"),
    "no docstring of a function": ('        """Rows of values."""\n', ""),
    "blank lines": ("\n\n\nclass", "\n\n\n\n\nclass"),
    "quotes": ("'b'", '"b"'),
    "a text in two parts": ('"names"', '"na" "mes"'),
    "a wrapped line": ("[\"a\", 'b']", "[\n    'a',\n    'b',\n]"),
    "a trailing comma": ("(self, values, *, most=30)", "(self, values, *, most=30,)"),
    "brackets": ("(most := most + 1) > 3 and values", "((most := most + 1) > 3) and (values)"),
    "digits": ("1_000", "1000"),
    "indentation": ("        return {", "        return  {"),
    "windows line ends": ("\n", "\r\n"),
}
OTHER = {
    "a constant": ("2.5", "2.25"),
    "the type of a constant": ("30", "30.0"),
    "a text": ('"a"', '"A"'),
    "an operator": ("most + 1", "most - 1"),
    "a comparison": ("> 3", ">= 3"),
    "a boolean": (" and ", " or "),
    "a name": ("sqrt(value)", "abs(value)"),
    "an import": ("from math import sqrt", "from cmath import sqrt"),
    "a default": ("most=30", "most=60"),
    "a parameter": ("(self, values, *,", "(self, values,"),
    "a slice": ("values[:most]", "values[most:]"),
    "an order": ("[\"a\", 'b']", "['b', 'a']"),
    "a list that becomes a tuple": ("[\"a\", 'b']", '("a", "b")'),
    "a format": (":>{4}", ":<{4}"),
    "a conversion": ("{most:", "{most!r:"),
    "a decorator": ("    def rows", "    @property\n    def rows"),
    "a base": ("class Stage:", "class Stage(dict):"),
    "a statement more": ("SCALE = 2.5", "SCALE = 2.5\nSCALE += 1"),
    "a statement less": ("import numpy as np\n", ""),
}


def hashes(folder: Path, **files: str) -> dict[str, str]:
    """The code hashes of `stages/stage.py` among these files."""
    package = folder / "stages"
    shutil.rmtree(package, ignore_errors=True)
    for name, text in files.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return code_hashes(package / "stage.py")


@pytest.mark.parametrize("edit", SAME)
def test_layout_and_words_for_people_do_not_count(edit: str, tmp_path: Path) -> None:
    before, after = SAME[edit]
    assert before in BODY
    assert hashes(tmp_path, stage=BODY.replace(before, after)) == hashes(tmp_path, stage=BODY)


@pytest.mark.parametrize("edit", OTHER)
def test_whatever_python_runs_counts(edit: str, tmp_path: Path) -> None:
    before, after = OTHER[edit]
    assert BODY.count(before) == 1
    assert hashes(tmp_path, stage=BODY.replace(before, after)) != hashes(tmp_path, stage=BODY)


@given(st.sets(st.sampled_from(sorted(OTHER))), st.sets(st.sampled_from(sorted(set(SAME) - {"windows line ends"}))))
def test_any_set_of_edits_is_told_from_the_others(tmp_path_factory: pytest.TempPathFactory, edits: set[str], layout: set[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "edits"
    plain, dressed = BODY, BODY
    for edit in sorted(edits):
        plain, dressed = plain.replace(*OTHER[edit]), dressed.replace(*OTHER[edit])
    for edit in sorted(layout):
        dressed = dressed.replace(*SAME[edit])
    assert hashes(folder, stage=dressed) == hashes(folder, stage=plain)
    assert (hashes(folder, stage=dressed) == hashes(folder, stage=BODY)) == (plain == BODY)


@pytest.mark.parametrize(
    "line",
    [
        "from stages.part import f",
        "from stages import part",
        "import stages.part",
        "import stages.part as p",
        "from . import part",
        "from .part import f",
        "def g():\n    from stages import part",
        "if True:\n    try:\n        from .part import f\n    except ImportError: ...",
        "import numpy, stages.part",
    ],
)
def test_a_file_of_the_same_folder_counts_when_it_is_imported(line: str, tmp_path: Path) -> None:
    found = hashes(tmp_path, stage=line, part="X = 1", unused="Y = 1")
    assert list(found) == ["stages/part.py", "stages/stage.py"]
    changed = hashes(tmp_path, stage=line, part="X = 2", unused="Y = 2")
    assert changed["stages/stage.py"] == found["stages/stage.py"]
    assert changed["stages/part.py"] != found["stages/part.py"]


@pytest.mark.parametrize(
    ("before", "after", "counts"),
    [
        ("most: int = 30", "most: int = 60", False),
        ("most: int = 30", "most: int", False),
        ("version = 1", "version = 2", False),
        ("version = 1\n", "\n", False),
        ("most: int = 30", "most: float = 30", True),
        ("LIMIT = 5", "LIMIT = 6", True),
        ("class Other:\n    most: int = 3", "class Other:\n    most: int = 4", True),
    ],
)
def test_defaults_of_fields_and_the_version_are_told_once_and_not_as_code(before: str, after: str, counts: bool, tmp_path: Path) -> None:
    def hashed(text: str) -> dict[str, str]:
        (tmp_path / "stage.py").write_text(text)
        return code_hashes(tmp_path / "stage.py", "Own", {"most", "version"})

    text = "class Own:\n    version = 1\n    most: int = 30\n    LIMIT = 5\n\n\nclass Other:\n    most: int = 3\n"
    assert before in text
    assert (hashed(text.replace(before, after)) != hashed(text)) is counts


def test_imports_count_at_any_depth_and_may_turn_in_a_circle(tmp_path: Path) -> None:
    files = {"stage": "from . import one", "one": "from stages.two import f", "two": "from . import stage, three", "three": "Z = 1"}
    found = hashes(tmp_path, **files)
    assert list(found) == [f"stages/{name}.py" for name in ("one", "stage", "three", "two")]
    assert hashes(tmp_path, **{**files, "three": "Z = 2"})["stages/three.py"] != found["stages/three.py"]


def test_files_of_other_packages_do_not_count(tmp_path: Path) -> None:
    assert list(hashes(tmp_path, stage="import part\nfrom pipeline import part\nfrom math import part", part="X = 1")) == [
        "stages/stage.py"
    ]


def sample_digest() -> str:
    return str(json.loads((GOLDEN / "digests.json").read_text())["code"])


def test_the_golden_source_keeps_its_digest() -> None:
    (digest,) = code_hashes(GOLDEN / "sample_stage.txt").values()
    assert digest == sample_digest(), "the walk changed: every cache of every user would be stale"


CANONICAL = """if True:
    import ast, hashlib, json, sys
    scope = {"ast": ast, "Any": object}
    tree = ast.parse(open(sys.argv[1]).read())
    wanted = ("canonical", "_counting", "_brought", "_is_text_statement")
    parts = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in wanted]
    exec(compile(ast.Module(parts, []), "walk", "exec"), scope)
    value = scope["canonical"](ast.parse(open(sys.argv[2], "rb").read()))
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    print(hashlib.sha256(text.encode()).hexdigest()[:16])"""


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_every_python_gives_the_golden_digest(python: str) -> None:
    installed = [str(path) for path in sorted(Path.home().glob(f".pyenv/versions/{python}.*/bin/python"))]
    for name in (f"python{python}", *installed):
        found = shutil.which(name)
        version = found and subprocess.run(
            [found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True
        )
        if version and version.stdout.strip() == python:
            break
    else:
        pytest.skip(f"no Python {python} here")
    command = [str(found), "-c", CANONICAL, str(code.__file__), str(GOLDEN / "sample_stage.txt")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sample_digest()


def test_weights_are_their_bytes_wherever_they_lie(tmp_path: Path) -> None:
    for name, content in (("a.pth", b"one"), ("elsewhere.pth", b"one"), ("b.pth", b"two")):
        (tmp_path / name).write_bytes(content)
    a, elsewhere, b = (
        fingerprint(registry.create("stage", "resnet50", {"weights": str(tmp_path / n)})) for n in ("a.pth", "elsewhere.pth", "b.pth")
    )
    assert a == elsewhere
    assert a.digest != b.digest
    assert "weights" not in a.identity["fields"]
    assert differences(a.identity, b.identity) == ["weights file 7692c3ad -> file 3fc4ccfe"]


def test_weights_that_are_gone_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weights='.*gone\.pth' is no file; use random:SEED or the path of a checkpoint"):
        weights.describe(str(tmp_path / "gone.pth"), {})


def test_differences_are_said_in_words() -> None:
    old = fingerprint(registry.create("stage", "resnet50", {"weights": "random:0"})).identity
    new = fingerprint(registry.create("stage", "resnet50", {"weights": "random:1", "max_frames": 60, "resize": (96, 96)}), "up").identity
    assert differences(old, old) == []
    assert differences(old, new) == [
        "max_frames 30 -> 60",
        "resize 224,224 -> 96,96",
        "weights random:0 -> random:1",
        "upstream none -> up",
    ]
    other = {
        **old,
        "code": {"stages/resnet50.py": "x"},
        "libraries": {"torch": "1"},
        "numbers": 2,
        "version": 3,
        "weights": None,
        "class": "C",
    }
    assert differences(old, other) == [
        "code of stages/resnet50.py",
        "torch none -> 1",
        "weights random:0 -> none",
        "class ResNet50 -> C",
        "version 1 -> 3",
        f"decoding of signcache {fingerprints.NUMBERS_VERSION} -> 2",
    ]


def test_versions_of_named_libraries_and_the_upstream_are_part_of_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = registry.create("stage", "radar_cnn")
    digests = {fingerprint(stage).digest, fingerprint(stage, "one").digest, fingerprint(stage, "two").digest}
    monkeypatch.setattr(type(stage), "libraries", ("numpy",))
    digests.add(fingerprint(stage).digest)
    monkeypatch.setattr(fingerprints, "library_version", lambda name: "0.0")
    digests.add(fingerprint(stage).digest)
    monkeypatch.setattr(fingerprints, "NUMBERS_VERSION", 99)
    digests.add(fingerprint(stage).digest)
    assert len(digests) == 6


def test_digests_are_of_canonical_json() -> None:
    assert digest_of({"b": 1, "a": [1.5, "ž"]}) == digest_of({"a": [1.5, "ž"], "b": 1})
    assert digest_of({"a": 1}) == "015abd7f5cc57a2d"
    with pytest.raises(ValueError, match="Out of range float values"):
        digest_of(float("nan"))


def test_an_identity_is_the_same_in_another_process() -> None:
    code = """if True:
        from pipeline import registry
        from pipeline.cache.identity import fingerprint
        print(fingerprint(registry.create('stage', 'resnet50')).digest)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == fingerprint(registry.create("stage", "resnet50")).digest
