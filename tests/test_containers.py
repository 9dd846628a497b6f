"""The files of `.docker`: linted, and about what lies in the checkout. Nothing is built."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import click
import yaml

from pipeline.cli import main

ROOT = Path(__file__).parents[1]
DOCKER = ROOT / ".docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def copied() -> list[str]:
    """What the Dockerfile takes from the checkout."""
    lines = re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
    return [word.removeprefix("./") for line in lines for word in line.split()[:-1]]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_hadolint_would_find_a_root_without_a_pinned_package(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN apt-get install curl\n")
    linter = Path(sys.executable).with_name("hadolint")
    assert subprocess.run([linter, tmp_path / "Dockerfile"], capture_output=True, check=False).returncode == 1


def test_what_is_copied_lies_in_the_checkout_and_is_not_ignored() -> None:
    kept = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(copied()) == set(kept)
    assert all((ROOT / name).exists() for name in copied())


def test_all_packages_are_copied_and_so_is_what_the_installation_reads() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    packages = re.findall(r'"(\w+)\*"', project.partition("[tool.setuptools.packages.find]")[2].partition("\n[")[0])
    assert {*packages, "pyproject.toml", "README.md", "LICENSE", ".requirements.txt"} == set(copied())


def test_a_cpu_image_leaves_out_cuda_and_nothing_else() -> None:
    (pattern,) = re.findall(r"grep -Ev '([^']+)'", DOCKERFILE)
    names = [re.split("[=<>; \\[]", line)[0] for line in (ROOT / ".requirements.txt").read_text().splitlines() if re.match(r"\w", line)]
    left_out = {name for name in names if re.match(pattern, name)}
    assert {"torch", "torchvision", "numpy", "mediapipe"} <= set(names) - left_out
    assert left_out
    assert all(fnmatch(name, "nvidia-*") or fnmatch(name, "cuda-*") or name == "triton" for name in left_out)


def test_compose_builds_both_images_from_that_file_with_what_is_the_users_in_volumes() -> None:
    said: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = said["services"]
    assert {name: service["build"]["args"]["DEVICE"] for name, service in services.items()} == {"cpu": "cpu", "cuda": "cuda"}
    for service in services.values():
        context = (DOCKER / service["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / service["build"]["dockerfile"]).is_file()
        targets = {volume.partition(":")[2] for volume in service["volumes"]}
        assert targets == {f"/signcache/{folder}" for folder in ("data", "cache", "manifests")}
        assert {volume.partition(":")[0] for volume in service["volumes"]} - {"../data"} == set(said["volumes"])
    (device,) = services["cuda"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert "deploy" not in services["cpu"]


def test_the_lines_of_its_readme_are_ones_that_the_code_takes() -> None:
    lines = [shlex.split(line, comments=True) for line in (DOCKER / "README.md").read_text().splitlines() if line.startswith("docker ")]
    runs = [words[words.index("--rm") + 2 :] for words in lines if "run" in words]
    assert len(runs) == 3
    for name, *words in runs:
        with click.Context(main) as above, main.commands[name].make_context(name, words, parent=above):
            pass
