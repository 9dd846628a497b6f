"""Weights of I3D as dlpbc/keras-kinetics-i3d and self-learning fusion keep them: `.h5` files of Keras, with a classifier or without."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.errors import UserError
from stages import _i3d
from tests.stages.test_i3d import SMALL, frames, run, stage

UNITS = {"b0": "0a_1x1", "b1a": "1a_1x1", "b1b": "1b_3x3", "b2a": "2a_1x1", "b2b": "2b_3x3", "b3b": "3b_1x1"}
"""Of a block, as that repository's `i3d_inception.py` calls them."""
PARTS = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """Random weights whose batch norms shift, without scale as Keras' have none there."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        found = {name: values.clone() for name, values in _i3d.plain(classes=5).state_dict().items()}
        for name, values in found.items():
            if name.endswith("running_var"):
                values.uniform_(0.02, 0.1)
            elif name.endswith(("bn.bias", "running_mean")):
                values.normal_(0, 0.2)
    return found


def keras_layer(name: str) -> str:
    """`Mixed_3b.b1a` -> `Conv3d_3b_1a_1x1`."""
    block, _, unit = name.partition(".")
    return f"Conv3d_{block.removeprefix('Mixed_')}_{UNITS[unit]}" if unit else {"logits": "Conv3d_6a_1x1"}.get(block, block)


def written(path: Path, state: dict[str, Tensor], *, below: str = "", top: bool = True) -> Path:
    """The file that Keras would write: a group a layer, in it the weights by their own names, which hold a slash."""
    with h5py.File(path, "w") as file:
        for name, values in state.items():
            unit, kind, weight = name.rsplit(".", 2)
            if weight in ("num_batches_tracked",) or (kind == "bn" and weight == "weight") or (unit == "logits" and not top):
                continue
            if kind == "conv3d":
                layer = f"{keras_layer(unit)}_conv"
                array = values.permute(2, 3, 4, 1, 0).numpy() if weight == "weight" else values.numpy()
                weight = {"weight": "kernel", "bias": "bias"}[weight]
            else:
                layer, array, weight = f"{keras_layer(unit)}_bn", values.numpy(), PARTS[weight]
            file.create_dataset(f"{below}{layer}/{layer}/{weight}:0", data=array)
        file.require_group(f"{below}MaxPool2d_2a_3x3")  # layers without weights have a group too
    return path


@pytest.mark.parametrize(("below", "top"), [("", True), ("model_weights/", False)])
def test_a_keras_file_is_the_same_network(below: str, top: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    """Of `save_weights` with the classifier, of `save` without: self-learning fusion starts from a file without."""
    torch.save(state, tmp_path / "rgb.pt")
    file = written(tmp_path / "rgb.h5", state, below=below, top=top)
    ours, keras = (stage(weights=str(path), window=9, side=SMALL) for path in (tmp_path / "rgb.pt", file))
    clip = frames(9)
    np.testing.assert_array_equal(run(keras, clip), run(ours, clip))
    if top:
        np.testing.assert_array_equal(run(keras, clip, logits=True), run(ours, clip, logits=True))
    else:
        with pytest.raises(UserError, match=r"weights='\S+rgb\.h5' have no classifier \(no_top\); they give rows, not scores"):
            keras.logits("cpu")


def test_names_of_keras_become_piergiajs(state: dict[str, Tensor], tmp_path: Path) -> None:
    from pipeline.cache.weights import read_checkpoint

    theirs = read_checkpoint(str(written(tmp_path / "rgb.h5", state)))
    assert {"Conv3d_1a_7x7_conv/kernel", "Conv3d_4f_2b_3x3_bn/moving_variance", "Conv3d_6a_1x1_conv/bias"} <= set(theirs)
    assert theirs["Conv3d_1a_7x7_conv/kernel"].shape == (7, 7, 7, 3, 64)
    found = _i3d.named(theirs)
    wanted = {name: values for name, values in state.items() if not name.endswith("num_batches_tracked")}
    assert set(found) == set(wanted)
    assert all(torch.equal(found[name], values) for name, values in wanted.items())


def test_a_keras_file_of_another_network_is_one_line(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = written(tmp_path / "rgb.h5", state)
    with h5py.File(file, "a") as changed:
        del changed["Conv3d_3c_2a_1x1_conv"]
    with pytest.raises(UserError, match=r"do not fit InceptionI3D: .*Missing key\(s\).*Mixed_3c\.b2a\.conv3d\.weight") as told:
        stage(weights=str(file)).load("cpu")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", [b"no HDF5 at all", b"\x89HDF\r\n\x1a\n cut off"])
def test_a_damaged_keras_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "rgb.h5").write_bytes(content)
    with pytest.raises(UserError, match=r"rgb\.h5' is no checkpoint of plain tensors: it is damaged, or holds code to run"):
        stage(weights=str(tmp_path / "rgb.h5")).load("cpu")


def test_a_network_that_self_learning_fusion_has_trained_is_known_by_the_order_of_its_layers(
    state: dict[str, Tensor], tmp_path: Path
) -> None:
    """Saved whole, after another network of the same process: its layers are numbered on, dense ones and an optimiser follow."""
    units = dict.fromkeys(name.rsplit(".", 2)[0] for name in state if not name.startswith("logits"))
    first, file = 57, tmp_path / "weights-improvement-07-0.91.hdf5"
    with h5py.File(file, "w") as opened:
        for number, unit in enumerate(units, first):
            own = {weight: state[f"{unit}.bn.{ours}"].numpy() for ours, weight in PARTS.items()}
            kernel = {"kernel": state[f"{unit}.conv3d.weight"].permute(2, 3, 4, 1, 0).numpy()}
            for layer, weights in ((f"conv3d_{number}", kernel), (f"batch_normalization_{number}", own)):
                for weight, array in weights.items():
                    opened.create_dataset(f"model_weights/{layer}/{layer}/{weight}:0", data=array)
        for layer, shape in (("dense_2", (1024, 128)), ("dense_3", (128, 50))):
            opened.create_dataset(f"model_weights/{layer}/{layer}/kernel:0", data=np.zeros(shape, np.float32))
        opened.create_dataset("optimizer_weights/training/Adam/iter:0", data=np.zeros((), np.int64))
    torch.save(state, tmp_path / "rgb.pt")
    clip = frames(9)
    theirs, ours = (run(stage(weights=str(path), window=9, side=SMALL), clip) for path in (file, tmp_path / "rgb.pt"))
    np.testing.assert_array_equal(theirs, ours)
    with h5py.File(file, "a") as opened:
        del opened["model_weights/conv3d_60"]
    with pytest.raises(UserError, match=r"do not fit InceptionI3D: .*Missing key\(s\)"):
        stage(weights=str(file)).load("cpu")
