"""The table of a manifest's clips: a CSV file with a row a clip, and back. One column a track, `rgb`, `radar.0`, `radar.1`."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from pipeline.types import SPLITS, Sample

FIXED_COLUMNS = ("id", "label", "split", "signer")
BLOCK = 10_000
"""Rows that are put into text at once."""


@contextmanager
def opened(path: Path) -> Iterator[tuple[list[str], Iterator[list[str]]]]:
    """The columns of the table of clips, and its rows; raises ValueError where one of these has more or fewer values."""
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.reader(file)
        columns = next(table, [])
        yield columns, (_whole(row, columns) for row in table if row)


def _whole(row: list[str], columns: list[str]) -> list[str]:
    if len(row) != len(columns):
        raise ValueError(f"{len(row)} values for the {len(columns)} columns of {row[0]!r}")
    return row


def samples_of(columns: list[str], rows: Iterable[list[str]]) -> Iterator[Sample]:
    """The clips of the table's rows."""
    places = [columns.index(name) for name in FIXED_COLUMNS]
    media: dict[str, list[int]] = {}
    for place, column in enumerate(columns):
        if column not in FIXED_COLUMNS:
            media.setdefault(column.partition(".")[0], []).append(place)
    for row in rows:
        clip, label, split, signer = [row[place] for place in places]
        if split not in SPLITS:
            raise ValueError(f"split {split!r} of {clip!r}")
        tracks = {modality: parts for modality, own in media.items() if (parts := tuple([row[place] for place in own if row[place]]))}
        yield Sample(clip, tracks, sys.intern(label) or None, split, sys.intern(signer) or None)


def pieces(samples: Sequence[Sample]) -> Iterator[bytes]:
    """The bytes of the table of these clips."""
    kinds = dict.fromkeys((modality, len(paths)) for sample in samples for modality, paths in sample.media.items())
    columns = list(dict.fromkeys(column for kind in kinds for column in _columns(*kind)))
    modalities = [modality for modality, _ in groupby(column.partition(".")[0] for column in columns)]  # one twice fits no clip
    yield _text([[*FIXED_COLUMNS, *columns]])
    for first in range(0, len(samples), BLOCK):
        yield _text([_values(sample, modalities, columns) for sample in samples[first : first + BLOCK]])


def _columns(modality: str, count: int) -> list[str]:
    return [modality] if count == 1 else [f"{modality}.{number}" for number in range(count)]


def _values(sample: Sample, modalities: list[str], columns: list[str]) -> list[str | None]:
    """One row of the table."""
    parts: list[str | None] = [part for paths in sample.media.values() for part in paths]
    if len(parts) != len(columns) or list(sample.media) != modalities:  # it has not all the media, or in another order
        own = [column for modality, paths in sample.media.items() for column in _columns(modality, len(paths))]
        parts = list(map(dict(zip(own, parts, strict=True)).get, columns))
    return [sample.id, sample.label, sample.split, sample.signer, *parts]


def _text(rows: Sequence[Sequence[str | None]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    if "\r" in out.getvalue():  # Python 3.11 leaves these unquoted
        out = io.StringIO()
        csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return out.getvalue().encode("utf-8", errors="surrogateescape")
