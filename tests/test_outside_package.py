"""A package of somebody's own adds a stage and a corpus by entry points: listed, tested, extracted and known by its own code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT, write_clip

STAGE = '''"""Mean brightness, of a package outside."""

from collections.abc import Iterator

import numpy as np

from pipeline.types import Array, Extractor, Frame
from waving._scale import SCALE


class Bright(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(T, 1)` float32, the mean of each."""

    source: str = "rgb"
    gain: float = 1.0

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (1,)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            yield np.array([image.mean() * self.gain * SCALE], np.float32)


stage: type[Extractor] = Bright
'''
CORPUS = '''"""Clips beside one another, labelled by their first letter."""

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.types import Dataset, Sample


class Letters:
    layout = "<letter><anything>.mp4"
    stages = {"bright": {"gain": 2.0}}
    training = {"lstm_late": {"epochs": 1}}

    def samples(self, root: Path) -> Iterator[Sample]:
        files = sorted(root.glob("*.mp4"))
        if not files:
            raise UserError(f"no clips below {root}; expected: {self.layout}")
        for file in files:
            yield Sample(file.stem, {"rgb": (file.name,)}, file.name[0], "unassigned", None)

    def classes(self, labels: set[str]) -> list[str]:
        return sorted(labels)


letters: Dataset = Letters()
'''
SUITES = """from pipeline.testing import DatasetContract, StageContract


class TestStages(StageContract):
    names = ("bright",)


class TestCorpora(DatasetContract):
    names = ("letters",)
"""
ENTRY_POINTS = """[signcache.stages]
bright = waving.bright

[signcache.datasets]
letters = waving.corpora:letters
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder in which `waving` 1.0 is installed."""
    files = {
        "waving/__init__.py": "",
        "waving/_scale.py": "SCALE = 3.0\n",
        "waving/bright.py": STAGE,
        "waving/corpora.py": CORPUS,
        "test_waving.py": SUITES,
        "waving-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: waving\nVersion: 1.0\n",
        "waving-1.0.dist-info/entry_points.txt": ENTRY_POINTS,
    }
    for name, text in files.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for number, clip in enumerate(("a1", "a2", "a3", "b1", "b2", "b3")):
        write_clip(tmp_path / "clips" / f"{clip}.mp4", number)
    return tmp_path / "site"


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A Python process that finds the package and this checkout, with a cache of its own."""
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=site, env=env)


def signcache(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    folders = ("--cache", str(site.parent / "cache"), "--manifests", str(site.parent / "manifests"))
    return run(site, "-m", "pipeline", *folders, *words)


def test_a_package_of_ones_own_passes_the_suites(site: Path) -> None:
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(site))
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
    assert "failed" not in done.stdout


def test_its_stage_and_corpus_are_listed_extracted_and_stale_when_their_code_changes(site: Path) -> None:
    listed = signcache(site, "doctor").stdout
    assert "bright" in listed
    assert "letters" in listed
    done = signcache(site, "extract", "letters", "--root", str(site.parent / "clips"))
    assert done.returncode == 0, done.stderr
    fresh = signcache(site, "plan", "letters", "--json").stdout
    assert '"fresh": 6' in fresh
    (site / "waving" / "_scale.py").write_text("SCALE = 4.0\n")
    stale = signcache(site, "plan", "letters")
    assert "code of waving/_scale.py" in stale.stdout + stale.stderr


def test_a_name_that_stands_twice_is_one_line(site: Path) -> None:
    twice = site / "waving-1.0.dist-info" / "entry_points.txt"
    twice.write_text(ENTRY_POINTS.replace("bright = ", "resnet50 = "))
    done = signcache(site, "plan", "letters", "--root", str(site.parent / "clips"))
    assert done.returncode == 2
    said = "signcache: two stages are called 'resnet50': stages/resnet50.py and waving.bright; rename one, or uninstall its package"
    assert done.stderr.strip() == said


def test_an_entry_point_to_nothing_is_one_line(site: Path) -> None:
    (site / "waving-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS.replace("waving.bright", "waving.gone"))
    done = signcache(site, "plan", "letters", "--root", str(site.parent / "clips"))
    assert done.returncode == 2
    assert done.stderr.startswith("signcache: waving.gone cannot be imported: ModuleNotFoundError")
