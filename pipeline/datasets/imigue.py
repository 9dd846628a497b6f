"""iMiGUE: 32 classes of micro-gestures in interviews, as folders of frames (the layout of freimisi/micro-gesture-classification)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.media import FRAME, IMAGES, natural, series_name
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

CLASSES = tuple(str(number) for number in range(1, 33))
SPLITS: Mapping[str, Split] = {
    "training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test", "test": "test",
}  # fmt: skip


class Imigue:
    """All frames of one clip are one sample: the source splits frames at random, so that a clip lies on both sides.

    With a `training` folder only, clips are divided within their classes. Classes are the folders' numbers, 1 to 32; raw
    class 99, illustrative gestures, is the last one, 32, in this layout. No subject is known here.
    """

    layout = "training/<class 1..32>/<clip>.<frame>.jpg, optionally validation/ and testing/ alike"
    stages: Mapping[str, Mapping[str, Any]] = {"resnet50_map": {"output": "map"}}
    second_names: Mapping[str, str] = {"resnet50_map": "resnet50"}
    training: Mapping[str, Mapping[str, Any]] = {"frame_cnn": {}}
    endings: Mapping[str, tuple[str, ...]] = {"rgb": (".*.jpg",)}

    def samples(self, root: Path) -> Iterator[Sample]:
        parts = [name for name in SPLITS if (root / name).is_dir()]
        found = False
        for part in parts:
            for label in sorted((entry.name for entry in os.scandir(root / part) if entry.is_dir()), key=natural):
                for series in _clips(root / part / label):
                    found = True
                    clip = f"{part}/{label}/{series.rpartition('*')[0].rstrip('.')}"
                    split: Split = SPLITS[part] if len(parts) > 1 else "unassigned"
                    yield Sample(clip, {"rgb": (f"{part}/{label}/{series}",)}, label, split, None)
        if not found:
            raise UserError(f"no iMiGUE frames at {root}: expected {self.layout}; give their place with ROOT=DIR")

    def classes(self, labels: set[str]) -> list[str]:
        """1 to 32 by their number, whichever are there."""
        for label in labels:
            if not label.isdecimal():
                raise UserError(f"class folder {label!r} is no number; expected {self.layout}")
        return [*CLASSES, *sorted(labels - set(CLASSES), key=int)]


def _clips(folder: Path) -> list[str]:
    """The series of images in a class folder, `<clip>.*.jpg`."""
    images = (entry.name for entry in os.scandir(folder) if Path(entry.name).suffix.lower() in IMAGES)
    found = {series_name(name) for name in images if not name.startswith(".") and FRAME.fullmatch(name)}
    return sorted((series for series in found if series), key=natural)


dataset: Dataset = Imigue()
