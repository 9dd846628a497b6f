"""LIS-126: Italian signs as RGB and three-receiver radar videos (Kaggle, ICCV MSLR 2025 track 2)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

RECEIVERS = ("RDM1", "RDM2", "RDM3")


class Lis:
    """`train/<index>_<NAME>/SAMPLE_<n>/...` with labels, `val/SAMPLE_<n>/...` and `test/SAMPLE_<n>/...` without.

    The class index is the number before the underscore. Kaggle withholds the labels of val and test, so the
    manifest cuts a labelled validation part out of train. All three receivers are expected of every clip.
    """

    layout = "train/<index>_<NAME>/SAMPLE_<n>/SAMPLE_<n>_{RGB.mkv,RDM1.mp4,RDM2.mp4,RDM3.mp4}, val/SAMPLE_<n>/..., test/SAMPLE_<n>/..."
    stages: Mapping[str, Mapping[str, Any]] = {"resnet50": {}, "radar_cnn": {}}
    training: Mapping[str, Mapping[str, Any]] = {"lstm_late": {}}

    def samples(self, root: Path) -> Iterator[Sample]:
        if not (root / "train").is_dir():
            raise UserError(f"no LIS corpus at {root}: expected {self.layout}; give its place with ROOT=DIR, or try: make demo")
        for folder in _folders(root / "train"):
            _class_index(folder.name)
            for clip in _folders(folder):
                yield _sample(root, clip, "train", folder.name)
        for split in ("val", "test"):
            for clip in _folders(root / split):
                yield _sample(root, clip, split, None)

    def classes(self, labels: set[str]) -> list[str]:
        """Position = numeric prefix; a prefix that no clip has keeps its place under its number."""
        named: dict[int, str] = {}
        for label in sorted(labels):
            other = named.setdefault(_class_index(label), label)
            if other != label:
                raise UserError(f"classes {other!r} and {label!r} have the same numeric prefix; expected one folder an index")
        return [named.get(index, str(index)) for index in range(max(named, default=-1) + 1)]


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _class_index(label: str) -> int:
    number = label.partition("_")[0]
    if not number.isdecimal():
        raise UserError(f"class folder {label!r} has no numeric prefix; expected <index>_<NAME>, as in 101_SI")
    return int(number)


def _sample(root: Path, clip: Path, split: Split, label: str | None) -> Sample:
    where = clip.relative_to(root)
    radar = tuple((where / f"{clip.name}_{receiver}.mp4").as_posix() for receiver in RECEIVERS)
    name = f"{label}/{clip.name}" if label else clip.name
    return Sample(name, {"rgb": ((where / f"{clip.name}_RGB.mkv").as_posix(),), "radar": radar}, label, split, None)


dataset: Dataset = Lis()
