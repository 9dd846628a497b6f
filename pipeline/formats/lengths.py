"""The LIS system's tables of lengths (matteocacioppo/LIS_Kaggle)."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

from pipeline.errors import UserError
from pipeline.formats._clips import Format, Outgoing
from pipeline.types import SPLITS, Sample


def write(source: Outgoing, out: Path) -> None:
    """`out/lengths_<split>.json` as the LIS system writes them: `{"SAMPLE_1": original number of frames}`."""
    out.mkdir()
    found: dict[str, dict[str, int]] = {}
    lengths = source.features.index.columns["source_length"]
    for sample in source.samples:
        name = PurePosixPath(sample.id).name
        table = found.setdefault(_corpus_split(sample), {})
        if name in table:
            raise UserError(
                f"two clips of {_corpus_split(sample)} are called {name!r}, and the LIS system's table knows them by that alone"
            )
        table[name] = int(lengths[source.features.index.position[sample.id]])
    for split, table in found.items():
        (out / f"lengths_{split}.json").write_text(json.dumps(table, indent=2) + "\n")


def _corpus_split(sample: Sample) -> str:
    """The split whose folder holds the clip, where the corpus has such folders: what was cut from train for validation lies in train."""
    files = [part for paths in sample.media.values() for part in paths]
    folder = PurePosixPath(files[0]).parts[0] if files else ""
    return folder if folder in SPLITS else sample.split


format: Format = Format(write=write)
