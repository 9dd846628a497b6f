"""INCLUDE-50: fifty Indian words (Zenodo 4010759), as AI4Bharat's keypoint files, as videos with the official lists, or both."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.corpus.media import walk
from pipeline.datasets.include import PUBLISHED, PUBLISHED_STAGE, listed_videos
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

WORDS = (
    "bank", "biglarge", "bird", "black", "boy", "brother", "car", "cellphone", "court", "cow", "death", "dog", "dry", "election",
    "fall", "fan", "father", "girl", "good", "goodmorning", "happy", "hat", "hello", "hot", "house", "i", "it", "long", "loud",
    "monday", "new", "paint", "pen", "priest", "quiet", "red", "shoes", "short", "smalllittle", "storeorshop", "summer", "teacher",
    "thankyou", "time", "trainticket", "tshirt", "white", "window", "year", "youplural",
)  # fmt: skip
"""As the keypoint files write them: letters only, small. One test clip has a label that is none of them; it stays and comes last."""
FOLDERS: Mapping[Split, str] = {"train": "include50_train_keypoints", "val": "include50_val_keypoints", "test": "include50_test_keypoints"}
SIBLINGS = 6
"""Camera file numbers at most so far apart are one recording session of a sign."""


KEYPOINTS: Mapping[str, Any] = {"hands": "wrist", "missing": "zero"}
KINEMATICS: Mapping[str, Any] = {
    **{"normalize": "shoulder", "missing": "zero", "aspect": 16 / 9, "axes": 2},
    "groups": ("absolute", "angles", "trajectory", "local"),
}
TRAINING: Mapping[str, Any] = {
    "stages": ("kinematics",), "frames": 32, "batch_size": 16, "lr": 1e-3, "weight_decay": 0.01, "schedule": "cosine",
    "best_by": "last", "learn": "all", "label_smoothing": 0.1, "time_warp": 0.4, "crop": 0.1, "resample": 0.3, "rotate": 15, "scale": 0.2,
    "shift": 0.2, "part_dropout": 0.1, "motion": 4.0,
}  # fmt: skip
"""Found by grouped folds of the 729 given clips. A number of epochs fixed beforehand selects nothing, so every given clip trains."""


class Include50:
    """Keypoint clips are called by their file, `<word>_MVI_<n>`; its label is that word.

    Videos of the official lists are called by their path without suffix, or belong to the keypoint clip of their word and
    number where there is one. No signer is known. Features come from keypoints where there are any, else from the videos, by
    MediaPipe's separate solutions as the keypoints were made (`pose_hands`).
    """

    layout = (
        "include50_{train,val,test}_keypoints/<word>_MVI_<n>.json, or <Category>/<n>. <word>/MVI_<n>.MOV "
        "with the official include50_{train,test}.csv, or both"
    )
    stages: Mapping[str, Mapping[str, Any]] = {
        "keypoints": KEYPOINTS,
        "kinematics": {"source": "stage:keypoints", **KINEMATICS},
    }
    published_stages: Mapping[str, Mapping[str, Any]] = {
        "keypoints": KEYPOINTS,
        "kinematics_published": {**PUBLISHED_STAGE, "source": "stage:keypoints"},
    }
    published = PUBLISHED
    second_names: Mapping[str, str] = {"kinematics_published": "kinematics"}
    stages_without: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "keypoints": {
            "pose_hands": {},
            "kinematics": {"source": "stage:pose_hands", **KINEMATICS},
            "kinematics_published": PUBLISHED_STAGE,
        },
    }
    training: Mapping[str, Mapping[str, Any]] = {
        "transformer": {
            **TRAINING,
            "epochs": 80,
            "warmup": 5,
            "accumulate": 1,
            "patience": 0,
            "layers": 2,
            "width": 128,
            "heads": 4,
            "feed_forward": 256,
            "dropout": 0.3,
        },
        "bilstm_attention": {**TRAINING, "epochs": 60, "warmup": 3, "clip_norm": 1.0, "input_dropout": 0.1},
        "xgb_meta": {"start": "members", "rounds": 10, "patience": 0},
        "lstm_late": {"stages": ("kinematics",), "lr": 1e-3, "batch_size": 32, "epochs": 50},
    }
    groupings: Mapping[str, Callable[[Sequence[Sample]], Mapping[str, str]]]

    def __init__(self) -> None:
        self.groupings = {"recording": recordings}

    def samples(self, root: Path) -> Iterator[Sample]:
        clips = {sample.id: sample for sample in _keypoints(root)}
        found = bool(clips)
        for video in listed_videos(root, "50"):
            found = True
            label = word(str(video.label))
            twin = clips.get(f"{label}_{Path(video.id).name}")
            if twin:
                clips[twin.id] = replace(twin, media={**twin.media, **video.media})
            else:
                clips[video.id] = replace(video, label=label)
        if not found:
            raise UserError(f"no INCLUDE-50 at {root}: expected {self.layout}; give its place with ROOT=DIR")
        yield from clips.values()

    def classes(self, labels: set[str]) -> list[str]:
        """The fifty words in the order of the alphabet, whichever are there, then any other label."""
        return [*WORDS, *sorted(labels - set(WORDS))]


def word(label: str) -> str:
    """`9. T-Shirt` -> `tshirt`: how AI4Bharat names a word in files and labels."""
    return re.sub("[^a-z]", "", re.sub(r"^\d+\.", "", label.strip()).lower())


def _keypoints(root: Path) -> Iterator[Sample]:
    for split, folder in FOLDERS.items():
        for path in (root / folder / name for _, names in walk(root / folder, depth=0) for name in names if name.endswith(".json")):
            yield Sample(path.stem, {"keypoints": (f"{folder}/{path.name}",)}, _label(path), split, None)


def _label(path: Path) -> str | None:
    """The word of a keypoint file: of its name `<word>_MVI_<n>`, and only where it is called otherwise what the file says."""
    named = re.fullmatch(r"(.+)_MVI_\d+.*", path.stem, flags=re.IGNORECASE)
    if named:
        return named[1]
    try:
        label = json.loads(path.read_bytes())["label"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(label)


def recordings(samples: Sequence[Sample]) -> dict[str, str]:
    """`{id: session}`: clips of one word whose camera file numbers follow each other within SIBLINGS are one session.

    A session is called by its word and lowest number; a clip without a number is one of its own.
    """
    numbered: dict[str, list[tuple[int, str]]] = {}
    groups = {sample.id: sample.id for sample in samples}
    for sample in samples:
        match = re.search(r"(\d+)\D*$", sample.id.rpartition("/")[2])
        if match:
            numbered.setdefault(str(sample.label), []).append((int(match[1]), sample.id))
    for label, clips in numbered.items():
        last, first = -SIBLINGS - 1, 0
        for number, clip in sorted(clips):
            first = number if number - last > SIBLINGS else first
            last = number
            groups[clip] = f"{label}/{first}"
    return groups


dataset: Dataset = Include50()
