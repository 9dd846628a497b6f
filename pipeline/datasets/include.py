"""INCLUDE: 263 Indian words as videos with the official lists (Zenodo 4010759; Sridhar and others, ACM Multimedia 2020)."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.corpus.media import natural, walk
from pipeline.datasets.folder import videos
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

PUBLISHED_STAGE: Mapping[str, Any] = {
    "source": "stage:pose_hands",
    "groups": ("absolute", "angles", "motion", "shape", "trajectory"),
    "normalize": "centroid",
    "aspect": 16 / 9,
}
"""126 + 78 + 252 + 4 + 30 values, smoothed by Savitzky-Golay (11, 3); `stages/kinematics.py` says what its source leaves open."""
ENSEMBLE: Mapping[str, Any] = {
    **{"stages": ("kinematics_published",), "frames": 64, "lr": 1e-4, "optimizer": "adamw", "weight_decay": 0.01, "schedule": "plateau"},
    **{"batch_size": 64, "accumulate": 4, "epochs": 100, "patience": 15, "best_by": "top1", "precision": "bfloat16"},
}
PUBLISHED: Mapping[str, Mapping[str, Any]] = {
    "transformer": {
        **ENSEMBLE,
        **{"layers": 6, "width": 256, "heads": 8, "feed_forward": 512, "dropout": 0.2, "positions": "learned"},
    },
    "bilstm_attention": {**ENSEMBLE, "warmup": 0, "hidden": 256, "layers": 2, "zoneout": 0.1, "pooling": "query", "dropout": 0.2},
    "feature_fuser": {**ENSEMBLE, "width": 512, "heads": 8, "hidden": 256, "dropout": 0.2},
    "xgb": {"stages": ("kinematics_published",), "rounds": 200},
    "xgb_meta": {"members": ("bilstm_attention", "transformer"), "start": "even"},
}
"""What RohanPatil2/sign-language-recognition states for INCLUDE-50; its code holds none of it, so 97.2, 95.7, 93.4 and 98.7 % are claims.

It does not state optimiser, weight decay and schedule, which are those of the code it forks (AI4Bharat/INCLUDE), nor the kind of mixed
precision: bfloat16 here, which needs no scaling of the loss and runs anywhere. Of the parameters that it names, 12.4 and 8.2 million, the
sizes that it names make 3.3 and 3.3.
"""
COLUMNS = ("Category", "Word", "Video", "FilePath")
Place = tuple[str, ...]


class Include:
    """Clips of the lists, whatever the suffix on disk: many lie there as .MP4 where the list says .MOV, some in `Extra/`.

    The id is the path without suffix, because 508 file names repeat across words; the label is the list's word, of which
    `Second (Number)` has a folder without a number. No signer is known.
    """

    layout = "<Category>/<n>. <word>/MVI_<n>.MOV (or .MP4, any case) and include_{train,test}.csv (Category,Word,Video,FilePath)"
    stages: Mapping[str, Mapping[str, Any]] = {
        "holistic": {},
        "kinematics": {"normalize": "shoulder", "missing": "interpolate", "aspect": 16 / 9},
    }
    published_stages: Mapping[str, Mapping[str, Any]] = {"pose_hands": {}, "kinematics_published": PUBLISHED_STAGE}
    published = PUBLISHED
    second_names: Mapping[str, str] = {"kinematics_published": "kinematics"}
    training: Mapping[str, Mapping[str, Any]] = {
        "transformer": {},
        "bilstm_attention": {"stages": ("kinematics",)},
        "lstm_late": {"stages": ("kinematics",)},
    }

    def samples(self, root: Path) -> Iterator[Sample]:
        found = list(listed_videos(root, ""))
        if not found:
            raise UserError(f"no INCLUDE at {root}: expected {self.layout}; give its place with ROOT=DIR")
        yield from found

    def classes(self, labels: set[str]) -> list[str]:
        return sorted(labels, key=lambda label: (natural(label.lower()), label))


def listed_videos(root: Path, mark: str) -> Iterator[Sample]:
    """Every video of the official lists below `root` whose names hold `mark` ("50", or "" for those without a number).

    A file that is listed and not there keeps the list's path, so that its clip fails by name.
    """
    there = {_place(file): PurePosixPath(file) for file in videos(root)}
    for split, table in _lists(root, mark):
        for row in _rows(table):
            path = there.get(_place(row["FilePath"]), PurePosixPath(row["FilePath"].strip().replace("\\", "/")))
            label = re.sub(r"^\d+\.\s*", "", row["Word"].strip())
            yield Sample(path.with_suffix("").as_posix(), {"rgb": (path.as_posix(),)}, label, split, None)


def _place(path: str) -> Place:
    """What identifies a video: its last folders and stem in small letters, without `Extra` and the number of the word."""
    parts = [part for part in PurePosixPath(path.strip().replace("\\", "/")).parts if part.lower() != "extra"]
    folders = [re.sub(r"^\d+\.\s*", "", part).strip().lower() for part in parts[:-1]]
    return (*folders[-2:], PurePosixPath(parts[-1]).stem.lower()) if parts else ()


def _lists(root: Path, mark: str) -> Iterator[tuple[Split, Path]]:
    words: Mapping[str, Split] = {"train": "train", "val": "val", "test": "test"}
    for path in sorted(root / below / name for below, names in walk(root, depth=1) for name in names if name.endswith(".csv")):
        name = path.stem.lower()
        number = "50" if "50" in name else ""
        split = next((split for word, split in words.items() if re.search(rf"(^|[^a-z]){word}", name)), None)
        if split and number == mark:
            yield split, path


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        table = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (table.fieldnames or ())]
        if missing:
            raise UserError(f"{path} has no column {missing[0]!r}; expected the columns {', '.join(COLUMNS)}")
        yield from table


dataset: Dataset = Include()
