"""Clips in one array, with others beside it that hold a value a clip."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.formats._clips import Incoming, count, split_of
from pipeline.types import Array

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


def known() -> set[str]:
    return {name for kind, names in NAMES.items() if kind != "rows" for name in names}


def clips_in(source: Path, arrays: Mapping[str, Any]) -> Iterator[Incoming]:
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
    split, label, sequence = split_of(said.get("split", "")), said["label"], said.get("sequence", str(number))
    name = sequence if is_whole_id and "sequence" in said else f"{label}/{sequence}"
    if not label and split not in ("val", "test"):
        raise UserError(f"{source}: clip {number} (sequence {sequence!r}) has no label")
    try:
        length = count(said.get("length", len(rows)))
    except ValueError as error:
        raise UserError(f"{source}: clip {name!r} has {error}") from error
    return Incoming((name,), rows[:length], label or None, split, length, said.get("signer") or None)


def _texts(values: Any) -> Sequence[str]:
    words = np.asarray(values[:]).reshape(-1).tolist()
    return [word.decode(errors="surrogateescape") if isinstance(word, bytes) else str(word) for word in words]


@contextmanager
def bad_container(source: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise UserError(f"{source} cannot be opened as zarr or HDF5: {' '.join(str(error).split())}") from error
