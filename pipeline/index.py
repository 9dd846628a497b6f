"""The row index: which rows every clip has, as plain columns, so that a million clips open in about a second."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import NewerFormat, UserError
from pipeline.shards import Failure, Marker, Row, mending

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
}


@dataclass(frozen=True)
class Index:
    """Rows as columns, the shards they lie in, and the recorded failures."""

    ids: list[str]
    columns: dict[str, NDArray[np.generic]]
    decoders: list[str]
    tracks: list[str]
    shard_of: NDArray[np.int64]
    shards: list[Shard]
    failures: dict[str, Failure]

    def __len__(self) -> int:
        return len(self.ids)

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
        value = {name: column[number].item() for name, column in self.columns.items()}
        row = Row(
            **{**value, "content": value["content"].decode(), "checksum": value["checksum"].decode()},
            id=self.ids[number],
            decoder=self.decoders[number],
            tracks=tuple(json.loads(self.tracks[number])),
        )
        return Entry(row, self.shards[self.shard_of[number]])


def build(entries: Sequence[Entry], failures: Iterable[Failure], shards: Iterable[Shard]) -> Index:
    """An index of these rows; `shards` also names finished shards without any row here."""
    known = list(dict.fromkeys([*shards, *(entry.shard for entry in entries)]))
    number = {shard: i for i, shard in enumerate(known)}
    rows = [entry.row for entry in entries]
    return Index(
        ids=[row.id for row in rows],
        columns={name: np.array([getattr(row, name) for row in rows], dtype) for name, dtype in COLUMNS.items()},
        decoders=[row.decoder for row in rows],
        tracks=[json.dumps(row.tracks) for row in rows],
        shard_of=np.array([number[entry.shard] for entry in entries], "i8"),
        shards=known,
        failures={failure.id: failure for failure in failures},
    )


def of_marker(marker: Marker) -> list[Entry]:
    """The rows of one finished shard."""
    shard = Shard(marker.name, marker.shard, marker.store)
    return [Entry(row, shard) for row in marker.rows]


def to_bytes(index: Index) -> bytes:
    """An uncompressed `.npz`; texts are joined by NUL, which no file name can hold."""
    texts = {"ids": index.ids, "decoders": index.decoders, "tracks": index.tracks}
    details = {"format": FORMAT, "shards": index.shards, "failures": [asdict(failure) for failure in index.failures.values()]}
    out = io.BytesIO()
    np.savez(
        out,
        allow_pickle=False,
        shard_of=index.shard_of,
        details=np.frombuffer(json.dumps(details).encode(), np.uint8),
        **index.columns,
        **{name: np.frombuffer("\0".join(values).encode(errors="surrogateescape"), np.uint8) for name, values in texts.items()},
    )
    return out.getvalue()


def read(path: Path) -> Index:
    """The index in a file written from `to_bytes`; raises UserError where it is damaged or of a newer format."""
    try:
        with np.load(path, allow_pickle=False) as file:
            details = json.loads(file["details"].tobytes())
            if details.get("format", 1) > FORMAT:
                raise NewerFormat(path, details["format"], FORMAT)
            return _index(dict(file.items()), details)
    except (ValueError, KeyError, TypeError, EOFError, OSError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"the row index {path} is damaged ({error}); run: {mending(path.parent)}, then extract again") from error


def _index(arrays: Mapping[str, NDArray[Any]], details: Mapping[str, Any]) -> Index:
    """Raises ValueError where columns differ in length."""
    count = len(arrays["shard_of"])
    texts = {
        name: arrays[name].tobytes().decode(errors="surrogateescape").split("\0") if count else [] for name in ("ids", "decoders", "tracks")
    }
    if any(length != count for length in (*map(len, texts.values()), *(len(arrays[name]) for name in COLUMNS))):
        raise ValueError("its columns differ in length")
    return Index(
        **texts,
        columns={name: arrays[name] for name in COLUMNS},
        shard_of=arrays["shard_of"],
        shards=[Shard(*shard) for shard in details["shards"]],
        failures={failure["id"]: Failure(**failure) for failure in details["failures"]},
    )
