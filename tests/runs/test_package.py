"""Packages: a run that labels clips elsewhere, without its corpus and cache; and what is refused of a package from anywhere."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.atomic import seal, unseal
from pipeline.corpus.manifest import Home
from pipeline.runs.packaging import _archive
from tests.checkout import ROOT
from tests.commands import run, said
from tests.runs.test_predict import Trained, learned, train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run with its package as a folder and as a zip."""
    made = learned(tmp_path_factory.mktemp("package"), new=2)
    for out in ("package", "signs.zip"):
        said(made.home, "package", made.run, made.root / out, "--licence", "CC-BY-4.0")
    return made


def elsewhere(tmp_path: Path) -> Home:
    """A cache that holds nothing, where no name is bound."""
    return Home(tmp_path / "other cache", tmp_path / "other manifests")


def labelled(home: Home, place: object, *words: object) -> list[dict[str, Any]]:
    done = run(home, "predict", place, *words, "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    document: list[dict[str, Any]] = json.loads(done.stdout)
    return document


def refused(home: Home, *words: object) -> str:
    """The one line of a command that ends with status 2."""
    done = run(home, *words)
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("form", ["package", "signs.zip"])
def test_a_package_labels_as_its_run_does_where_no_corpus_is_bound(trained: Trained, tmp_path: Path, form: str) -> None:
    expected = labelled(trained.home, trained.run, trained.root / "new")
    assert labelled(elsewhere(tmp_path), trained.root / form, trained.root / "new") == expected
    assert {row["label"] for row in expected} <= {"class0", "class1"}


def test_a_clip_is_found_again_by_its_content_in_the_cache_of_who_labels(trained: Trained, tmp_path: Path) -> None:
    home, package = elsewhere(tmp_path), trained.root / "signs.zip"
    first = labelled(home, package, trained.root / "new/clip 1")
    shutil.copytree(trained.root / "new/clip 1", tmp_path / "moved/other")
    done = run(home, "predict", package, tmp_path / "moved/other", "--json", "--device", "cpu")
    assert json.loads(done.stdout)[0]["top"] == first[0]["top"]
    assert "clips" not in done.stderr  # nothing is extracted


def test_a_package_works_in_another_copy_of_the_code_once_corpus_and_cache_are_gone(trained: Trained, tmp_path: Path) -> None:
    expected = labelled(trained.home, trained.run, trained.root / "new")
    for folder in ("pipeline", "stages", "models"):
        shutil.copytree(ROOT / folder, tmp_path / "code" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(trained.root / "signs.zip", tmp_path / "signs.zip")
    shutil.copytree(trained.root / "new", tmp_path / "new")
    away = [
        (place, place.with_name(f"{place.name}-away")) for place in (trained.home.cache, trained.home.manifests, trained.root / "MP_Data")
    ]
    for place, other in away:
        place.rename(other)
    try:
        command = [sys.executable, "-m", "pipeline", "predict", str(tmp_path / "signs.zip"), str(tmp_path / "new"), "--json"]
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    finally:
        for place, other in away:
            other.rename(place)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["top"] for row in found] == [row["top"] for row in expected]
    assert [row["clip"] for row in found] == [f"{tmp_path}/new/clip {n}" for n in range(2)]


def test_a_package_is_scored_as_its_run_where_its_features_are_published(trained: Trained) -> None:
    results = [json.loads(run(trained.home, "evaluate", place, "--json").stdout) for place in (trained.run, trained.root / "signs.zip")]
    assert results[1] == {**results[0], "run": str(trained.root / "signs.zip")}


def test_a_package_holds_plain_files_and_nothing_of_the_machine_that_trained_it(trained: Trained) -> None:
    files = {
        path.relative_to(trained.root / "package").as_posix(): path for path in (trained.root / "package").rglob("*") if path.is_file()
    }
    identity = Path(trained.run).name
    assert sorted(files) == [
        "MODEL_CARD.md",
        "package.json",
        *(f"runs/{identity}/{n}" for n in ("result.json", "run.json", "weights.safetensors")),
    ]
    text = "".join(path.read_text() for name, path in files.items() if not name.endswith(".safetensors"))
    assert str(trained.root) not in text
    card = files["MODEL_CARD.md"].read_text()
    assert "class0, class1" in card
    assert "Of the trained weights: CC-BY-4.0." in card


def test_a_run_of_folds_and_one_of_members_are_packaged_with_all_their_models(trained: Trained, tmp_path: Path) -> None:
    members = "members=lstm_late:stages=mp_data:hidden=4:epochs=1,lstm_late:stages=kinematics:hidden=4:epochs=1"
    words = (trained.home, "train", "tiny")
    runs = [train(trained.home, "tiny", "lstm_late", "--set", "stages=mp_data", "--folds", 2)]
    runs += [
        json.loads(run(*words, model, "--set", members, *more, "--device", "cpu", "--json").stdout)["run"]
        for model, more in (("late_fusion", ()), ("xgb_meta", ("--set", "folds=2", "--set", "rounds=3")))
    ]
    for number, folder in enumerate(runs):
        said(trained.home, "package", folder, tmp_path / f"{number}.zip")
        expected = labelled(trained.home, folder, trained.root / "new")
        assert labelled(elsewhere(tmp_path), tmp_path / f"{number}.zip", trained.root / "new") == expected
        with zipfile.ZipFile(tmp_path / f"{number}.zip") as archive:
            assert {Path(name).suffix for name in archive.namelist()} == {".json", ".md", ".safetensors"}


def test_the_weights_of_a_backbone_travel_with_the_package_as_plain_tensors(tmp_path: Path) -> None:
    from pipeline.cache import weights
    from stages.radar_cnn import _network
    from tests.test_main_job import SMALL, write_lis

    home, file = Home(tmp_path / "cache", tmp_path / "manifests"), tmp_path / "backbone.pt"
    torch.save({"state_dict": weights.initialised(_network, "random:5", dict).state_dict()}, file)
    write_lis(tmp_path / "lis")
    said(home, "extract", "lis", "radar_cnn", "--root", tmp_path / "lis", *SMALL[-2:], "--set", f"radar_cnn.weights={file}")
    folder = train(home, "lis", "lstm_late", "--set", "stages=radar_cnn")
    expected = labelled(home, folder, tmp_path / "lis/test")
    said(home, "package", folder, tmp_path / "lis.zip")
    file.unlink()
    shutil.rmtree(home.cache)
    shutil.rmtree(home.manifests)
    assert labelled(elsewhere(tmp_path), tmp_path / "lis.zip", tmp_path / "lis/test") == expected
    with zipfile.ZipFile(tmp_path / "lis.zip") as archive:
        assert "stages/radar_cnn/weights.safetensors" in archive.namelist()


def test_other_code_of_a_stage_is_refused_in_one_line_unless_allowed(trained: Trained, tmp_path: Path) -> None:
    package = edited(
        trained,
        tmp_path,
        lambda lead: (
            lead["stages"][1]["identity"]["code"].update({"stages/kinematics.py": "0" * 16}) or lead["stages"][1].update(digest="0" * 16)
        ),
    )
    home = elsewhere(tmp_path)
    text = refused(home, "predict", package, trained.root / "new")
    assert "learned from other rows than stage 'kinematics' makes here (code of stages/kinematics.py)" in text
    assert "install the signcache that made it (0.1.0), or label all the same: --stale allow" in text
    expected = labelled(trained.home, trained.run, trained.root / "new")
    assert labelled(home, package, trained.root / "new", "--stale", "allow") == expected


def edited(trained: Trained, tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the package whose `package.json` says something else."""
    copy = tmp_path / "edited"
    shutil.copytree(trained.root / "package", copy)
    lead = unseal((copy / "package.json").read_bytes())
    edit(lead)
    (copy / "package.json").write_bytes(seal(lead))
    return copy


EDITS: Mapping[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "newer": (lambda lead: lead.update(format=2), "package.json has format 2, this signcache reads up to 1: install a newer signcache"),
    "outside": (lambda lead: lead["files"].update({"../x": ""}), "names '../x', which lies outside of it; do not use it"),
    "absolute": (lambda lead: lead["files"].update({"/etc/passwd": ""}), "names '/etc/passwd', which lies outside of it"),
    "other run": (lambda lead: lead.update(run="../../x"), "'../../x' cannot name a data set or a stage"),
    "no file": (lambda lead: lead["files"].update({"runs/x": ""}), "is damaged ([Errno 2] No such file"),
    "unknown stage": (lambda lead: lead["stages"][0].update(kind="os"), "no stage called 'os'"),
    "no fields": (lambda lead: lead["stages"][0].pop("fields"), "is damaged (1 validation error for Lead stages.0.fields Field required"),
    "no upstream": (lambda lead: lead["stages"].pop(0), "is damaged (kinematics reads stage:mp_data, which it lacks); get it anew"),
    "no stages": (lambda lead: lead.pop("stages"), "is damaged (1 validation error for Lead stages Field required"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_package_that_says_what_it_must_not_is_one_line(trained: Trained, tmp_path: Path, name: str) -> None:
    edit, text = EDITS[name]
    assert text in refused(elsewhere(tmp_path), "predict", edited(trained, tmp_path, edit), trained.root / "new")


def test_files_that_are_not_as_packaged_are_refused(trained: Trained, tmp_path: Path) -> None:
    copy, home = edited(trained, tmp_path, dict), elsewhere(tmp_path)
    weights = next(copy.rglob("weights.safetensors"))
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    assert "weights.safetensors is not what was packaged" in refused(home, "predict", copy, trained.root / "new")
    (tmp_path / "weights").write_bytes(before)
    weights.unlink()
    weights.symlink_to(tmp_path / "weights")
    assert "which lies outside of it; do not use it" in refused(home, "predict", copy, trained.root / "new")
    weights.unlink()
    weights.write_bytes(before)
    (weights.parent / "more.json").write_text("{}")
    assert "more.json is not what was packaged" in refused(home, "predict", copy, trained.root / "new")


def write_zip(file: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def test_a_zip_that_would_write_elsewhere_or_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, link = elsewhere(tmp_path), zipfile.ZipInfo("package.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for member in ("../package.json", "/package.json", "a/../../b", "C:\\package.json", link):
        package = write_zip(tmp_path / "bad.zip", (member, b"{}"))
        assert "which is no file of its own folder; do not use it" in refused(home, "predict", package, tmp_path)
    monkeypatch.setattr(_archive, "MOST_BYTES", 1000)
    bomb = write_zip(tmp_path / "bomb.zip", ("package.json", bytes(1001)))
    assert "would unpack to 1 files of 1001 bytes; at most 10000 of 1000 are read" in refused(home, "predict", bomb, tmp_path)
    assert "holds no package.json" in refused(home, "predict", write_zip(tmp_path / "other.zip", ("a", b"")), tmp_path)
    (tmp_path / "no.zip").write_bytes(b"PK")
    assert "is no whole zip" in refused(home, "predict", tmp_path / "no.zip", tmp_path)
    assert not (tmp_path / "package.json").exists()


def test_what_cannot_be_packaged_is_one_line(trained: Trained, tmp_path: Path) -> None:
    assert "package is there already; delete it, or name another" in refused(trained.home, "package", trained.run, trained.root / "package")
    assert "is no run folder" in refused(trained.home, "package", tmp_path, tmp_path / "out")
    (tmp_path / "file").write_text("")
    assert "cannot write" in refused(trained.home, "package", trained.run, tmp_path / "file/out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_a_run_on_imported_rows_cannot_be_packaged(trained: Trained, tmp_path: Path) -> None:
    import numpy as np

    random, source = np.random.default_rng(0), tmp_path / "rows.npz"
    x, label = random.normal(size=(20, 4, 3)).astype(np.float32), np.array([f"sign{n % 2}" for n in range(20)])
    np.savez(source, x=x, label=label, sequence=np.array([str(n) for n in range(20)]))
    said(trained.home, "import", "brought", "rows", source, "--format", "npz")
    folder = train(trained.home, "brought", "lstm_late", "--set", "stages=rows")
    text = refused(trained.home, "package", folder, tmp_path / "out")
    assert "the run reads brought/rows, which was imported: signcache cannot make it from files" in text
