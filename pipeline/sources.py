"""Features in files that other programs wrote, read clip by clip for `signcache import`."""

from __future__ import annotations

import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np

from pipeline import registry
from pipeline.errors import ClipError, UserError
from pipeline.media import composed, walk
from pipeline.tables import read_npy, read_rows
from pipeline.types import SPLITS, Array, Split

Format = Literal["npy", "npz", "mp_data", "dense"]
FORMATS: tuple[Format, ...] = ("npy", "npz", "mp_data", "dense")
BLOCK_BYTES = 64 << 20
NAMES: Mapping[str, tuple[str, ...]] = {
    "rows": ("x", "X", "features", "data", "sequences"),
    "label": ("label", "labels", "y"),
    "sequence": ("sequence", "id", "ids"),
    "length": ("length", "lengths"),
    "split": ("split", "splits"),
    "signer": ("signer", "signers"),
}
"""What an array of one value a clip may be called; `id` and `ids` are whole ids, a `sequence` counts within its label."""


@dataclass(frozen=True)
class Incoming:
    """One clip as another program left it: `(T, ...)` rows without padding. `source_length` is the clip's before any cap.

    `ids` are what it may be called in a manifest, the likeliest first.
    """

    ids: tuple[str, ...]
    rows: Array
    label: str | None
    split: Split
    source_length: int
    signer: str | None = None


def clips_of(source: Path, form: Format) -> Iterator[Incoming]:
    """The clips in `source`, one after the other, in a stable order; raises UserError where it is not of this form."""
    if not source.exists():
        raise UserError(f"{source} does not exist")
    readers: Mapping[Format, Callable[[Path], Iterator[Incoming]]] = {"npy": _npy, "npz": _npz, "mp_data": _mp_data, "dense": _dense}
    found = False
    try:
        for number, clip in enumerate(readers[form](source)):
            found = True
            for name in clip.ids:
                if not name or "\0" in name:
                    raise UserError(f"{source}: clip {number} has the id {name!r}; expected one character or more, and no NUL")
            label, signer = (text and composed(text) for text in (clip.label, clip.signer))
            yield replace(clip, ids=tuple(map(composed, clip.ids)), label=label, signer=signer)
    except ClipError as error:
        raise UserError(f"{source}: {error}") from error
    if not found:
        raise UserError(f"{source} holds no clips of the form {form!r}")


def _npy(source: Path) -> Iterator[Incoming]:
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
        yield Incoming(ids, whole[:length], label, _split(split), max(length, (lengths[split] or {}).get(name.name, length)))


def _lengths(source: Path, split: str) -> Mapping[str, int] | None:
    name = f"lengths_{split}.json" if split else "lengths.json"
    for path in (source / name, source / split / name, source.parent / name):
        if path.is_file():
            try:
                return {str(clip): _count(length) for clip, length in json.loads(path.read_bytes()).items()}
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


def _mp_data(source: Path) -> Iterator[Incoming]:
    """`[MP_Data/]<label>/<sequence>/<frame>.npy`."""
    for sample in registry.create("dataset", "mp_data").samples(source):
        (folder,) = sample.media["landmarks"]
        rows = np.asarray(read_rows(source / folder))
        name = f"{sample.label}/{sample.id.rpartition('/')[2]}"
        yield Incoming((name, sample.id), rows, sample.label, "unassigned", len(rows))


