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
    manifest cuts a labelled validation part out of train. All three receivers are expected of every clip, unless `--may-lack radar`
    says that a clip may have none of them; one with some of them fails either way.

    The source (matteocacioppo/LIS_Kaggle) differs: its class index is the place among folder names sorted as text (0, 100, 101, 10,
    ...), and it leaves out in silence what lacks RGB or radar, a clip with two receivers being 64 values wide. Settings of
    `transformer` and `attention_fusion`, which it names as future work, were chosen on the demo corpus: no clip of LIS was at hand.
    """

    layout = "train/<index>_<NAME>/SAMPLE_<n>/SAMPLE_<n>_{RGB.mkv,RDM1.mp4,RDM2.mp4,RDM3.mp4}, val/SAMPLE_<n>/..., test/SAMPLE_<n>/..."
    stages: Mapping[str, Mapping[str, Any]] = {"resnet50": {}, "radar_cnn": {}}
    training: Mapping[str, Mapping[str, Any]] = {
        "lstm_late": {},
        "attention_fusion": {
            **{"normalize": "clip", "lr": 1e-3, "batch_size": 64},
            **{"modality_dropout": 0.4, "frame_drop": 0.2, "time_warp": 0.3},
        },
        "transformer": {
            **{"stages": ("resnet50", "radar_cnn"), "normalize": "clip", "frames": 30, "layers": 2, "width": 128, "dropout": 0.3},
            **{"lr": 1e-3, "schedule": "cosine", "warmup": 5, "batch_size": 64, "accumulate": 1, "epochs": 80, "patience": 0},
            **{"frame_drop": 0.2, "time_warp": 0.3},
        },
    }
    published_stages = stages
    published: Mapping[str, Mapping[str, Any]] = {"lstm_late": {}}
    endings: Mapping[str, tuple[str, ...]] = {"rgb": ("_RGB.mkv",), "radar": tuple(f"_{receiver}.mp4" for receiver in RECEIVERS)}

    def samples(self, root: Path) -> Iterator[Sample]:
        if not (root / "train").is_dir():
            raise UserError(f"no LIS corpus at {root}: expected {self.layout}; give its place with ROOT=DIR, or try: make demo")
        for label in _folders(root / "train"):
            _class_index(label)
            for clip in _folders(root / "train" / label):
                yield _sample(f"train/{label}/{clip}", clip, "train", label)
        for split in ("val", "test"):
            for clip in _folders(root / split):
                yield _sample(f"{split}/{clip}", clip, split, None)

    def classes(self, labels: set[str]) -> list[str]:
        """Position = numeric prefix; a prefix that no clip has keeps its place under its number."""
        named: dict[int, str] = {}
        for label in sorted(labels, key=lambda label: (label.isdecimal(), label)):  # a number alone keeps a place
            other = named.setdefault(_class_index(label), label)
            if other != label and not label.isdecimal():
                raise UserError(f"classes {other!r} and {label!r} have the same numeric prefix; expected one folder an index")
        return [named.get(index, str(index)) for index in range(max(named, default=-1) + 1)]

    def submission(self, labels: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
        """`id,Pred`: the number of `SAMPLE_<n>` without that word, and the class index; in the order of these numbers."""
        yield "id", "Pred"
        yield from sorted((_number(clip), _class_index(label)) for clip, label in labels.items())


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def _class_index(label: str) -> int:
    number = label.partition("_")[0]
    if not number.isdecimal():
        raise UserError(f"class folder {label!r} has no numeric prefix; expected <index>_<NAME>, as in 101_SI")
    return int(number)


def _number(clip: str) -> int:
    number = clip.rpartition("SAMPLE_")[2]
    if not number.isdecimal():
        raise UserError(f"clip {clip!r} has no number for the submission; expected a folder SAMPLE_<n>")
    return int(number)


def _sample(folder: str, clip: str, split: Split, label: str | None) -> Sample:
    """A clip by its folder below the root."""
    radar = tuple([f"{folder}/{clip}_{receiver}.mp4" for receiver in RECEIVERS])
    return Sample(f"{label}/{clip}" if label else clip, {"rgb": (f"{folder}/{clip}_RGB.mkv",), "radar": radar}, label, split, None)


dataset: Dataset = Lis()
