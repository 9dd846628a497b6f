"""A `.npy` file a clip, in folders by split and class, with lengths beside, as the LIS system (matteocacioppo/LIS_Kaggle) does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.corpus.media import walk
from pipeline.decoding.tables import read_npy
from pipeline.errors import UserError
from pipeline.formats._clips import Format, Incoming, Outgoing, count, split_of
from pipeline.types import SPLITS, Array


def read(source: Path) -> Iterator[Incoming]:
    """`[<split>/][<class>/]<clip>.npy` with `lengths_<split>.json` there or beside, as the LIS system writes them.

    The source pads with black frames before it extracts, so what follows a clip's length is features of black: only the first
    `length` rows are the clip's, whatever the others hold. Its own training code reads all 30.
    """
    files = sorted(source / below / name for below, names in walk(source) for name in names if name.endswith(".npy"))
    lengths = _tables(source, {_split(path.relative_to(source)) for path in files})
    for path in files:
        place = path.relative_to(source)
        split = _split(place)
        name = (place.relative_to(split) if split else place).with_suffix("")
        label = name.parts[-2] if len(name.parts) > 1 else None
        if label is None and split in ("", "train"):
            raise UserError(f"{path} lies in no class folder, so its label is missing; expected [train/]<class>/<clip>.npy")
        whole = read_npy(path)
        length = _length(path, name.as_posix(), whole, lengths[split])
        ids = (name.as_posix(), name.name) if split else (name.as_posix(),)
        yield Incoming(ids, whole[:length], label, split_of(split), max(length, (lengths[split] or {}).get(name.name, length)))


def _split(place: Path) -> str:
    return place.parts[0] if place.parts[0] in SPLITS else ""


def _tables(source: Path, splits: Set[str]) -> dict[str, Mapping[str, int] | None]:
    """The lengths of the clips of every split: of all or of none, for where the clips of one are padded, so are those of another."""
    found = {split: _lengths(source, split) for split in sorted(splits)}
    lacking = [_table_name(split) for split, lengths in found.items() if lengths is None]
    if lacking and len(lacking) < len(found):
        there = next(_table_name(split) for split, lengths in found.items() if lengths is not None)
        raise UserError(
            f"{source} has {there} and no {lacking[0]}, so which rows of its clips are padding is unknown; write it "
            f"(signcache export NAME STAGE OUT --format lengths does, of extracted features), or leave that split out"
        )
    return found


def _table_name(split: str) -> str:
    return f"lengths_{split}.json" if split else "lengths.json"


def _lengths(source: Path, split: str) -> Mapping[str, int] | None:
    name = _table_name(split)
    for path in (source / name, source / split / name, source.parent / name):
        if path.is_file():
            try:
                return {str(clip): count(length) for clip, length in json.loads(path.read_bytes()).items()}
            except (ValueError, AttributeError) as error:
                raise UserError(f"{path} is no JSON object of clip names and lengths: {error}") from error
    return None


def _length(path: Path, name: str, rows: Array, lengths: Mapping[str, int] | None) -> int:
    """How many of the rows are real."""
    if rows.ndim < 2:
        raise UserError(f"{path} is {rows.shape}; expected (rows, values)")
    stem = name.rpartition("/")[2]
    if lengths is None:
        if len(rows) and not rows[-1].any():
            raise UserError(f"{path} ends with rows of zeros, and there is no lengths JSON that says whether they are padding")
        return len(rows)
    if name not in lengths and stem not in lengths:
        raise UserError(f"{path}: the lengths JSON has no {stem!r}; add its number of frames")
    return min(lengths.get(name, lengths.get(stem, 0)), len(rows))


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
