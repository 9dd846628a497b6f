"""A corpus of which only features are known: its clips are listed in the table that `signcache import` wrote."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.corpus.media import natural
from pipeline.errors import UserError
from pipeline.types import SPLITS, Dataset, Sample

TABLE = "clips.csv"
COLUMNS = ("id", "label", "split", "signer")


class Imported:
    """Clips without media. Labels are in the order of the alphabet, numbers in them by their value: `2_A` before `10_B`."""

    layout = "clips.csv with the columns id, label, split, signer, as `signcache import` writes it"
    stages: Mapping[str, Mapping[str, Any]] = {}
    training: Mapping[str, Mapping[str, Any]] = {}

    def samples(self, root: Path) -> Iterator[Sample]:
        if not (root / TABLE).is_file():
            raise UserError(f"no imported corpus at {root}: expected {self.layout}")
        with open(root / TABLE, newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if list(rows.fieldnames or ()) != list(COLUMNS):
                raise UserError(f"{root / TABLE} has other columns; expected {', '.join(COLUMNS)}")
            for row in rows:
                split = row["split"] or "unassigned"
                if split not in (*SPLITS, "unassigned"):
                    raise UserError(f"{root / TABLE}: split {split!r} of {row['id']!r} is none of {', '.join(SPLITS)}")
                yield Sample(row["id"], {}, row["label"] or None, split, row["signer"] or None)

    def classes(self, labels: set[str]) -> list[str]:
        return sorted(labels, key=natural)


def write_table(root: Path, samples: Iterable[Sample]) -> None:
    """The table of these clips."""
    import io

    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(COLUMNS)
    for sample in samples:
        split = "" if sample.split == "unassigned" else sample.split
        table.writerow([sample.id, sample.label or "", split, sample.signer or ""])
    atomic.replace(root / TABLE, out.getvalue().encode("utf-8", errors="surrogateescape"))


dataset: Dataset = Imported()
