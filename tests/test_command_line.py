"""What the command line says of itself, and what its installation is held to."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.cli import SECTIONS, main

ROOT = Path(__file__).parents[1]


def test_help_groups_the_commands_in_the_order_of_the_work_and_cuts_no_summary() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    listed = re.findall(r"^  ([a-z-]+)  ", said.partition("Stage one")[2], flags=re.MULTILINE)
    assert listed[:4] == ["manifest", "plan", "extract", "status"]
    assert listed.index("extract") < listed.index("train") < listed.index("evaluate") < listed.index("predict") < listed.index("gc")
    assert sorted(listed) == sorted(main.commands)
    assert "..." not in said.partition("Stage one")[2]
    assert [said.index(f"{section}:") for section in SECTIONS] == sorted(said.index(f"{section}:") for section in SECTIONS)


def pins(python: str) -> dict[str, str]:
    """`{package: version}` that `make setup` installs on Linux with this Python."""
    machine = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux", "platform_system": "Linux"}
    machine |= {"platform_machine": "x86_64", "implementation_name": "cpython", "platform_python_implementation": "CPython"}
    found: dict[str, str] = {}
    for line in (ROOT / ".requirements.txt").read_text().splitlines():
        if not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(machine):
                found[canonicalize_name(pin.name)] = str(pin.specifier).removeprefix("==")
    return found


def test_what_pyproject_asks_for_is_locked_at_versions_that_it_allows() -> None:
    """`make lock` writes `.requirements.txt` anew."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for python in ("3.11", "3.12"):
        locked = pins(python)
        extras = project["optional-dependencies"]
        for line in [*project["dependencies"], *extras["export"], *extras["serve"], *extras["test"]]:
            asked = Requirement(line)
            assert asked.specifier.contains(locked[canonicalize_name(asked.name)]), line


def test_what_is_locked_fits_together() -> None:
    """As `pip check`, which since 24.2 refuses decord's wheel for the platform that its metadata names."""
    locked = pins(f"{sys.version_info.major}.{sys.version_info.minor}")
    for installed in distributions():
        if locked.get(canonicalize_name(installed.name)) == installed.version:
            for line in installed.requires or ():
                asked = Requirement(line)
                if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                    assert asked.specifier.contains(locked[canonicalize_name(asked.name)], prereleases=True), f"{installed.name}: {line}"
