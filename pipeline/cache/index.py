"""The row index: which rows every clip has, as plain columns, so that a million clips open in about a second."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.cache.shards import Failure, Marker, Row, mending
from pipeline.errors import NewerFormat, UserError
from pipeline.types import Array

FORMAT = 1

ORPHAN = ""
"""The id of rows that no clip of the corpus has now: found again by content when the clip returns."""


class Shard(NamedTuple):
    """A finished shard: its marker's name, its file (None where all its clips failed), and the store that reads it."""

    name: str
    file: str | None
    store: str


class Entry(NamedTuple):
    """A row of the index: where it lies, and what it was made from."""

    row: Row
    shard: Shard


COLUMNS = {
    "start": "i8",
    "length": "i8",
    "source_length": "i8",
    "rate_hz": "f8",
    "stat": "u8",
    "size": "i8",
    "content": "S32",
    "checksum": "S16",
    "shard_of": "i8",
}
TEXTS = ("ids", "decoders", "tracks")
"""Columns of text: their values as bytes, joined by NUL, which no file name can hold."""


@dataclass(frozen=True)
class Index:
    """Rows as columns of equal length, the shards they lie in, and the recorded failures."""

    columns: Mapping[str, Array]
    shards: list[Shard]
    failures: dict[str, Failure]
    past: Sequence[Failure] = ()
    """Recorded failures of clips that are not here now, or in another state: a clip may come back as it was."""

    def __len__(self) -> int:
        return len(self.columns["stat"])

    def text(self, name: str) -> list[str]:
        """A column of text, made anew; `ids`, `decoders` and `tracks` keep theirs."""
        return self.columns[name].tobytes().decode(errors="surrogateescape").split("\0") if len(self) else []

    @cached_property
    def ids(self) -> list[str]:
        return self.text("ids")

    @cached_property
    def decoders(self) -> list[str]:
        return self.text("decoders")

    @cached_property
    def tracks(self) -> list[str]:
        return self.text("tracks")

    @property
    def shard_of(self) -> NDArray[np.int64]:
        """Which of `shards` each row lies in."""
        return self.columns["shard_of"]

    @cached_property
    def position(self) -> dict[str, int]:
        """Clip id -> row number."""
        positions = {clip: i for i, clip in enumerate(self.ids)}
        positions.pop(ORPHAN, None)
        return positions

    @cached_property
    def by_content(self) -> dict[str, int]:
        """Content hash -> row number."""
        return {content.decode(): i for i, content in enumerate(self.columns["content"].tolist())}

    @cached_property
    def sizes(self) -> set[int]:
        """Total file sizes of all rows: only a clip of one of these can have been extracted before."""
        return set(self.columns["size"].tolist())

    def entry(self, number: int) -> Entry:
        """One row of the index."""
        value = {name: self.columns[name][number].item() for name in COLUMNS if name != "shard_of"}
        row = Row(
            **{**value, "content": value["content"].decode(), "checksum": value["checksum"].decode()},
            id=self.ids[number],
            decoder=self.decoders[number],
            tracks=tuple(json.loads(self.tracks[number])),
        )
        return Entry(row, self.shards[self.shard_of[number]])

    def taken(self, numbers: NDArray[np.int64], ids: Sequence[str] | None = None) -> Index:
        """The rows of these numbers in this order, under other `ids` where given; all shards and failures stay."""
        texts = {name: _joined_text(map(self.text(name).__getitem__, numbers.tolist())) for name in TEXTS if name != "ids" or ids is None}
        if ids is not None:
            texts["ids"] = _joined_text(ids)
        return replace(self, columns={**{name: self.columns[name][numbers] for name in COLUMNS}, **texts})


def build(entries: Sequence[Entry], failures: Iterable[Failure] = (), shards: Iterable[Shard] = (), past: Sequence[Failure] = ()) -> Index:
    """An index of these rows; `shards` also names finished shards without any row here."""
    known = list(dict.fromkeys([*shards, *(entry.shard for entry in entries)]))
    number = {shard: i for i, shard in enumerate(known)}
    rows = [entry.row for entry in entries]
    columns = {name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in COLUMNS.items() if name != "shard_of"}
    texts = {"ids": [row.id for row in rows], "decoders": [row.decoder for row in rows], "tracks": [json.dumps(row.tracks) for row in rows]}
    shard_of = np.array([number[entry.shard] for entry in entries], COLUMNS["shard_of"])
    joined_texts = {name: _joined_text(values) for name, values in texts.items()}
    return Index({**columns, "shard_of": shard_of, **joined_texts}, known, {failure.id: failure for failure in failures}, past)


