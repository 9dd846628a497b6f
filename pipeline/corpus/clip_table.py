"""The table of a manifest's clips: a CSV file with a row a clip, and back. One column a track, `rgb`, `radar.0`, `radar.1`."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import groupby, islice
from pathlib import Path
from typing import IO

import xxhash

from pipeline import atomic
from pipeline.types import SPLITS, Sample

FIXED_COLUMNS = ("id", "label", "split", "signer")
BLOCK = 10_000
"""Rows that are put into text at once."""


def digest(samples: Sequence[Sample]) -> str:
    """Changes with any byte of the table of these clips."""
    found = xxhash.xxh3_64()
    for piece in pieces(samples):
        found.update(piece)
    return found.hexdigest()


def is_at(path: Path, said: str) -> bool:
    """Whether a file is the table with this digest."""
    with suppress(FileNotFoundError), open(path, "rb") as file:
        return _digest_of(file) == said
    return False


def _digest_of(file: IO[bytes]) -> str:
    found = xxhash.xxh3_64()
    while block := file.read(1 << 20):
        found.update(block)
    return found.hexdigest()


def put_beside(path: Path, samples: Sequence[Sample]) -> None:
    """Write the table of these clips beside `path`, where `opened` finds it from the moment on that something names its digest."""
    atomic.replace(_beside(path), b"".join(pieces(samples)))


def bring(path: Path, said: str) -> None:
    """Put the table with this digest at `path` if it still lies beside it."""
    if is_at(_beside(path), said):
        os.replace(_beside(path), path)
        atomic.sync(path.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.next")


@contextmanager
def opened(path: Path, said: str) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The columns of the table with this digest (any, where it is empty) at `path` or still beside it, and its rows.

    Raises ValueError where there is none, or where a row has more or fewer values than columns.
    """
    with _found(path, said) as raw, io.TextIOWrapper(raw, encoding="utf-8", errors="surrogateescape", newline="") as file:
        table = csv.reader(file)
        columns = next(table, [])
        yield columns, (_whole(row, columns) for row in table if row)


def _found(path: Path, said: str) -> IO[bytes]:
    for place in (path, _beside(path)):
        with ExitStack() as stack, suppress(FileNotFoundError):
            file = stack.enter_context(open(place, "rb"))
            if not said or _digest_of(file) == said:
                file.seek(0)
                stack.pop_all()
                return file
    raise ValueError(f"{path} is not as it was written" if path.exists() else f"{path} is missing")


def _whole(row: list[str], columns: list[str]) -> list[str]:
    if len(row) != len(columns):
        raise ValueError(f"{len(row)} values for the {len(columns)} columns of {row[0]!r}")
    return row


def samples_of(columns: list[str], rows: Iterable[list[str]], *, files: bool = True) -> Iterator[Sample]:
    """The clips of the table's rows, with or without their `files`."""
    places = [columns.index(name) for name in FIXED_COLUMNS]
    media: dict[str, list[int]] = {}
    for place, column in enumerate(columns if files else ()):
        if column not in FIXED_COLUMNS:
            media.setdefault(column.partition(".")[0], []).append(place)
    for row in rows:
        clip, label, split, signer = [row[place] for place in places]
        if split not in (*SPLITS, "unassigned"):
            raise ValueError(f"split {split!r} of {clip!r}")
        tracks = {modality: parts for modality, own in media.items() if (parts := tuple([row[place] for place in own if row[place]]))}
        yield Sample(clip, tracks, sys.intern(label) or None, split, sys.intern(signer) or None)


def pieces(samples: Sequence[Sample]) -> Iterator[bytes]:
    """The bytes of the table of these clips."""
    kinds = dict.fromkeys((modality, len(paths)) for sample in samples for modality, paths in sample.media.items())
    columns = list(dict.fromkeys(column for kind in kinds for column in _columns(*kind)))
    modalities = [modality for modality, _ in groupby(column.partition(".")[0] for column in columns)]  # one twice fits no clip
    yield from text([[*FIXED_COLUMNS, *columns]])
    yield from text(_values(sample, modalities, columns) for sample in samples)


def _columns(modality: str, count: int) -> list[str]:
    return [modality] if count == 1 else [f"{modality}.{number}" for number in range(count)]


def _values(sample: Sample, modalities: list[str], columns: list[str]) -> list[str | None]:
    """One row of the table."""
    parts: list[str | None] = [part for paths in sample.media.values() for part in paths]
    if len(parts) != len(columns) or list(sample.media) != modalities:  # it has not all the media, or in another order
        own = [column for modality, paths in sample.media.items() for column in _columns(modality, len(paths))]
        parts = list(map(dict(zip(own, parts, strict=True)).get, columns))
    return [sample.id, sample.label, sample.split, sample.signer, *parts]


def text(rows: Iterable[Iterable[object]]) -> Iterator[bytes]:
    """The lines of a CSV file, block by block; names of files are as they are on disk."""
    waiting = iter(rows)
    while block := list(islice(waiting, BLOCK)):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(block)
        if "\r" in out.getvalue():  # Python 3.11 leaves these unquoted
            out = io.StringIO()
            csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(block)
        yield out.getvalue().encode("utf-8", errors="surrogateescape")
