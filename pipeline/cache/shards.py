"""Shards and their markers: one writer, one immutable shard; it exists from the moment that its marker does."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipeline import registry
from pipeline.atomic import SEAL, file_sum, replace, seal, sync, unseal
from pipeline.cache import mirror
from pipeline.errors import NewerFormat, UserError
from pipeline.types import Array

FORMAT = 1
SHARD_CLIPS = 64
SHARD_BYTES = 64 << 20
"""At which a shard closes."""
MARKER_SUFFIX = ".json"
KEYS = frozenset({"format", "name", "shard", "store", "dtype", "row_shape", "rows", "failures", "checksums", "made"})
"""Of a marker without a seal."""
ASKED_BYTES = 128 << 10
"""At a time: Linux reads no more ahead, however much it is asked for, unless a disk is set otherwise."""


@dataclass(frozen=True, slots=True)
class Row:
    """One clip's rows in a shard, `[start, start + length)`, and what they were made from."""

    id: str
    start: int
    length: int
    source_length: int
    rate_hz: float
    content: str
    stat: int
    size: int
    decoder: str
    tracks: tuple[int, ...]
    checksum: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a clip has no rows, and the state of its files then: another state is another try."""

    id: str
    reason: str
    decoder: str
    attempts: int
    content: str
    stat: int
    size: int


@dataclass(frozen=True, slots=True)
class Marker:
    """What a finished shard holds; `shard` is None where every clip of it failed."""

    name: str
    shard: str | None
    store: str
    dtype: str
    row_shape: tuple[int, ...]
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A marker with its evidence: the checksum of every file of the shard by path, and how and when it was made."""

    marker: Marker
    checksums: Mapping[str, str]
    made: Mapping[str, Any]


def checksum(values: Array) -> str:
    """16 hex digits for the bytes of an array."""
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(values).data)


def new_name(order: int) -> str:
    """A shard name that no other attempt has: the place of its first clip, then a random token."""
    return f"{order:07d}-{secrets.token_hex(6)}"


def write_shard(folder: Path, marker: Marker, values: Array, made: Mapping[str, Any]) -> None:
    """Write the rows, sync them, then let the marker land: only then does the shard exist. `made` is kept as evidence."""
    files: dict[str, str] = {}
    if marker.shard is not None:
        path = folder / marker.shard
        folder.mkdir(parents=True, exist_ok=True)
        registry.create("store", marker.store).write(path, values)
        bring_to_disk(path)
        files = {file.relative_to(folder).as_posix(): file_sum(file)[0] for file in sorted(_files(path))}
        sync(folder)
    write_marker(folder, Record(marker, files, {**made, "at": time.time()}))


def bring_to_disk(path: Path) -> None:
    """Sync the files of a shard, and the folders that they lie in."""
    for part in [*_files(path), *([path, *(part for part in path.rglob("*") if part.is_dir())] if path.is_dir() else [])]:
        sync(part)


def write_marker(folder: Path, record: Record) -> None:
    """Let a marker land beside the synced files of its shard."""
    content = {"format": FORMAT, **asdict(record.marker), "checksums": dict(record.checksums), "made": dict(record.made)}
    replace(folder / (record.marker.name + MARKER_SUFFIX), seal(content))
    if there := mirror.of(folder):
        there.send(folder, record.marker.name + MARKER_SUFFIX)


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else (part for part in path.rglob("*") if part.is_file())


def read_marker(path: Path) -> Marker:
    """The marker at `path`; raises UserError where it is damaged or of a newer format."""
    return read_record(path).marker


def read_record(path: Path) -> Record:
    """The marker at `path` with its evidence; raises as `read_marker` does."""
    try:
        raw = path.read_bytes()
        content = json.loads(raw)
        if content["format"] > FORMAT:
            raise NewerFormat(path, content["format"], FORMAT)
        if SEAL not in content and set(content) - KEYS:
            raise ValueError(f"it holds {min(set(content) - KEYS)!r}")
        content = unseal(raw)
        marker = Marker(
            name=content["name"],
            shard=content["shard"],
            store=content["store"],
            dtype=content["dtype"],
            row_shape=tuple(content["row_shape"]),
            rows=tuple(Row(**{**row, "tracks": tuple(row["tracks"])}) for row in content["rows"]),
            failures=tuple(Failure(**failure) for failure in content["failures"]),
        )
        return Record(marker, content["checksums"], content["made"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the marker {path} is damaged ({error}); run: {mending(path.parent)}, then extract again") from error


def mending(folder: Path) -> str:
    """The command that sets damaged shards of this identity's folder aside, or, of a bucket's, has them fetched anew."""
    if mirror.of(folder):
        return f"rm -r {folder.parent}"
    return f"signcache verify {folder.parent.parent.name} {folder.parent.name} --mend"


def marker_names(folder: Path) -> list[str]:
    """Names of the finished shards in a folder, sorted."""
    if not folder.is_dir():
        return []
    names = (entry.name for entry in os.scandir(folder))
    return sorted(name.removesuffix(MARKER_SUFFIX) for name in names if name.endswith(MARKER_SUFFIX) and not name.startswith("."))


def open_shard(folder: Path, marker_store: str, shard: str) -> Array:
    """The `(rows, *row_shape)` of a shard; raises UserError where its file is missing or damaged."""
    if there := mirror.of(folder):
        there.bring(folder, shard)
    try:
        values: Array = registry.create("store", marker_store).open(folder / shard)
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RuntimeError, MemoryError) as error:
        raise UserError(
            f"the shard {folder / shard} is missing or damaged ({error}); run: {mending(folder)}, then extract again"
        ) from error
    return values


def expect(path: Path, row_bytes: int, parts: Sequence[tuple[int, int]]) -> None:
    """Ask the kernel to read these (start, length) rows of a shard soon; and the end of each file, for stores look there first.

    Nothing is opened by its store, which would wait for the disk. Rows lie in their order from a file's beginning, or nearly.
    """
    for file in _files(path) if hasattr(os, "posix_fadvise") else ():
        with open(file, "rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            wanted = [(size - ASKED_BYTES, size), *((start * row_bytes, (start + length) * row_bytes) for start, length in parts)]
            for begin, end in wanted:
                for first in range(max(begin, 0), min(end, size), ASKED_BYTES):
                    os.posix_fadvise(opened.fileno(), first, min(ASKED_BYTES, end - first), os.POSIX_FADV_WILLNEED)


def checked_rows(values: Array, expected: str, folder: Path, file: str | None, what: str) -> Array:
    """The rows of a clip as they are; raises UserError where they are not those that were written to the shard `file`."""
    if expected and checksum(values) != expected:
        place = folder / str(file)
        raise UserError(f"the rows of {what} in {place} differ from their checksum; run: {mending(folder)}, then extract again")
    return values


def joined(parts: Sequence[Array], row_shape: tuple[int, ...], dtype: str) -> Array:
    """The rows of several clips one after the other."""
    return np.concatenate(parts) if parts else np.empty((0, *row_shape), dtype)