def joined(tables: Sequence[Index]) -> Index:
    """The rows of all these indexes one after the other, with the shards of all; the failures are those of the first."""
    known = list(dict.fromkeys(shard for table in tables for shard in table.shards))
    number = {shard: i for i, shard in enumerate(known)}
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in COLUMNS}
    renumbered = [np.array([number[shard] for shard in table.shards], "i8")[table.shard_of] for table in tables]
    filled = [table for table in tables if len(table)]
    texts = {name: np.frombuffer(b"\0".join(table.columns[name].tobytes() for table in filled), np.uint8) for name in TEXTS}
    return replace(tables[0], columns={**columns, "shard_of": np.concatenate(renumbered), **texts}, shards=known)


def _joined_text(values: Iterable[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\0".join(values).encode(errors="surrogateescape"), np.uint8)


def of_marker(marker: Marker) -> list[Entry]:
    """The rows of one finished shard."""
    shard = Shard(marker.name, marker.shard, marker.store)
    return [Entry(row, shard) for row in marker.rows]


def to_bytes(index: Index) -> bytes:
    """An uncompressed `.npz` with the columns and a JSON text of shards and failures."""
    failures = {"failures": [*map(asdict, index.failures.values())], "past": [*map(asdict, index.past)]}
    details = {"format": FORMAT, "shards": index.shards, **failures}
    columns = {name: index.columns[name] for name in (*COLUMNS, *TEXTS)}
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, details=np.frombuffer(json.dumps(details).encode(), np.uint8), **columns)
    return out.getvalue()


def read(path: Path, *, whole: bool = True) -> Index:
    """The index in a file written from `to_bytes`; raises UserError where it is damaged or of a newer format.

    Without `whole`, a column is read, and its damage found, when it is first asked for: planning needs few of them.
    """
    with _damage(path):
        columns = _Columns(path)
        details = json.loads(columns["details"].tobytes())
        if details.get("format", 1) > FORMAT:
            raise NewerFormat(path, details["format"], FORMAT)
        shards = [Shard(*shard) for shard in details["shards"]]
        failures = {failure["id"]: Failure(**failure) for failure in details["failures"]}
        past = [Failure(**failure) for failure in details.get("past", ())]
        return Index(columns.all() if whole else columns, shards, failures, past)


class _Columns(Mapping[str, Array]):
    """The columns of an index file by name; the file stays open as long as this lives, whatever is published meanwhile."""

    def __init__(self, path: Path) -> None:
        self.handle = os.open(path, os.O_RDONLY)
        self.path, self.lock = path, Lock()
        self.known: dict[str, Array] = {}
        self._read("details", "stat", "ids")

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            os.close(self.handle)

    def __getitem__(self, name: str) -> Array:
        with self.lock, _damage(self.path):
            if name not in self.known:
                self._read(name)
            return self.known[name]

    def _read(self, *names: str) -> None:
        """Raises ValueError where a column is as long as no other."""
        with open(os.dup(self.handle), "rb") as raw:
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                self.known.update({name: file[name] for name in names})
        for name in names:
            if name != "details" and _rows_in(name, self.known[name]) not in (len(self.known["stat"]), None):
                raise ValueError("its columns differ in length")

    def all(self) -> dict[str, Array]:
        """Every column."""
        self._read(*COLUMNS, *TEXTS)
        return {name: self.known[name] for name in (*COLUMNS, *TEXTS)}

    def __iter__(self) -> Iterator[str]:
        return iter((*COLUMNS, *TEXTS))

    def __len__(self) -> int:
        return len(COLUMNS) + len(TEXTS)


def _rows_in(name: str, column: Array) -> int | None:
    """How many rows a column is for; None of an empty text, which may be one of no row or of one."""
    if name in TEXTS:
        return int(np.count_nonzero(column == 0)) + 1 if len(column) else None
    return len(column)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What a damaged file makes numpy, zipfile and json raise, in one line."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"the row index {path} is damaged ({error}); run: {mending(path.parent)}, then extract again") from error
