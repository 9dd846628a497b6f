"""iMiGUE: 32 classes of micro-gestures, as intervals of interviews, cut videos, or folders of frames (those of freimisi's system)."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pipeline.corpus.intervals import Interval, part, parted
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
    "imigue_rgb_train": "train", "imigue_rgb_validate": "val", "imigue_rgb_test": "test",
}  # fmt: skip
TABLE, LABELS = "labels_20200831.csv", "_label.csv"
TRAIN_SUBJECTS = frozenset({
    2, 4, 5, 6, 9, 10, 12, 13, 14, 15, 17, 18, 20, 21, 22, 23, 25, 28, 29, 30, 31, 35, 36, 38, 39, 41, 42, 43, 44, 46, 47, 48,
    52, 53, 59, 61, 62,
})  # fmt: skip
"""The published protocol: these 37 of the 72 train, the other 35 test."""


class Gesture(NamedTuple):
    """A row of a label file: the class, None where it is withheld, and the interval of the video as it is written there."""

    label: str | None
    start: str
    end: str


class Imigue:
    """A clip is a gesture: an interval of an interview `<vid>.mp4`, a video cut from it, or all frames `<clip>.<frame>.jpg` of one.

    Classes are 1 to 32; raw class 99, illustrative gestures, is 32 (others make it 0: such labels are refused in label files).
    `<vid>_<k>` is row k, from 0, of `<vid>_label.csv` (rows `class,start,end`, anywhere below the root), or where a whole interview has
    none, its k-th of `labels_20200831.csv`, which also tells the subjects: frames from `start` to before `end`, counted from 0. With a
    `training` folder only, clips are divided by subject where these are known, else within their classes; interviews in no such folder
    by the published subjects. What lies in no class folder and has no row has no label, as in the challenge's hidden test.
    The source splits frames at random, so that a clip lies on both sides.
    """

    layout = (
        "training/<class 1..32>/<clip>.<frame>.jpg, or training/<vid>_<k>.mp4 with <vid>_label.csv, or <vid>/<vid>.mp4 "
        "with <vid>_label.csv or labels_20200831.csv, optionally validation/ and testing/ alike, where <clip>.<frame>.jpg has no label"
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
        subjects, tabled = _table(root)
        interviews, files = _looked(root)
        parts = {name for name in SPLITS if (root / name).is_dir()}
        cut = _classes_of_cut_videos(root, parts, files)
        found = [*_intervals(root, interviews, files, tabled)]
        whole = {parted(sample.media["rgb"][0])[0] for sample in found}
        found += [sample for name in sorted(parts) for sample in _clips_of(root, name, cut, whole)]
        if not found:
            raise UserError(f"no iMiGUE frames or videos at {root}: expected {self.layout}; give their place with ROOT=DIR")
        parts |= {name for file in whole for name in PurePosixPath(file).parts if name in SPLITS}
        for sample in found:
            yield _placed(sample, subjects.get(_number(sample.id.rpartition("/")[2])), len(parts))

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


def _clips_of(root: Path, name: str, cut: Mapping[str, str], whole: set[str]) -> Iterator[Sample]:
    """The clips in a part of the corpus that are files of their own: of what is right in it by their rows, in class folders by these."""
    for folder, label in _folders(root, name):
        for clip, file in _clips(root / folder):
            if f"{folder}/{file}" in whole:
                continue
            known = label or cut.get(clip)
            if known is None and SPLITS[name] != "test":
                raise UserError(f"{root / folder / file} lies in no class folder, and no {clip.partition('_')[0]}_label.csv has its row")
            yield Sample(f"{folder}/{clip}", {"rgb": (f"{folder}/{file}",)}, known, SPLITS[name], None)


def _placed(sample: Sample, subject: str | None, parts: int) -> Sample:
    """The sample with its subject, and the split that it has in a corpus of so many parts."""
    split: Split = sample.split if parts > 1 else "unassigned"
    if not parts and subject is not None:
        split = "train" if int(subject) in TRAIN_SUBJECTS else "test"
    return Sample(sample.id, sample.media, sample.label, split, subject)


def _folders(root: Path, part: str) -> list[tuple[str, str | None]]:
    """A part and the class folders in it, each with its class."""
    names = sorted((entry.name for entry in os.scandir(root / part) if entry.is_dir()), key=natural)
    return [(part, None), *((f"{part}/{name}", LAST if name == ILLUSTRATIVE else name) for name in names)]


def _is_class(folder: PurePosixPath) -> bool:
    """Whether a folder is that of a class."""
    return folder.parent.name in SPLITS and folder.name in (*CLASSES, ILLUSTRATIVE)


def _looked(root: Path) -> tuple[list[str], dict[str, Path]]:
    """Videos below the root that are called by a number, as interviews are, and `{video: its label file}`."""
    videos, files = list[str](), dict[str, Path]()
    for below, names in walk(root):
        for name in names:
            if name.endswith(LABELS):
                files[name.removesuffix(LABELS)] = root / below / name
            elif _is_video(name) and Path(name).stem.isdecimal():
                videos.append(f"{below}/{name}" if below else name)
    return sorted(videos, key=natural), files


def _intervals(root: Path, videos: Sequence[str], files: Mapping[str, Path], tabled: Mapping[str, list[Gesture]]) -> Iterator[Sample]:
    """The gestures of the interviews that have rows; raises UserError where the folder of one has none."""
    for video in videos:
        place = PurePosixPath(video)
        is_alone = place.parent.name == place.stem
        if _is_class(place.parent) and not is_alone:
            continue
        splits = [SPLITS[name] for name in place.parts if name in SPLITS]
        source = files.get(place.stem, root / TABLE)
        gestures = _gestures(source, withheld="test" in splits) if place.stem in files else tabled.get(_number(place.stem), [])
        if is_alone and not gestures and not _is_class(place.parent):
            raise UserError(f"{root / video} is an interview, and neither {place.stem}{LABELS} nor {TABLE} has its gestures")
        for row, (label, start, end) in enumerate(gestures):
            try:
                interval = Interval("frames", int(start), int(end))
            except ValueError as error:
                raise UserError(f"{source}, row {row} of {place.stem}: {start!r} to {end!r} are no numbers of frames") from error
            clip = str(place.with_name(f"{place.stem}_{row}"))
            yield Sample(clip, {"rgb": (part(video, interval),)}, label, splits[-1] if splits else "unassigned", None)


def _number(clip: str) -> str:
    """`0054_3` -> `54`: the long video that a clip was cut from, as tables have it."""
    return clip.partition("_")[0].lstrip("0")


def _classes_of_cut_videos(root: Path, parts: set[str], files: Mapping[str, Path]) -> dict[str, str]:
    """`{clip: class}` by the rows of the label files of videos that were cut; those of a test may withhold it."""
    part_of = {clip.partition("_")[0]: part for part in parts for clip, file in _clips(root / part) if _is_video(file)}
    found: dict[str, str] = {}
    for video in part_of.keys() & files.keys():
        rows = _gestures(files[video], withheld=SPLITS[part_of[video]] == "test")
        found |= {f"{video}_{row}": gesture.label for row, gesture in enumerate(rows) if gesture.label}
    return found


def _gestures(path: Path, *, withheld: bool) -> list[Gesture]:
    """The rows of a label file."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row]
    rows = rows[1:] if rows and not rows[0][0].isdecimal() else rows  # a header
    return [Gesture(_label(path, row[0], withheld), *[*row[1:3], "", ""][:2]) for row in rows]


