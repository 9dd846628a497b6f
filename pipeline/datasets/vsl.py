"""VSL: 50 Vietnamese signs as 24 frames of video and a body-worn sensor (ngoctuhan, self-learning fusion)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.corpus.media import natural, walk
from pipeline.datasets._published import SELF_LEARNING, SELF_LEARNING_CLIP, self_learning_stages
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

TEST_PERSONS = ("N6", "N7", "N8", "N9")


class Vsl:
    """Both kinds of file have one name, `<person>_<label>_<k>.npy`; which root is which is told by what their files hold.

    Folders may themselves end in `.npy`, which is no part of the label. The id is the path below the root of the video, or of
    the sensor where a clip has no video. Persons N6 to N9 are for the test; a person is the signer.
    Frames are 224 x 224 already, which I3D takes whole. A clip may lack its sensor, and then teaches nobody: it trains what sees video.
    The source's lists have 5,714 training and 2,215 test clips (its README says 5,813 and 2,214), and it scores 87.1 %, Two-Stream I3D
    84.6 %. For one hand's sensor alone, as its `--half`: `extract vsl inertial --set columns=0,1,2,3,4,5`.
    """

    layout = "<video root>/<label>/N<p>_<label>_<k>.npy (24,224,224,3) and <sensor root>/<label>/N<p>_<label>_<k>.npy (T,12)"
    stages: Mapping[str, Mapping[str, Any]] = {
        "i3d": {**SELF_LEARNING_CLIP, "short_side": 224},
        "inertial": {"channels": 12, "stored_units": ("other",) * 12},
    }
    training: Mapping[str, Mapping[str, Any]] = {
        "inception_time": {},
        "self_learning_fusion": {},
        "self_learning_feature_fusion": {},
        "lstm_late": {"stages": ("i3d", "inertial")},
    }
    published_stages = self_learning_stages(stages["i3d"], stages["inertial"])
    published = SELF_LEARNING

    def samples(self, root: Path) -> Iterator[Sample]:
        clips: dict[tuple[str, str], dict[str, str]] = {}
        for folder in sorted(entry.path for entry in os.scandir(root) if entry.is_dir()) if root.is_dir() else ():
            places = sorted(Path(folder, below, name) for below, names in walk(Path(folder), depth=1) if below for name in names)
            files = [path for path in places if path.suffix == ".npy"]
            modality = _modality(files)
            for path in files:
                media = clips.setdefault((path.parent.name.removesuffix(".npy"), path.stem), {})
                file = path.relative_to(root).as_posix()
                if media.setdefault(modality, file) != file:
                    raise UserError(f"two {modality} files below {root} are of one clip: {media[modality]} and {file}; remove one")
        if not clips:
            raise UserError(f"no VSL corpus at {root}: expected {self.layout}; give its place with ROOT=DIR")
        for (label, stem), found in clips.items():
            place = found.get("rgb") or found["inertial"]
            person = re.match(r"[^_]+", stem)
            signer = person[0] if person else None
            split: Split = "test" if signer in TEST_PERSONS else "train"
            yield Sample(place.removesuffix(".npy"), {modality: (file,) for modality, file in found.items()}, label, split, signer)

    def classes(self, labels: set[str]) -> list[str]:
        """Labels in the order of the alphabet, numbers in them by their value."""
        return sorted(labels, key=natural)


def _modality(files: list[Path]) -> str:
    """What the first readable file of a root holds: frames have four axes, sensor rows two."""
    for path in files:
        try:
            axes = np.lib.format.open_memmap(path, mode="r").ndim
        except (ValueError, OSError, EOFError):
            continue
        return "rgb" if axes == 4 else "inertial"
    return "rgb"


dataset: Dataset = Vsl()
