"""INCLUDE-24: Indian medical words (Kaggle linardur/include-24-medical-modified), the corpus of Insignia."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.datasets.folder import videos
from pipeline.errors import UserError
from pipeline.types import Dataset, Sample

WORDS = (
    "Baby", "Bill", "Boy", "Brother", "cold", "Daughter", "Deaf", "Doctor", "dry", "Family", "Father", "Girl", "healthy", "Heavy",
    "High", "Hospital", "Medicine", "Money", "Mother", "Patient", "sick", "Sister", "Son", "Weak",
)  # fmt: skip


class Include24:
    """One folder a word, no split: 80/10/10 within each word, as the source cuts it. No signer is known."""

    layout = "dataset/<Class>/<clip>.MOV (or .MP4 .avi ..., any case), the 24 class folders also right below the root"
    stages: Mapping[str, Mapping[str, Any]] = {"holistic": {}}
    training: Mapping[str, Mapping[str, Any]] = {"bilstm_attention": {}, "lstm_late": {"stages": ("holistic",)}}
    published_stages = stages
    published: Mapping[str, Mapping[str, Any]] = {"bilstm_attention": {}}

    def samples(self, root: Path) -> Iterator[Sample]:
        below = root / "dataset" if (root / "dataset").is_dir() else root
        found = False
        for video in videos(below):
            folders = video.split("/")[:-1]
            if folders:
                found = True
                file = (below / video).relative_to(root)
                yield Sample(file.with_suffix("").as_posix(), {"rgb": (file.as_posix(),)}, folders[0], "unassigned", None)
        if not found:
            raise UserError(f"no INCLUDE-24 at {root}: expected {self.layout}; give its place with ROOT=DIR")

    def classes(self, labels: set[str]) -> list[str]:
        """The 24 words in the order of the alphabet, whichever are there, then any other folder."""
        return [*WORDS, *sorted(labels - set(WORDS))]


dataset: Dataset = Include24()
