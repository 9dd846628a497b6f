"""Whether a stage makes the rows that are imported: by their shape, and by their values in clips whose video is there."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import registry
from pipeline.cache.likeness import fitting, plain, said_of
from pipeline.cache.publishing import opened
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.corpus.media import composed, exists
from pipeline.errors import UserError
from pipeline.extraction.adopt import difference, largest
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array, Sample


@dataclass(frozen=True)
class Asked:
    """Which stage the rows of an import are said to be like, and how that is checked."""

    stage: str
    settings: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    """Videos called as the clips are, `<label>/<clip>.mp4`; None: those of the corpus."""
    sample: int | None = None
    """Most clips that are compared, drawn by a fixed seed; None compares all whose video is there."""
    tolerance: float = 0.0
    """Of the largest value of a clip."""
    device: str = "auto"


class Likeness:
    """The stage that an import's rows are like; `said` goes with the rows, `doubts` are lines for who imports them."""

    def __init__(self, asked: Asked, table: Manifest, shape: tuple[int, ...], lengths: Mapping[str, int]) -> None:
        counts = np.array([*lengths.values()], np.int64)
        self.asked, self.table = asked, table
        self.stage: Stage = plain(table.name, asked.stage, fitting(asked.stage, asked.settings, counts))
        self.said, self.doubts = said_of(self.stage), list[str]()
        own = self.stage.extractor.row_shape
        if own != shape:
            raise UserError(
                f"the rows are {shape}, those of stage {asked.stage!r} {own}; leave --like out, or name the stage that made them"
            )
        self.samples = {clip: sample for clip, sample in self._with_media().items() if clip in lengths}
        if asked.sample is not None and asked.sample < len(self.samples):
            drawn = random.Random(0).sample(sorted(self.samples), asked.sample)  # noqa: S311
            self.samples = {clip: self.samples[clip] for clip in drawn}

    def _with_media(self) -> dict[str, Sample]:
        """The clips by id whose files are there."""
        source = self.stage.extractor.source
        found = self._below(self.asked.root) if self.asked.root else {sample.id: sample for sample in self.table.samples}
        root = self.asked.root or self.table.binding.root
        return {
            clip: sample
            for clip, sample in found.items()
            if source in sample.media and all(exists(root / part) for part in sample.media[source])
        }

    def _below(self, root: Path) -> dict[str, Sample]:
        """The clips of the import that videos below a folder are called by."""
        videos = {composed(sample.id): sample for sample in registry.create("dataset", "folder").samples(root)}
        names = {sample.id: (sample.id, "/".join(sample.id.split("/")[-2:])) for sample in self.table.samples}
        return {clip: videos[name] for clip, both in names.items() for name in both if name in videos}

    def check(self, rows: Iterable[tuple[str, Array]]) -> None:
        """Compare the rows of an import with those of the stage; raises UserError that names a clip and how far it is off."""
        if not self.samples:
            where = self.asked.root or self.table.binding.root
            self.doubts.append(f"no video of its clips is at {where}: its rows are like {self.asked.stage!r} by shape alone")
        with tempfile.TemporaryDirectory(prefix="signcache-like-", ignore_cleanup_errors=True) as scratch:
            made = self._extracted(Home(Path(scratch) / "cache", Path(scratch) / "manifests")) if self.samples else {}
            off = {clip: self._off(clip, values, made[clip]) for clip, values in rows if clip in made}
        self.said["checked"] = {"clips": len(off), "largest_difference": max(off.values(), default=0.0), "tolerance": self.asked.tolerance}

    def _off(self, clip: str, rows: Array, made: Array) -> float:
        """How far the rows of a clip are off, by the largest value."""
        name = self.asked.stage
        if len(rows) != len(made):
            raise UserError(f"clip {clip!r} has {len(rows)} rows, and stage {name!r} makes {len(made)} of its video; nothing is imported")
        scale = largest(made) or 1.0
        off = difference(made, rows) / scale
        if not off <= self.asked.tolerance:
            worst = int(np.abs(made.astype(np.float64) - rows).reshape(len(rows), -1).max(1).argmax())
            raise UserError(
                f"clip {clip!r}: its rows are not those of stage {name!r}: off by {off:.3g} of the largest value in row {worst} "
                f"(tolerance {self.asked.tolerance:g}); nothing is imported; leave --like out, or see --set and --tolerance"
            )
        return off

    def _extracted(self, scratch: Home) -> dict[str, Array]:
        """The rows that the stage makes of the clips; those that fail are doubts."""
        root = self.asked.root or self.table.binding.root
        samples = tuple(Sample(clip, sample.media, None, "test", None) for clip, sample in self.samples.items())
        listed = Manifest(self.table.name, Binding("folder", root.absolute(), "official", 0), (), samples)
        outcome = extract(scratch, listed, [self.stage], Options(device=self.asked.device), Progress())
        failed = outcome.failed.get(self.stage.name, [])
        self.doubts += [f"clip {failure.id!r} is not compared: {failure.reason}" for failure in failed]
        if len(failed) == len(samples):
            return {}
        features = opened(scratch, listed.name, self.stage.name)
        return {clip: np.array(features[clip]) for clip in features}


def line(said: Mapping[str, Any]) -> str:
    """`like holistic (frames=30): 4 clips compared, off by 2.1e-05 of the largest value at most`."""
    default = registry.create("stage", said["stage"]).model_dump(mode="json")
    given = [f"{key}={value}" for key, value in said["fields"].items() if value != default[key]]
    words = f" ({', '.join(given)})" if given else ""
    count, off = said["checked"]["clips"], said["checked"]["largest_difference"]
    found = f"{count} clips compared, off by {off:.2g} of the largest value at most" if count else "by shape"
    return f"like {said['stage']}{words}: {found}"
