"""Berkeley MHAD: 11 actions by 12 subjects as video and accelerometers (Ofli, Chaudhry, Kurillo, Vidal, Bajcsy, WACV 2013)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.media import walk
from pipeline.datasets._published import SELF_LEARNING, SELF_LEARNING_CLIP, self_learning_stages
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split, SplitRule

CAMERA = "Camera/Cluster01/Cam01"
SENSORS = "Accelerometer"
VIDEO = "bayer_grbg"
"""Its frames are mosaics of green, red, blue, green, as the toolbox of the corpus reads them."""
FRAMES = re.compile(r"S(\d+)/A(\d+)/R(\d+)", re.IGNORECASE)
SENSOR = re.compile(r"acc_h(\d+)_s(\d+)_a(\d+)_r(\d+)\.txt", re.IGNORECASE)
TEST_SUBJECTS = ("s04", "s06", "s08", "s10")
FIRST_SEVEN = tuple(f"s{number:02}" for number in range(1, 8))
ACTIONS = tuple(f"a{number:02}" for number in range(1, 12))


class BerkeleyMhad:
    """`s04_a08_r01` is action 8 by subject 4, first time: label `a08`, signer `s04`. 659 clips: s04 a08 r05 was never published.

    Video is what the first camera saw, one of twelve: a folder of frames that a colour filter left as they were, of the modality
    `bayer_grbg`. Stages read them as RGB where they are told so, as `i3d` is here: `--set source=bayer_grbg` for others.
    `inertial` is the first of six accelerometers, the one that the self-learning fusion (ngoctuhan) takes; the others are
    `inertial_h02` to `inertial_h06`, for `extract berkeley_mhad inertial --as inertial_h02 --set source=inertial_h02`. Each has its
    own length: align on normalised time. A line of a sensor's file is x, y, z, which are read, and a fourth number, some 30 lines a
    second. Other cameras, depth, motion capture and sound are not listed.
    The split is that of the self-learning fusion, which tests on subjects 4, 6, 8 and 10 (219 clips; 95.6 % there, Two-Stream I3D
    92.1 %); `--split first_seven` is that of most others: subjects 1 to 7 train, 8 to 12 test.
    """

    layout = f"{CAMERA}/S<nn>/A<nn>/R<nn>/img_l01_c01_s<nn>_a<nn>_r<nn>_<frame>.pgm, {SENSORS}/Shimmer<nn>/acc_h<nn>_s<nn>_a<nn>_r<nn>.txt"
    stages: Mapping[str, Mapping[str, Any]] = {
        "i3d": {"source": VIDEO, **SELF_LEARNING_CLIP},
        "inertial": {"channels": 4, "columns": (0, 1, 2), "stored_units": ("other",) * 4, "stored_rate_hz": 30.0},
    }
    training: Mapping[str, Mapping[str, Any]] = {
        "inception_time": {"steps": 300},
        "self_learning_fusion": {},
        "self_learning_feature_fusion": {},
        "lstm_late": {"stages": ("i3d", "inertial")},
    }
    published_stages = self_learning_stages(stages["i3d"], stages["inertial"])
    published: Mapping[str, Mapping[str, Any]] = {**SELF_LEARNING, "inception_time": {"steps": 300}}
    protocols: Mapping[str, SplitRule] = {"first_seven": lambda sample: "train" if sample.signer in FIRST_SEVEN else "test"}
    endings: Mapping[str, tuple[str, ...]] = {VIDEO: ("/",)}

    def samples(self, root: Path) -> Iterator[Sample]:
        clips: dict[tuple[int, ...], dict[str, tuple[str, ...]]] = {}
        for clip, modality, file in (*_videos(root), *_sensors(root)):
            media = clips.setdefault(clip, {})
            if modality in media:
                raise UserError(f"two {modality} media below {root} are of one clip: {media[modality][0]} and {file}; remove one")
            media[modality] = (file,)
        if not clips:
            raise UserError(f"no Berkeley MHAD at {root}: expected {self.layout}; give its place with ROOT=DIR")
        for (subject, action, take), media in sorted(clips.items()):
            signer, label = f"s{subject:02}", f"a{action:02}"
            split: Split = "test" if signer in TEST_SUBJECTS else "train"
            yield Sample(f"{signer}_{label}_r{take:02}", media, label, split, signer)

    def classes(self, labels: set[str]) -> list[str]:
        """The 11 actions by their number, whichever are there."""
        return [*ACTIONS, *sorted(labels - set(ACTIONS))]


def _videos(root: Path) -> Iterator[tuple[tuple[int, ...], str, str]]:
    """(subject, action, repetition), modality and folder of every clip of the camera."""
    for below, names in walk(root / CAMERA, depth=3):
        match = FRAMES.fullmatch(below)
        if match and any(name.lower().endswith(".pgm") for name in names):
            yield tuple(map(int, match.groups())), VIDEO, f"{CAMERA}/{below}"


def _sensors(root: Path) -> Iterator[tuple[tuple[int, ...], str, str]]:
    """The same of every file of a sensor."""
    for below, names in walk(root / SENSORS, depth=1):
        for name in names:
            if match := SENSOR.fullmatch(name):
                sensor, *clip = map(int, match.groups())
                yield tuple(clip), "inertial" if sensor == 1 else f"inertial_h{sensor:02}", f"{SENSORS}/{below}/{name}"


dataset: Dataset = BerkeleyMhad()
