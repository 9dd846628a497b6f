"""MP_Data folders: landmarks kept a file a frame, as the widespread MediaPipe tutorial (nicknochnack) writes them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.corpus.media import natural
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample


class MPData:
    """A clip is a folder of frames; its id is its path below the root. The label is the folder above. No signer is known."""

    layout = "MP_Data/<label>/<sequence>/<frame>.npy, each (1662,); the label folders also right below the root"
    stages: Mapping[str, Mapping[str, Any]] = {"mp_data": {}, "kinematics": {"source": "stage:mp_data"}}
    training: Mapping[str, Mapping[str, Any]] = {
        "bilstm_attention": {"stages": ("mp_data",)},
        "lstm_late": {"stages": ("mp_data",), "lr": 1e-3, "batch_size": 32, "epochs": 50},
    }
    endings: Mapping[str, tuple[str, ...]] = {"landmarks": ("/",)}

    def samples(self, root: Path) -> Iterator[Sample]:
        below = root / "MP_Data" if (root / "MP_Data").is_dir() else root
        found = False
        for label in _folders(below):
            for sequence in _folders(label):
                if any(name.endswith(".npy") for name in os.listdir(sequence)):
                    found = True
                    file = sequence.relative_to(root).as_posix()
                    yield Sample(file, {"landmarks": (file,)}, label.name, "unassigned", None)
        if not found:
            raise UserError(f"no MP_Data folders at {root}: expected {self.layout}; give their place with ROOT=DIR")

    def classes(self, labels: set[str]) -> list[str]:
        """Labels in the order of the alphabet, numbers in them by their value."""
        return sorted(labels, key=natural)


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    found = [Path(entry.path) for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith(".")]
    return sorted(found, key=lambda folder: natural(folder.name))


dataset: Dataset = MPData()
