"""The doctor names what is missing, with how to get it, and is silent about nothing."""

from __future__ import annotations

import builtins
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline import registry
from pipeline.corpus.manifest import Home
from pipeline.machine import cores
from pipeline.reports.looking import doctor
from tests.commands import run

QUOTA = "/sys/fs/cgroup/cpu.max"
"""Where Linux says it of a container: microseconds in so many."""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


def found(home: Home) -> dict[str, dict[str, Any]]:
    """Each finding by what it is about."""
    document = json.loads(run(home, "doctor", "--json").stdout.splitlines()[-1])
    return {item["what"]: item for item in document["found"]}


def test_a_whole_machine_has_everything_and_ends_with_zero(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 0)
    result = run(home, "doctor")
    assert result.exit_code == 0, result.output
    assert "ok       python " in result.output
    assert f"ok       numpy                  {importlib.metadata.version('numpy')}\n" in result.output
    for word in ("cpu", "decoder av", "stages", "stores", "cache", "manifests"):
        assert f"ok       {word} " in result.output
    assert not list(home.cache.parent.iterdir()), "it leaves nothing behind"


def test_every_requirement_of_the_project_is_looked_at(home: Home) -> None:
    looked = found(home)
    for line in doctor.requirements():
        name = line.split(">")[0].split("=")[0].split(";")[0].split("[")[0].strip()
        assert name in looked, line


def test_a_missing_library_is_named_with_how_to_get_it(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        if name == "h5py":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "numpy" else importlib.metadata.version(name)

    monkeypatch.setattr(doctor, "version", missing)
    result = run(home, "doctor")
    assert result.exit_code == 1
    assert "missing  h5py                   not installed; wanted: h5py>=3.12; make setup\n" in result.output
    assert "missing  numpy                  0.1; wanted: numpy>=2.1; make setup\n" in result.output
    assert "missing: h5py, numpy" in result.output


def test_weights_are_looked_for_where_torch_keeps_them(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from stages.resnet50 import ResNet50

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    item = found(home)["weights of resnet50"]
    assert item["state"] == "note"
    assert item["detail"].endswith(f"is not in {tmp_path / 'torch/hub/checkpoints'}")
    assert "without network copy the file there, or extract with --set resnet50.weights=FILE" in item["remedy"]
    name = ResNet50.model_fields["weights"].default
    file = tmp_path / "torch/hub/checkpoints" / f"resnet50-{ResNet50.checkpoints[name][:8]}.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    assert found(home)["weights of resnet50"]["state"] == "ok"


def test_a_full_disk_and_a_folder_without_rights_are_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 1 << 60)
    assert "see: signcache gc, or choose another folder: signcache --cache DIR" in run(home, "doctor").output

    def refused(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refused)
    result = run(home, "doctor")
    assert result.exit_code == 1
    assert "cannot be written to: Read-only file system; choose another folder: signcache --cache DIR" in result.output


def test_a_broken_stage_is_named_and_hides_no_other(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry.find

    def broken(kind: Any, name: str) -> Any:
        if name == "radar_cnn":
            raise SyntaxError("invalid syntax")
        return real(kind, name)

    monkeypatch.setattr(registry, "find", broken)
    item = found(home)["stage radar_cnn"]
    assert (item["detail"], item["remedy"]) == ("SyntaxError: invalid syntax", "mend or remove stages/radar_cnn.py")
    assert "resnet50" in found(home)["stages"]["detail"]


def test_a_containers_quota_counts_as_its_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota, read = tmp_path / "cpu.max", builtins.open
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(128))
    monkeypatch.setattr(builtins, "open", lambda file, *more, **named: read(quota if file == QUOTA else file, *more, **named))
    monkeypatch.setattr(os.path, "exists", lambda file: file == QUOTA)
    for said, found in (("400000 100000", 4), ("50000 100000", 1), ("max 100000", 128)):
        quota.write_text(said)
        assert cores() == found
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "3")
    assert cores() == 3
