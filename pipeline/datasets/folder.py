"""Any folder of clips: one folder a class, and a `split.csv` where splits or signers are known."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from pipeline.corpus.media import composed, walk
from pipeline.errors import UserError
from pipeline.types import SPLITS, Dataset, Sample, Split

VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp"})
SPLIT_TABLE = "split.csv"
VIEWS: Mapping[str, str] = {"rgb": "", "rgb_top": "@top", "rgb_side": "@side"}
"""How the name of a clip goes on before the suffix of the video that shows it so; `@front` is `rgb` as well."""


class Folder:
    """`<class>/<clip>.mp4` at any depth; the label is the first folder. The id is the path below the root without its suffix.

    Other cameras' videos of a clip lie beside it as `<clip>@top.mp4` and `<clip>@side.mp4`, its modalities `rgb_top` and `rgb_side`, which
    stages read by a second name: `--as resnet50_top --set source=rgb_top`. `<clip>@front.mp4` is `<clip>.mp4` by another name.
    """

    layout = (
        "<class>/<clip>.mp4 (or .mkv .mov .avi .webm ..., any case), other views of it as <clip>@top.mp4 and <clip>@side.mp4, "
        "optionally split.csv with columns file, split, signer"
    )
    stages: Mapping[str, Mapping[str, Any]] = {"resnet50": {}}
    training: Mapping[str, Mapping[str, Any]] = {
        # small corpora of few signers: within-clip normalisation leaves what moves, not what is worn (tried on drawn and real clips)
        "lstm_late": {"stages": ("resnet50",), "normalize": "clip", "lr": 1e-3, "batch_size": 32, "epochs": 40},
    }

    def samples(self, root: Path) -> Iterator[Sample]:
        if not root.is_dir():
            raise UserError(f"no folder {root}; expected there: {self.layout}")
        table = _split_table(root / SPLIT_TABLE)
        for clip, media in views(root):
            files = [file for track in media.values() for file in track]
            label, within, _ = clip.partition("/")
            if not within:
                raise UserError(f"{root / files[0]} lies in no class folder; expected: {self.layout}")
            said = {entry for file in files if (entry := table.pop(composed(file), None))}
            if len(said) > 1:
                raise UserError(f"{root / SPLIT_TABLE} gives the views of {clip!r} different splits or signers; name one of them")
            split, signer = said.pop() if said else ("unassigned", None)
            yield Sample(clip, media, sys.intern(label), split, signer)
        if table:
            raise UserError(
                f"{root / SPLIT_TABLE} names {len(table)} files that are not there, first {next(iter(table))!r}; "
                "bring them back, or take out their lines: clips that were listed before keep their splits"
            )

    def classes(self, labels: set[str]) -> list[str]:
        return sorted(labels)


def videos(root: Path) -> Iterator[str]:
    """Every video below `root`, relative to it: as text, for a path object of each file of a large corpus takes longer than to list it."""
    for below, names in walk(root):
        for name in names:
            stem, dot, suffix = name.rpartition(".")
            if stem and dot + suffix.lower() in VIDEO_SUFFIXES:
                yield f"{below}/{name}" if below else name


def views(root: Path) -> Iterator[tuple[str, dict[str, tuple[str, ...]]]]:
    """Each clip's name and media: videos of one folder are one clip where their names differ in nothing but an end of VIEWS.

    Raises UserError where two are of one view of it, or differ in the suffix alone.
    """
    for _, together in groupby(videos(root), lambda file: file.rpartition("/")[0]):
        clips: dict[str, dict[str, tuple[str, ...]]] = {}
        for file in together:
            clip, modality = shown(file)
            media = clips.setdefault(clip, {})
            if modality in media:
                first = media[modality][0]
                raise UserError(f"two clips below {root} have the id {clip!r}: {first} and {file}; rename one of them")
            media[modality] = (file,)
        yield from clips.items()


def shown(file: str) -> tuple[str, str]:
    """The clip that a video shows, and as which modality."""
    stem = file.rpartition(".")[0]
    clip, at, view = stem.rpartition("@")
    ends = {"@front": "rgb", **{end: modality for modality, end in VIEWS.items() if end}}
    is_view = at + view in ends and bool(clip) and not clip.endswith("/")
    return (clip, ends[at + view]) if is_view else (stem, "rgb")


def _split_table(path: Path) -> dict[str, tuple[Split, str | None]]:
    """`{composed file: (split, signer)}` of a split.csv; empty cells are unknown."""
    if not path.exists():
        return {}
    table: dict[str, tuple[Split, str | None]] = {}
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        rows = csv.DictReader(file)
        if "file" not in (rows.fieldnames or ()):
            raise UserError(f"{path} has no column 'file'; expected the columns file, split, signer")
        for row in rows:
            entry = (_split(path, row.get("split") or ""), row.get("signer") or None)
            if table.setdefault(composed(row["file"]), entry) != entry:
                raise UserError(f"{path} names {row['file']!r} twice, with different splits or signers")
    return table


def _split(path: Path, word: str) -> Split:
    if word and word not in SPLITS:
        raise UserError(f"{path}: split {word!r} is none of {', '.join(SPLITS)}")
    return word or "unassigned"


dataset: Dataset = Folder()
