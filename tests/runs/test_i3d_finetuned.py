"""I3D trained on the corpus, as self-learning fusion trains it, small: its end, its weights, and the rows that come of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.runs import run_folder
from stages import _i3d
from tests.commands import said
from tests.runs.test_vsl import I3D, vsl

PEOPLE = (1, 2, 3, 6)


@pytest.fixture(scope="module")
def finetuned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """VSL's layout with eight clips, and the run of an I3D whose last block learned for an epoch with the source's end."""
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("vsl")
    home = Home(place / "cache", place / "manifests")
    said(home, "manifest", "vsl", "--root", str(vsl(place / "data", PEOPLE)))
    stage = [word for pair in I3D for word in ("--set", f"i3d.{pair}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.machine.cores", lambda: 1)
        out = said(home, "finetune", "vsl", "i3d", *stage, "--set", "settings=published", "--set", "epochs=1", "--depth", "1", "--json")
        run = Path(json.loads(out.splitlines()[-1])["run"])
        said(home, "extract", "vsl", "i3d", *stage, "--set", f"i3d.weights=run:{run}")
    return home, run


def test_its_end_is_the_sources(finetuned: tuple[Home, Path]) -> None:
    recipe = run_folder.read(finetuned[1]).record["settings"]
    assert {name: recipe[name] for name in ("hidden", "dropout", "lr", "batch_size", "head_epochs", "backbone_rate", "batch_norm")} == {
        "hidden": 128, "dropout": 0.4, "lr": 1e-3, "batch_size": 16, "head_epochs": 0, "backbone_rate": 1.0, "batch_norm": "moving",
    }  # fmt: skip
    head = load_file(finetuned[1] / "weights.safetensors")
    assert sorted(tuple(values.shape) for values in head.values()) == [(2,), (2, 128), (128,), (128, 1024)]


def test_rows_are_those_of_the_trained_network(finetuned: tuple[Home, Path]) -> None:
    home, run = finetuned
    state = load_file(run / "backbone.safetensors")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = _i3d.plain()
    before = {name: values.clone() for name, values in network.state_dict().items()}
    learned = {name.split(".")[0] for name, values in before.items() if name in state and not torch.equal(values, state[name])}
    assert learned == {"Mixed_5c"}
    network.load_state_dict({name: values for name, values in state.items() if name != "bn_eps"})
    table = manifest.read(home, "vsl")
    stage = configure(home, table, "i3d").extractor
    clip = "Frames/2.npy/N6_2_1"
    video = np.load(table.binding.root / f"{clip}.npy")
    window = np.stack(list(stage.prepare((video[i],) for i in stage.select(24, 0.0))))
    with torch.inference_mode():
        wanted = network.eval()(torch.from_numpy(window[None])).numpy()
    rows = open_stage("vsl", "i3d", cache=home.cache, manifests=home.manifests)[clip]
    np.testing.assert_allclose(rows, wanted, atol=1e-4 * np.abs(wanted).max())


def test_self_learning_fusion_stands_on_them(finetuned: tuple[Home, Path]) -> None:
    home, _ = finetuned
    said(home, "extract", "vsl", "inertial")
    quick = ["settings=published", "epochs=2", "generator_epochs=2", "teacher=inception_time:epochs=1:modules=3:steps=30:kernel=8"]
    out = said(home, "train", "vsl", "self_learning_fusion", *(word for pair in quick for word in ("--set", pair)), "--json")
    record = run_folder.read(json.loads(out.splitlines()[-1])["run"]).record
    assert set(record["stages"]) == {"i3d", "inertial"}


def test_sensors_train_a_second_i3d_that_generates_and_the_fusion_reads_both(finetuned: tuple[Home, Path]) -> None:
    """The source's two networks, whole: one classifies, one is taught by the sensors of the clips that have them."""
    home, _ = finetuned
    said(home, "extract", "vsl", "inertial")
    stage = [word for pair in I3D for word in ("--set", f"i3d.{pair}")]
    quick = ["epochs=1", "i3d.weights=random:1", "teacher=inception_time:epochs=1:modules=3:steps=30:kernel=8"]
    words = [*stage, *(word for pair in quick for word in ("--set", pair)), "--depth", "1", "--model", "finetuned_generator", "--json"]
    run = Path(json.loads(said(home, "finetune", "vsl", "i3d", *words).splitlines()[-1])["run"])
    record = run_folder.read(run).record
    assert set(record["stages"]) == {"i3d.items", "inertial"}
    teacher = json.loads(next((home.cache / "runs/vsl/inception_time").glob("*/run.json")).read_text())
    paired = len([clip for clip in manifest.read(home, "vsl").samples if "inertial" in clip.media and clip.split != "test"])
    assert sum(teacher["clips"][split] for split in ("train", "val")) == paired < 6
    own = [word for pair in (*I3D, f"weights=run:{run}") for word in ("--set", pair)]
    said(home, "extract", "vsl", "i3d", "--as", "i3d_generator", *own)
    rows = [open_stage("vsl", name, cache=home.cache, manifests=home.manifests)["Frames/2.npy/N6_2_1"] for name in ("i3d", "i3d_generator")]
    assert np.abs(rows[0] - rows[1]).max() > 1e-3
    quick = ["stages=i3d,i3d_generator", "generator_stages=i3d_generator", "epochs=1", "generator_epochs=1", quick[-1]]
    out = said(home, "train", "vsl", "self_learning_fusion", *(word for pair in quick for word in ("--set", pair)), "--json")
    assert set(run_folder.read(json.loads(out.splitlines()[-1])["run"]).record["stages"]) == {"i3d", "i3d_generator", "inertial"}


def test_a_model_that_trains_no_network_of_a_stage_is_one_line(finetuned: tuple[Home, Path]) -> None:
    told = said(finetuned[0], "finetune", "vsl", "i3d", "--model", "lstm_late", status=2)
    assert "--model lstm_late: it trains no network of a stage" in told
    assert "Those that do: finetuned, finetuned_generator" in told
