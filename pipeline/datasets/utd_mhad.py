"""UTD-MHAD: 27 actions by 8 subjects as video, wrist or thigh sensor, skeleton and depth (Chen, Jafari, Kehtarnavaz, ICIP 2015)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.media import walk
from pipeline.datasets._published import SELF_LEARNING, SELF_LEARNING_CLIP, self_learning_stages
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample, Split

MODALITIES: Mapping[str, str] = {"color": "rgb", "inertial": "inertial", "skeleton": "skeleton", "depth": "depth"}
"""Last word of a file's name -> the modality."""
FILE = re.compile(r"a(\d+)_s(\d+)_t(\d+)_(color|inertial|skeleton|depth)\.(avi|mat)", re.IGNORECASE)
ACTIONS = tuple(f"a{number}" for number in range(1, 28))


SKELETON: Mapping[str, Any] = {
    **{"stages": ("skeleton",), "sensor": "inertial", "encoder": "bilstm", "encoder_dropout": 0.0},
    **{"frames": 32, "motion": 5.0, "schedule": "cosine", "warmup": 5, "best_by": "last", "learn": "all"},
    **{"alpha": 3.0, "generator_lr": 3e-3, "generator_epochs": 40, "generator_beta1": 0.9, "lr": 1e-3, "epochs": 20},
    **{"time_warp": 0.3, "scale": 0.1, "turn": 30.0, "bones": 0.1, "limbs": 10.0},
}
"""Of self-learning fusion with the skeleton in place of video."""


class UtdMhad:
    """`a1_s1_t1` is action 1 by subject 1, first time: label `a1`, signer `1`. Odd subjects train, even ones test.

    Three of the 864 clips were never published. A clip is listed with whichever of its media are there. Recordings of one
    clip run at rates that differ and drift (sensor rows are 2.4 to 4.5 times the skeleton's): align on normalised time.
    Self-learning fusion reads video, with its source's settings, for none was there to tune them (91.9 % there, Two-Stream I3D 90.3 %,
    on the even subjects); where no clip has any, the skeleton stands for video, which is another task, and a training says so.
    """

    layout = "RGB/a<n>_s<n>_t<n>_color.avi, Inertial/..._inertial.mat, Skeleton/..._skeleton.mat, Depth/..._depth.mat: any of the four"
    stages: Mapping[str, Mapping[str, Any]] = {
        "inertial": {},
        "skeleton": {"origin": "start", "unit": "torso"},
        "kinematics": {"source": "stage:skeleton"},
        "i3d": SELF_LEARNING_CLIP,
    }
    training: Mapping[str, Mapping[str, Any]] = {
        "inception_time": {
            **{"normalize": "clip", "frames": 40, "steps": 40, "kernel": 16, "modules": 3, "dropout": 0.3},
            **{"lr": 3e-3, "schedule": "cosine", "warmup": 3, "batch_size": 16, "epochs": 60, "best_by": "last", "learn": "all"},
            **{"time_warp": 0.3, "jitter": 0.1, "turn": 20.0, "rotate": 20.0, "mixup": 0.2},
        },
        "bilstm_attention": {
            **{"stages": ("skeleton",), "frames": 32, "motion": 5.0, "min_improvement": 0.0},
            **{"lr": 3e-3, "warmup": 5, "batch_size": 16, "epochs": 40, "best_by": "last", "learn": "all"},
            **{"time_warp": 0.3, "scale": 0.1, "turn": 30.0, "bones": 0.1, "limbs": 10.0},
        },
        "late_fusion": {"members": ("inception_time:stages=inertial", "bilstm_attention:stages=skeleton")},
        "self_learning_fusion": {"stages": ("i3d",), "sensor": "inertial"},
        "self_learning_feature_fusion": {"stages": ("i3d",), "sensor": "inertial"},
        "lstm_late": {"stages": ("skeleton", "inertial"), "normalize": "train", "lr": 1e-3, "batch_size": 32, "epochs": 60},
    }
    without: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
        "rgb": {"self_learning_fusion": {**SKELETON, "video": "bilstm_attention"}, "self_learning_feature_fusion": SKELETON}
    }
    published_stages = self_learning_stages(stages["i3d"], stages["inertial"])
    published = SELF_LEARNING
    endings: Mapping[str, tuple[str, ...]] = {
        "rgb": ("_color.avi",),
        "inertial": ("_inertial.mat",),
        "skeleton": ("_skeleton.mat",),
        "depth": ("_depth.mat",),
    }

    def samples(self, root: Path) -> Iterator[Sample]:
        clips: dict[tuple[int, int, int], dict[str, tuple[str, ...]]] = {}
        for path in sorted(root / below / name for below, names in walk(root, depth=2) if below for name in names):
            match = FILE.fullmatch(path.name)
            if match:
                action, subject, trial = (int(match[place]) for place in (1, 2, 3))
                media, modality = clips.setdefault((action, subject, trial), {}), MODALITIES[match[4].lower()]
                file = path.relative_to(root).as_posix()
                if modality in media:
                    raise UserError(f"two {modality} files below {root} are of one clip: {media[modality][0]} and {file}; remove one")
                media[modality] = (file,)
        if not clips:
            raise UserError(f"no UTD-MHAD at {root}: expected {self.layout}; give its place with ROOT=DIR")
        for (action, subject, trial), media in sorted(clips.items()):
            split: Split = "train" if subject % 2 else "test"
            yield Sample(f"a{action}_s{subject}_t{trial}", media, f"a{action}", split, str(subject))

    def classes(self, labels: set[str]) -> list[str]:
        """The 27 actions by their number, whichever are there."""
        return [*ACTIONS, *sorted(labels - set(ACTIONS))]


dataset: Dataset = UtdMhad()
