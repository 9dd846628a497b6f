"""iMiGUE: 32 classes of micro-gestures in interviews, as folders of frames (freimisi/micro-gesture-classification) or cut videos."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.media import FRAME, IMAGES, natural, series_name, walk
from pipeline.datasets._published import WHOLE
from pipeline.datasets.folder import VIDEO_SUFFIXES
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

CLASSES = tuple(str(number) for number in range(1, 33))
ILLUSTRATIVE, LAST = "99", CLASSES[-1]
"""The raw class of illustrative gestures; it is the last one here, as in the evaluation code of the MiGA challenge."""
SPLITS: Mapping[str, Split] = {
    "training": "train", "train": "train", "validation": "val", "val": "val", "testing": "test", "test": "test",
}  # fmt: skip
SUBJECTS, LABELS = "labels_20200831.csv", "_label.csv"


class Imigue:
    """All frames of one clip are one sample: the source splits frames at random, so that a clip lies on both sides.

    Classes are 1 to 32; raw class 99, illustrative gestures, is 32 (others make it 0: such labels are refused in label files). With a
    `training` folder only, clips are divided by subject where these are known, else within their classes. What lies in no class folder
    has no label, as in the challenge's hidden test, unless it is a video `<vid>_<k>.mp4` cut by row k, from 0, of a `<vid>_label.csv`
    (rows `class,start,end`, anywhere below the root); its subject is that of `labels_20200831.csv`. Long videos are to be cut first.
    """

    layout = (
        "training/<class 1..32>/<clip>.<frame>.jpg or training/<vid>_<k>.mp4 with <vid>_label.csv, optionally validation/ and testing/ "
        "alike, where testing/<clip>.<frame>.jpg has no label"
    )
    stages: Mapping[str, Mapping[str, Any]] = {"resnet50_map": {"output": "map"}}
    second_names: Mapping[str, str] = {"resnet50_map": "resnet50"}
    training: Mapping[str, Mapping[str, Any]] = {
        "frame_cnn": {},
        "bilstm_attention": {"stages": ("holistic",)},
        "late_fusion": {"members": ("frame_cnn", "bilstm_attention")},
    }
    published_stages = stages
    published: Mapping[str, Mapping[str, Any]] = {
        "finetuned": {
            **{"stages": ("resnet50_map",), **WHOLE, "map_channels": 1024, "learns_from": "frames"},
            **{"batch_size": 4, "frames": 8, "epochs": 20, "patience": 3, "best_by": "loss"},
        },
        "frame_cnn": {},
    }
    endings: Mapping[str, tuple[str, ...]] = {"rgb": (".*.jpg",)}

    def samples(self, root: Path) -> Iterator[Sample]:
        parts = [name for name in SPLITS if (root / name).is_dir()]
        cut, subjects = _classes_of_cut_videos(root, parts), _subjects(root)
        found = False
        for part in parts:
            split: Split = SPLITS[part] if len(parts) > 1 else "unassigned"
            for folder, label in _folders(root, part):
                for clip, file in _clips(root / folder):
                    found = True
                    known = label or cut.get(clip)
                    if known is None and SPLITS[part] != "test":
                        raise UserError(
                            f"{root / folder / file} lies in no class folder, and no {clip.partition('_')[0]}_label.csv has its row"
                        )
                    yield Sample(f"{folder}/{clip}", {"rgb": (f"{folder}/{file}",)}, known, split, subjects.get(_number(clip)))
        if not found:
            raise UserError(f"no iMiGUE frames at {root}: expected {self.layout}; give their place with ROOT=DIR")

    def classes(self, labels: set[str]) -> list[str]:
        """1 to 32 by their number, whichever are there."""
        for label in labels:
            if not label.isdecimal():
                raise UserError(f"class folder {label!r} is no number; expected {self.layout}")
        return [*CLASSES, *sorted(labels - set(CLASSES), key=int)]

    def submission(self, labels: Mapping[str, str]) -> Iterator[tuple[object, ...]]:
        """`Id,Target` of the MiGA challenge's classification track (2025): `<vid>_<k>` and the class from 0 on, 31 being illustrative."""
        yield "Id", "Target"
        for clip in sorted(labels, key=natural):
            yield clip.rpartition("/")[2], int(labels[clip]) - 1


def _clips(folder: Path) -> list[tuple[str, str]]:
    """`(clip, file)` of the series of images, `<clip>.*.jpg`, and of the videos right in a folder."""
    names = [entry.name for entry in os.scandir(folder) if entry.is_file() and not entry.name.startswith(".")]
    series = {series_name(name) for name in names if Path(name).suffix.lower() in IMAGES and FRAME.fullmatch(name)}
    images = [(found.rpartition("*")[0].rstrip("."), found) for found in series if found]
    videos = [(Path(name).stem, name) for name in names if _is_video(name)]
    return sorted([*images, *videos], key=lambda clip: natural(clip[1]))


def _is_video(name: str) -> bool:
    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _folders(root: Path, part: str) -> list[tuple[str, str | None]]:
    """A part and the class folders in it, each with its class."""
    names = sorted((entry.name for entry in os.scandir(root / part) if entry.is_dir()), key=natural)
    return [(part, None), *((f"{part}/{name}", LAST if name == ILLUSTRATIVE else name) for name in names)]


def _number(clip: str) -> str:
    """`0054_3` -> `54`: the long video that a clip was cut from, as tables have it."""
    return clip.partition("_")[0].lstrip("0")


def _classes_of_cut_videos(root: Path, parts: list[str]) -> dict[str, str]:
    """`{clip: class}` by the rows of the label files below the root; those of a test may withhold it."""
    part_of = {clip.partition("_")[0]: part for part in parts for clip, file in _clips(root / part) if _is_video(file)}
    found: dict[str, str] = {}
    for below, names in walk(root) if part_of else ():
        for video in (name.removesuffix(LABELS) for name in names if name.endswith(LABELS)):
            if video in part_of:
                found |= _rows(root / below / f"{video}{LABELS}", video, withheld=SPLITS[part_of[video]] == "test")
    return found


def _rows(path: Path, video: str, *, withheld: bool) -> dict[str, str]:
    """`{clip: class}` of the gestures in a label file, numbered by row from 0."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        labels = [row[0].strip() for row in csv.reader(file) if row]
    labels = labels[1:] if labels and not labels[0].isdecimal() else labels  # a header
    labels = [LAST if label == ILLUSTRATIVE else label for label in labels]
    strange = [label for label in labels if label not in CLASSES]
    if strange and not withheld:
        raise UserError(f"{path} has a gesture of class {strange[0]!r}; expected rows class,start,end with a class of 1 to 31, or 99")
    return {f"{video}_{row}": label for row, label in enumerate(labels) if label in CLASSES}


def _subjects(root: Path) -> dict[str, str]:
    """`{long video: subject}` of the table of all gestures, where it lies below the root or in `Label`."""
    path = next((path for path in (root / SUBJECTS, root / "Label" / SUBJECTS) if path.is_file()), None)
    if path is None:
        return {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        if not {"video_id", "subject_id"} <= set(table.fieldnames or ()):
            raise UserError(f"{path} has no columns video_id and subject_id; it has {', '.join(table.fieldnames or ()) or 'none'}")
        return {row["video_id"].strip().lstrip("0"): row["subject_id"].strip() for row in table}


dataset: Dataset = Imigue()
