"""A `.npy` file a clip, in folders by split and class, with lengths beside, as the LIS system (matteocacioppo/LIS_Kaggle) does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.corpus.media import walk
from pipeline.decoding.tables import read_npy
from pipeline.errors import UserError
from pipeline.formats._clips import Format, Incoming, Outgoing, count, split_of
from pipeline.types import SPLITS, Array


def read(source: Path) -> Iterator[Incoming]:
    """`[<split>/][<class>/]<clip>.npy` with `lengths_<split>.json` there or beside, as the LIS system writes them."""
    files = [source / below / name for below, names in walk(source) for name in names if name.endswith(".npy")]
    lengths: dict[str, Mapping[str, int] | None] = {}
    for path in sorted(files):
        place = path.relative_to(source)
        split = place.parts[0] if place.parts[0] in SPLITS else ""
        name = (place.relative_to(split) if split else place).with_suffix("")
        if split not in lengths:
            lengths[split] = _lengths(source, split)
        label = name.parts[-2] if len(name.parts) > 1 else None
        if label is None and split in ("", "train"):
            raise UserError(f"{path} lies in no class folder, so its label is missing; expected [train/]<class>/<clip>.npy")
        whole = read_npy(path)
        length = _length(path, name.as_posix(), whole, lengths[split])
        ids = (name.as_posix(), name.name) if split else (name.as_posix(),)
        yield Incoming(ids, whole[:length], label, split_of(split), max(length, (lengths[split] or {}).get(name.name, length)))


def _lengths(source: Path, split: str) -> Mapping[str, int] | None:
    name = f"lengths_{split}.json" if split else "lengths.json"
    for path in (source / name, source / split / name, source.parent / name):
        if path.is_file():
            try:
                return {str(clip): count(length) for clip, length in json.loads(path.read_bytes()).items()}
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path} is no JSON object of clip names and lengths: {error}") from error
    return None


def _length(path: Path, name: str, rows: Array, lengths: Mapping[str, int] | None) -> int:
    """How many of the rows are real; what follows must be zeros."""
    if rows.ndim < 2:
        raise UserError(f"{path} is {rows.shape}; expected (rows, values)")
    stem = name.rpartition("/")[2]
    if lengths is None:
        if len(rows) and not rows[-1].any():
            raise UserError(f"{path} ends with rows of zeros, and there is no lengths JSON that says whether they are padding")
        return len(rows)
    if name not in lengths and stem not in lengths:
        raise UserError(f"{path}: the lengths JSON has no {stem!r}; add its number of frames")
    length = min(lengths.get(name, lengths.get(stem, 0)), len(rows))
    if rows[length:].any():
        raise UserError(f"{path} has rows that are not zero after its length {length}")
    return length


def write(source: Outgoing, out: Path) -> None:
    """`out/<id>.npy`, `(T, *row_shape)` each; the folders of an id are folders."""
    out.mkdir()
    for sample in source.samples:
        name = PurePosixPath(sample.id)
        if name.is_absolute() or ".." in name.parts:
            raise UserError(f"the id {sample.id!r} leads out of the folder; export as zarr or hdf5")
        path = out / f"{sample.id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(source.features[sample.id]), allow_pickle=False)


format: Format = Format(read=read, write=write)