def _npz(source: Path) -> Iterator[Incoming]:
    """`x` `(clips, rows, values)` with `label` and `sequence`, a value a clip."""
    try:
        with open(source, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, NotImplementedError, BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{source} is no .npz file of plain arrays: {error}") from error
    yield from _clips(source, arrays)


def _dense(source: Path) -> Iterator[Incoming]:
    """A Zarr or HDF5 group of such arrays, or a `.npy` with the others beside it as `label.npy` or `<name>_label.npy`."""
    suffix = source.suffix.lower()
    if suffix == ".npy":
        beside = {name: path for name in _known() for path in _beside(source, name)}
        yield from _clips(source, {name: read_npy(path) for name, path in beside.items()} | {"x": read_npy(source)})
        return
    with _bad_container(source):
        if suffix in (".h5", ".hdf5", ".hdf"):
            import h5py

            with h5py.File(source, "r") as file:
                yield from _clips(source, {name: value for name, value in file.items() if isinstance(value, h5py.Dataset)})
            return
        import zarr

        opened = zarr.open(source, mode="r")
        arrays = dict(opened.arrays()) if isinstance(opened, zarr.Group) else {"x": opened}
        lists = {name: np.array(value) for name, value in opened.attrs.asdict().items() if name in _known() and isinstance(value, list)}
        yield from _clips(source, {**lists, **arrays})


@contextmanager
def _bad_container(source: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{source} cannot be opened as zarr or HDF5: {error}") from error


def _known() -> set[str]:
    return {name for kind, names in NAMES.items() if kind != "rows" for name in names}


def _beside(source: Path, name: str) -> Iterator[Path]:
    yield from (path for path in (source.with_name(f"{name}.npy"), source.with_name(f"{source.stem}_{name}.npy")) if path.is_file())


def _clips(source: Path, arrays: Mapping[str, Any]) -> Iterator[Incoming]:
    """The clips of one array and of those that tell about each clip."""
    found = {kind: next((arrays[name] for name in names if name in arrays), None) for kind, names in NAMES.items()}
    rows = found.pop("rows")
    if rows is None or rows.ndim < 3:
        held = ", ".join(f"{name} {tuple(value.shape)}" for name, value in arrays.items()) or "nothing"
        raise UserError(f"{source} is to hold an array x of (clips, rows, values); it holds {held}")
    if found["label"] is None:
        raise UserError(f"{source} has no labels: expected an array 'label' with one value a clip beside x")
    told = {kind: _texts(values) for kind, values in found.items() if values is not None}
    for kind, words in told.items():
        if len(words) != rows.shape[0]:
            raise UserError(f"{source} has {len(words)} values of {kind!r} for {rows.shape[0]} clips")
    is_whole = not any(name in arrays for name in NAMES["sequence"][:1])
    for number, values in enumerate(_in_blocks(rows)):
        said = {kind: words[number] for kind, words in told.items()}
        yield _clip(source, number, values, said, is_whole)


def _in_blocks(rows: Any) -> Iterator[Array]:
    """Each clip of an array that may lie on disk, of which a chunk is decoded once."""
    chunks = getattr(rows, "chunks", None)
    step = chunks[0] if chunks else max(1, BLOCK_BYTES // max(1, rows.nbytes // max(1, rows.shape[0])))
    for first in range(0, rows.shape[0], step):
        yield from np.asarray(rows[first : first + step])


def _clip(source: Path, number: int, rows: Array, said: Mapping[str, str], is_whole_id: bool) -> Incoming:
    split, label, sequence = _split(said.get("split", "")), said["label"], said.get("sequence", str(number))
    name = sequence if is_whole_id and "sequence" in said else f"{label}/{sequence}"
    if not label and split not in ("val", "test"):
        raise UserError(f"{source}: clip {number} (sequence {sequence!r}) has no label")
    try:
        length = _count(said.get("length", len(rows)))
    except ValueError as error:
        raise UserError(f"{source}: clip {name!r} has {error}") from error
    return Incoming((name,), rows[:length], label or None, split, length, said.get("signer") or None)


def _count(said: Any) -> int:
    """How many rows something says; raises ValueError where it is no such number."""
    with suppress(ValueError, TypeError):
        number = float(said)
        if number >= 0 and number.is_integer():
            return int(number)
    raise ValueError(f"the length {said!r}; expected a whole number, 0 or more")


def _texts(values: Any) -> Sequence[str]:
    words = np.asarray(values[:]).reshape(-1).tolist()
    return [word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word) for word in words]


def _split(word: str) -> Split:
    if word and word not in (*SPLITS, "unassigned"):
        raise UserError(f"split {word!r} is none of {', '.join(SPLITS)}")
    return word or "unassigned"
