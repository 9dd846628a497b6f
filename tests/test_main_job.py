"""The lines of the README on the layouts that they name, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.checkout import ROOT, Checkout, write_clip

SMALL = ("--set", "resnet50.weights=random:0", "--set", "resize=32,32", "--set", "max_frames=4")
CLASSES = ("0_ZERO", "2_TWO", "10_TEN")


def write_lis(root: Path) -> None:
    """The LIS-126 layout: three classes of five labelled clips, two clips each of val and test without class folders."""
    labelled = [(f"train/{label}", 5 * place + n) for place, label in enumerate(CLASSES) for n in range(5)]
    for folder, number in [*labelled, ("val", 100), ("val", 101), ("test", 200), ("test", 201)]:
        clip = root / folder / f"SAMPLE_{number}"
        for seed, track in enumerate(("RGB.mkv", "RDM1.mp4", "RDM2.mp4", "RDM3.mp4")):
            write_clip(clip / f"{clip.name}_{track}", 4 * number + seed, frames=6)


@pytest.fixture(scope="module")
def lis(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """An extracted LIS tree whose SAMPLE_3 lacks its second receiver."""
    checkout = Checkout.make(tmp_path_factory.mktemp("lis") / "checkout", clips=1)
    write_lis(checkout.folder / "data" / "lis")
    (checkout.folder / "data/lis/train/0_ZERO/SAMPLE_3/SAMPLE_3_RDM2.mp4").unlink()
    checkout.first = checkout.run("extract", "lis", *SMALL)  # type: ignore[attr-defined]
    return checkout


def test_a_missing_receiver_fails_that_clip_and_names_it(lis: Checkout) -> None:
    first: subprocess.CompletedProcess[str] = lis.first  # type: ignore[attr-defined]
    assert first.returncode == 1, first.stderr
    assert "radar_cnn: 18 clips extracted, 1 failed" in first.stderr
    assert "failed: '0_ZERO/SAMPLE_3': SAMPLE_3_RDM2.mp4 is missing" in first.stderr
    assert "resnet50: 19 clips extracted, 0 failed" in first.stderr
    assert "note: resnet50 uses weights=random:0: seeded and untrained" in first.stderr


def test_the_manifest_has_ids_labels_and_a_labelled_validation_cut(lis: Checkout) -> None:
    with open(lis.folder / "manifests/lis.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows if row["label"]} == {"train", "val"}
    assert all(re.fullmatch(r"SAMPLE_\d+", row["id"]) for row in rows if not row["label"])
    assert {row["id"].split("/")[0] for row in rows if row["label"]} == set(CLASSES)
    assert set(rows[0]) == {"id", "label", "split", "signer", "rgb", "radar.0", "radar.1", "radar.2"}


def test_the_class_index_is_the_numeric_prefix(lis: Checkout) -> None:
    classes = json.loads((lis.folder / "manifests/lis.json").read_text())["classes"]
    assert [classes.index(name) for name in CLASSES] == [0, 2, 10]


def test_training_refuses_to_drop_the_failed_clip_in_silence_and_trains_when_told(lis: Checkout) -> None:
    refused = lis.run("train", "lis", "lstm_late", "--set", "epochs=2")
    assert refused.returncode == 2
    assert "SAMPLE_3_RDM2.mp4 is missing" in refused.stderr
    assert "--allow-missing 1" in refused.stderr
    done = lis.ok("train", "lis", "lstm_late", "--set", "epochs=2", "--set", "hidden=8", "--allow-missing", "1", "--json")
    result = json.loads(done.stdout.splitlines()[-1])
    assert Path(result["run"]).is_absolute()
    assert (result["dataset"], result["model"], result["split"]) == ("lis", "lstm_late", "val")
    assert "no test clip has a label: validation is scored" in done.stderr
    assert Path(result["report"]).read_text().startswith("<!doctype html>")
    scored = json.loads(lis.ok("evaluate", result["run"], "--json").stdout)
    assert {key: scored[key] for key in ("top1", "n", "split")} == {key: result[key] for key in ("top1", "n", "split")}
    unlabelled = lis.run("evaluate", result["run"], "--split", "test")
    assert unlabelled.returncode == 2
    assert "has no labelled clips in split 'test'" in unlabelled.stderr
    assert lis.ok("report", result["run"]).stdout.strip() == result["report"]


def test_stale_features_are_refused_by_train_until_extract_runs(lis: Checkout) -> None:
    path = lis.folder / "stages/radar_cnn.py"
    text = path.read_text()
    path.write_text(text.replace(".div(255)", ".div(256)"))
    try:
        refused = lis.run("train", "lis", "lstm_late", "--set", "epochs=1", "--set", "hidden=8", "--allow-missing", "1")
        assert refused.returncode == 2
        last = refused.stderr.splitlines()[-1]
        assert "the features of lis/radar_cnn are stale (code of stages/radar_cnn.py); run: signcache extract lis radar_cnn" in last
        lis.ok("train", "lis", "lstm_late", "--set", "epochs=1", "--set", "hidden=8", "--allow-missing", "1", "--stale", "allow")
    finally:
        path.write_text(text)


def test_without_the_data_one_line_says_the_layout_the_place_and_the_demo(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout", clips=1)
    done = checkout.run("extract", "lis")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"no LIS corpus at {checkout.folder / 'data/lis'}: expected train/<index>_<NAME>/SAMPLE_<n>/" in done.stderr
    assert "ROOT=DIR" in done.stderr
    assert "make demo" in done.stderr


def make(*words: str) -> str:
    """What make says, as from a shell of its own though `make test` may be running these tests."""
    shell = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], cwd=ROOT, env=shell, capture_output=True, text=True, check=True).stdout


def would_run(*words: str) -> str:
    return make("-n", "VENV=/venv", *words)


def test_make_turns_its_variables_into_options() -> None:
    assert would_run("extract").split() == ["/venv/bin/python", "-m", "pipeline", "extract", "lis"]
    line = would_run("extract", "DATASET=x", "STAGE=resnet50", "SET=a=1 b=2,3", "ROOT=/a b", "STORE=hdf5", "WORKERS=2", "DEVICE=cpu")
    assert "extract x resnet50 --set 'a=1' --set 'b=2,3' --root \"/a b\" --store hdf5 --device cpu --workers 2" in line
    assert "train lis lstm_late --seed 3" in " ".join(would_run("train", "SEED=3").split())


def test_make_alone_lists_the_targets() -> None:
    said = make()
    for target in [
        "setup",
        "demo",
        "manifest",
        "plan",
        "extract",
        "status",
        "train",
        "evaluate",
        "report",
        "bench",
        "test",
        "lint",
        "clean",
    ]:
        assert re.search(rf"^{target} ", said, re.MULTILINE)


def test_help_is_instant_because_it_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli import main; main(['--help'], standalone_mode=False); "
        "print([name for name in ('numpy', 'torch', 'zarr', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
