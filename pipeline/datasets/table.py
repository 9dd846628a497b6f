"""Clips that a table lists: whole files, or intervals of long ones, with what is known of each."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.intervals import Interval, part, parted
from pipeline.corpus.media import natural
from pipeline.datasets.folder import Folder
from pipeline.errors import UserError, did_you_mean
from pipeline.types import SPLITS, Dataset, Sample

SECONDS, FRAMES = ("start", "end"), ("start_frame", "end_frame")
COLUMNS = ("file", "label", "id", *SECONDS, *FRAMES, "split", "signer")
SUFFIXES = (".csv", ".jsonl")


class Table:
    """A row a clip, in the one `.csv` or `.jsonl` file right below the root, or in `table.csv`, `table.jsonl` where there are several.

    `file` is a path below the root. `start` and `end` in seconds, or `start_frame` and `end_frame`, make the clip that interval of it, from
    the first to before the second, counted from 0 at the file's first frame. Seconds are compared with the time of each frame, to a
    millisecond, so a varying rate does no harm; the rate that stages are told is the mean of the whole file. The label is withheld, the
    split and the signer are not known where their cells are empty. Without `id` a clip is called by its file without suffix, and its
    interval. Other columns do not count.
    """

    layout = (
        "table.csv or table.jsonl with the columns file, label and optionally id, start, end (seconds) or start_frame, end_frame, "
        "split, signer"
    )
    stages: Mapping[str, Mapping[str, Any]] = Folder.stages
    training: Mapping[str, Mapping[str, Any]] = Folder.training

    def samples(self, root: Path) -> Iterator[Sample]:
        path = _table_at(root, self.layout)
        for place, row in _lines(path) if path.suffix.lower() == ".jsonl" else _rows(path):
            yield _sample(place, row)

    def classes(self, labels: set[str]) -> list[str]:
        return sorted(labels, key=natural)


def _table_at(root: Path, layout: str) -> Path:
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()) if root.is_dir() else []
    chosen = [path for path in found if path.stem == "table"] or found
    if not chosen:
        raise UserError(f"no table of clips at {root}: expected {layout}; give its place with ROOT=DIR")
    if len(chosen) > 1:
        raise UserError(f"{root} holds {', '.join(path.name for path in chosen)}; expected one of them, or one called table.csv")
    return chosen[0]


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each row of a CSV file, with the place of it in words."""
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        table = csv.DictReader(file, restval="")
        _refuse_columns(str(path), table.fieldnames or ())
        try:
            for row in table:
                if None in row:
                    raise UserError(f"{path}, line {table.line_num} has more values than there are columns")
                yield f"{path}, line {table.line_num}", row
        except csv.Error as error:
            raise UserError(f"{path}, line {table.line_num}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """The same of JSON lines, their values as text."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(line)
            except ValueError as error:
                raise UserError(f"{place} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise UserError(f'{place} is no JSON object; expected {{"file": ..., "label": ...}}')
            _refuse_columns(place, row)
            yield place, {key: "" if value is None else str(value) for key, value in row.items()}


def _refuse_columns(place: str, found: Any) -> None:
    """Raise UserError where a column is lacking, or is perhaps misspelt."""
    lacking = [column for column in COLUMNS[:2] if column not in found]
    if lacking:
        raise UserError(f"{place} has no column {lacking[0]!r}; it has {', '.join(found) or 'none'}; known are {', '.join(COLUMNS)}")
    others = {*found, *(SECONDS if FRAMES[0] in found else FRAMES if SECONDS[0] in found else ())}
    for column in found:
        near = did_you_mean(column, [known for known in COLUMNS if known not in others])
        if column not in COLUMNS and near != ".":
            raise UserError(f"{place} has a column {column!r}{near} Rename it: what a column of another name says would not count")


def _sample(place: str, row: Mapping[str, str]) -> Sample:
    file, split = row["file"], row.get("split") or "unassigned"
    if not file:
        raise UserError(f"{place} names no file")
    if split not in (*SPLITS, "unassigned"):
        raise UserError(f"{place}: split {split!r} is none of {', '.join(SPLITS)}")
    interval = _interval(place, row)
    media = part(file, interval) if interval else file
    stem = str(Path(parted(file)[0]).with_suffix(""))
    clip = row.get("id") or (part(stem, interval) if interval else stem)
    return Sample(clip, {"rgb": (media,)}, sys.intern(row["label"]) or None, split, row.get("signer") or None)


def _interval(place: str, row: Mapping[str, str]) -> Interval | None:
    """The interval of a row; whether it lies in the file is found out where that is read."""
    said = [columns for columns in (SECONDS, FRAMES) if any(row.get(column) for column in columns)]
    if len(said) > 1:
        raise UserError(f"{place} gives an interval in seconds and in frames; leave one of them empty")
    if not said:
        return None
    for column in said[0]:
        if not row.get(column):
            raise UserError(f"{place} has no {column!r} beside the other; an interval has both, a whole file none")
    start, end = (_number(place, column, row[column], whole=said[0] is FRAMES) for column in said[0])
    return Interval("frames" if said[0] is FRAMES else "t", start, end)


def _number(place: str, column: str, text: str, *, whole: bool) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (whole and number != int(number)):
        raise UserError(f"{place}: {column} {text!r} is no {'number of a frame' if whole else 'number of seconds'}")
    return number


dataset: Dataset = Table()