def _label(path: Path, raw: str, withheld: bool) -> str | None:
    """1 to 32; None where a test withholds it."""
    label = LAST if raw == ILLUSTRATIVE else raw
    if label not in CLASSES and not withheld:
        raise UserError(f"{path} has a gesture of class {raw!r}; expected rows class,start,end with a class of 1 to 31, or 99")
    return label if label in CLASSES else None


def _table(root: Path) -> tuple[dict[str, str], dict[str, list[Gesture]]]:
    """`{interview: subject}` and `{interview: gestures}` of the table of all, where it lies below the root or in `Label`."""
    path = next((path for path in (root / TABLE, root / "Label" / TABLE) if path.is_file()), None)
    subjects, gestures = dict[str, str](), dict[str, list[Gesture]]()
    if path is None:
        return subjects, gestures
    with open(path, newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file)
        columns = set(table.fieldnames or ())
        if not {"video_id", "subject_id"} <= columns:
            raise UserError(f"{path} has no columns video_id and subject_id; it has {', '.join(table.fieldnames or ()) or 'none'}")
        for row in table:
            video = _number(row["video_id"].strip())
            subjects[video] = subject = row["subject_id"].strip()
            if not subject.isdecimal():
                raise UserError(f"{path}: subject_id {subject!r} of video {video} is no number")
            if {"class", "start_frame", "end_frame"} <= columns:
                label = _label(path, row["class"].strip(), withheld=False)
                gestures.setdefault(video, []).append(Gesture(label, row["start_frame"].strip(), row["end_frame"].strip()))
    return subjects, gestures


dataset: Dataset = Imigue()
