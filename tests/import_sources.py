"""Features as other programs leave them, small, and the command that imports them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from click.testing import CliRunner

from pipeline.cache import open_stage
from pipeline.cli import main
from pipeline.corpus.manifest import Home
from pipeline.types import Array

LABELS = ("0_SI", "2_NO", "10_CASA")


def run(home: Home, *arguments: object) -> Any:
    return CliRunner().invoke(main, ["--cache", str(home.cache), "--manifests", str(home.manifests), *map(str, arguments)])


def opened(home: Home, stage: str, name: str = "signs") -> Any:
    return open_stage(name, stage, cache=home.cache, manifests=home.manifests)


def rows(length: int, seed: int = 0, width: int = 4) -> Array:
    return np.random.default_rng(seed).normal(1, 0.1, (length, width)).astype(np.float32)


def lis(root: Path, clips: int = 4, width: int = 4, black: float = 0.0) -> dict[str, Array]:
    """The LIS system's folders: rows padded to 30 with those of `black` frames, lengths beside them, test without class folders."""
    found: dict[str, Array] = {}
    for split in ("train", "val", "test"):
        lengths = {}
        for number, label in enumerate(LABELS):
            for clip in range(clips):
                name = f"SAMPLE_{('train', 'val', 'test').index(split)}{number}{clip}"
                length = 10 + 7 * clip
                values = rows(min(length, 30), len(found), width)
                path = root / split / ("" if split == "test" else label) / f"{name}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, np.concatenate([values, np.full((30 - len(values), width), black, np.float32)]))
                lengths[name] = length
                found[name if split == "test" else f"{label}/{name}"] = values
        (root / f"lengths_{split}.json").write_text(json.dumps(lengths))
    return found


def sequences(path: Path, **changed: Any) -> Path:
    """An `.npz` of eight sequences of two labels."""
    x = np.stack([rows(5, seed) for seed in range(8)])
    arrays = {"x": x, "label": np.repeat(["a", "b"], 4), "sequence": np.tile(np.arange(4).astype(str), 2)}
    np.savez(path, **{name: value for name, value in {**arrays, **changed}.items() if value is not None})
    return path


def dense(path: Path) -> tuple[Path, dict[str, Array]]:
    """The same padded array with lengths in each of the forms."""
    x = np.stack([rows(6, seed) for seed in range(4)])
    told: Mapping[str, Any] = {"label": ["a", "a", "b", "b"], "sequence": ["0", "1", "0", "1"], "length": [6, 2, 3, 0]}
    if path.suffix == ".npy":
        path.parent.mkdir(parents=True)
        np.save(path, x)
        for name, values in told.items():
            np.save(path.with_name(f"{path.stem}_{name}.npy"), np.array(values))
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, values in {"x": x, **told}.items():
                file.create_dataset(name, data=values)
    elif path.suffix == ".attrs":
        array = zarr.create_array(path, data=x)
        array.attrs.update(told)
    else:
        group = zarr.create_group(path)
        for name, values in {"x": x, "length": told["length"]}.items():
            group.create_array(name, data=np.asarray(values))
        group.attrs.update({"label": told["label"], "sequence": told["sequence"]})
    names = [f"{label}/{number}" for label, number in zip(told["label"], told["sequence"], strict=True)]
    return path, {name: values[:length] for name, values, length in zip(names, x, told["length"], strict=True)}
