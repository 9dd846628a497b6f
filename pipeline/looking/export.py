"""Published features as files for other programs: one `.npy` a clip, one dense array, or the LIS system's tables of lengths."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.amounts import shown_size
from pipeline.cache import Features
from pipeline.errors import UserError
from pipeline.machine import free_bytes
from pipeline.manifest import Manifest
from pipeline.types import SPLITS, Array, Sample

GROUP_BYTES = 64 << 20
"""Of a dense array, gathered before it is written."""


@dataclass(frozen=True)
class Exported:
    """What was written: clips, bytes, and the clips of the manifest that have no features."""

    clips: int
    size: int
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Source:
    """Clips that have features, in the order of the manifest."""

    table: Manifest
    features: Features
    samples: Sequence[Sample]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([self.features.length(sample.id) for sample in self.samples], np.int64)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(N, T, *row_shape)` of the dense array."""
        return (len(self.samples), int(self.lengths.max(initial=0)), *self.features.row_shape)

    def texts(self) -> dict[str, list[str]]:
        """Ids, labels (empty where withheld) and splits."""
        found = {"ids": [s.id for s in self.samples], "labels": [s.label or "" for s in self.samples]}
        return {**found, "splits": [s.split for s in self.samples]}

    def attributes(self) -> dict[str, Any]:
        """Where the numbers come from."""
        said = {"dataset": self.table.name, "stage": self.features.name, "digest": self.features.digest}
        return {**said, "classes": list(self.table.classes)}

    def dense(self) -> Iterator[tuple[slice, Array]]:
        """`(n, T, *row_shape)` of some clips at a time, zero beyond their lengths."""
        clips, steps, *_ = self.shape
        group = max(1, GROUP_BYTES // max(1, steps * self.features.row_bytes))
        for first in range(0, clips, group):
            part = self.samples[first : first + group]
            values = np.zeros((len(part), *self.shape[1:]), self.features.dtype)
            for sample, rows in zip(part, values, strict=True):
                rows[: self.features.length(sample.id)] = self.features[sample.id]
            yield slice(first, first + len(part)), values


def export(table: Manifest, features: Features, out: Path, form: str) -> Exported:
    """Write the features of every clip that has some to `out`, which appears when it is complete.

    Raises UserError where `out` exists or the disk has no room.
    """
    samples = [sample for sample in table.samples if sample.id in features]
    missing = tuple(sample.id for sample in table.samples if sample.id not in features)
    source = _Source(table, features, samples)
    _room(source, out, form)
    with _appearing(out) as temporary:
        FORMS[form](source, temporary)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    return Exported(len(samples), size, missing)


def _room(source: _Source, out: Path, form: str) -> None:
    rows = source.shape[0] * source.shape[1] if form in ("zarr", "hdf5") else int(source.lengths.sum())
    needed = 0 if form == "lengths" else rows * source.features.row_bytes
    free = free_bytes(out)
    if needed > free:
        raise UserError(f"{out} needs {shown_size(needed)} and {shown_size(free)} are free there; choose another place")


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A place beside `out` that is renamed to it at the end, or removed."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} exists already; remove it or choose another place")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if out.is_dir():
            out.rmdir()
        os.replace(temporary, out)
        atomic.sync(out.parent)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            temporary.unlink()


def _npy(source: _Source, out: Path) -> None:
    """`out/<id>.npy`, `(T, *row_shape)` each; the folders of an id are folders."""
    out.mkdir()
    for sample in source.samples:
        name = PurePosixPath(sample.id)
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"the id {sample.id!r} leads out of the folder; export as zarr or hdf5")
        path = out / f"{sample.id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(source.features[sample.id]), allow_pickle=False)


def _zarr(source: _Source, out: Path) -> None:
    """A zarr group: `features` `(N, T, *row_shape)`, `lengths`, `ids`, `labels`, `splits`."""
    import zarr

    group = zarr.create_group(out)
    group.attrs.update(source.attributes())
    clips = max(1, min(source.shape[0], GROUP_BYTES // max(1, source.shape[1] * source.features.row_bytes)))
    chunks = tuple(max(1, n) for n in (clips, *source.shape[1:]))
    dense = group.create_array("features", shape=source.shape, dtype=source.features.dtype, chunks=chunks, compressors=None)
    for place, values in source.dense():
        dense[place] = values
    group.create_array("lengths", data=source.lengths)
    for name, words in source.texts().items():
        texts = group.create_array(name, shape=(len(words),), dtype=str)
        if words:
            texts[:] = np.array([_encodable(word) for word in words])


def _encodable(word: str) -> str:
    """Bytes that are no UTF-8 as `\\xff`."""
    return word.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _hdf5(source: _Source, out: Path) -> None:
    """One HDF5 file with the datasets that a zarr group has."""
    import h5py

    with h5py.File(out, "x") as file:
        for key, value in source.attributes().items():
            file.attrs[key] = value
        dense = file.create_dataset("features", source.shape, source.features.dtype)
        for place, values in source.dense():
            dense[place] = values
        file["lengths"] = source.lengths
        for name, words in source.texts().items():
            file.create_dataset(name, data=[_encodable(word) for word in words], shape=(len(words),), dtype=h5py.string_dtype())


def _lengths(source: _Source, out: Path) -> None:
    """`out/lengths_<split>.json` as the LIS system writes them: `{"SAMPLE_1": original number of frames}`."""
    out.mkdir()
    found: dict[str, dict[str, int]] = {}
    lengths = source.features.index.columns["source_length"]
    for sample in source.samples:
        name = PurePosixPath(sample.id).name
        table = found.setdefault(_corpus_split(sample), {})
        if name in table:
            raise UserError(
                f"two clips of {_corpus_split(sample)} are called {name!r}, and the LIS system's table knows them by that alone"
            )
        table[name] = int(lengths[source.features.index.position[sample.id]])
    for split, table in found.items():
        (out / f"lengths_{split}.json").write_text(json.dumps(table, indent=2) + "\n")


def _corpus_split(sample: Sample) -> str:
    """The split whose folder holds the clip, where the corpus has such folders: what was cut from train for validation lies in train."""
    files = [part for paths in sample.media.values() for part in paths]
    folder = PurePosixPath(files[0]).parts[0] if files else ""
    return folder if folder in SPLITS else sample.split


FORMS: Mapping[str, Callable[[_Source, Path], None]] = {"npy": _npy, "zarr": _zarr, "hdf5": _hdf5, "lengths": _lengths}
