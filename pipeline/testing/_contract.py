"""How a suite gets a test for each of its names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import ClassVar

import pytest


class Contract:
    """Rules about each of `names`; a test that takes `name` runs once for each of them."""

    names: ClassVar[Sequence[str]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Called by pytest for every test of a class."""
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", [name for name in self.names if self.concerns(name, metafunc.fixturenames)])

    def concerns(self, name: str, fixtures: Sequence[str]) -> bool:
        """Whether a test with these fixtures is about `name`."""
        return True


def printed(code: str) -> list[str]:
    """The words that a new Python process prints; what it raises fails the test."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()
