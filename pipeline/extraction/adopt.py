"""After a refactor that changes no numbers: a sample is extracted with today's code, and if it agrees the published rows become today's."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cache import shards
from pipeline.cache.index import Entry
from pipeline.cache.locking import locked
from pipeline.cache.publishing import Features
from pipeline.cache.shards import MARKER_SUFFIX, Failure
from pipeline.cache.stage import Published, Stage, published, published_names, staleness
from pipeline.cache.upkeep.restamp import relabel, restamp
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import stat_of
from pipeline.errors import UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.inputs import derived_content, derived_stat
from pipeline.extraction.progress import Progress
from pipeline.extraction.unfinished import unfinished
from pipeline.types import Array

SCRATCH = ".adopt-"
LEFT = "its extraction was left unfinished"


@dataclass(frozen=True)
class Trial:
    """How published rows are tried: how many clips, drawn by which seed, how far they may be off, on which device."""

    sample: int
    seed: int = 0
    tolerance: float = 0.0
    """A fraction of the largest value of the sample; 0 asks for equal bytes."""
    device: str = "auto"


@dataclass(frozen=True)
class Adopted:
    """What became today's, on which evidence; `derived` stages are stale by it. Of an unfinished extraction, which may go on, nothing is
    published yet."""

    clips: int
    evidence: Mapping[str, Any]
    derived: tuple[str, ...]
    is_unfinished: bool


def adopt(home: Home, table: Manifest, stage: Stage, trial: Trial, progress: Progress) -> Adopted:
    """Make the rows of a stage today's, if a sample agrees with what today's code extracts: those of an extraction that was left
    unfinished after what is published, else the published ones.

    Raises UserError, with the largest difference and its clip, where it does not: then nothing has changed.
    """
    left = unfinished(home, table, stage.name)
    said = left.features.said if left else published(home, table.name, stage.name)
    if said is None:
        raise UserError(f"nothing of {table.name}/{stage.name} is published; run: signcache extract {table.name} {stage.name}")
    stage = left.stage if left else stage
    _check_adoptable(home, stage, said)
    with locked(home, table.name, [stage.name]):
        old = _Old(home, table, stage, left.features if left else Features(home, table.name, stage.name, said))
        clips = old.drawn(trial)
        evidence = {
            "from": said.digest,
            "because": LEFT if left else staleness(stage, said),
            "sample": clips,
            **_compared(old, _extracted(home, table, old, clips, trial, progress), trial),
            "tolerance": trial.tolerance,
            "seed": trial.seed,
            "at": time.time(),
        }
        if left:
            relabel(home, stage, old.features, lambda marker: replace(marker, failures=()), evidence)
        else:
            restamp(home, stage, old.features, old.rows, evidence)
    derived = [name for name in published_names(home, table.name) if _derives(home, table.name, name, said.digest)]
    return Adopted(len(old.rows), evidence, tuple(derived), left is not None)


def _check_adoptable(home: Home, stage: Stage, said: Published) -> None:
    """Raise UserError where there is nothing to adopt, or where rows cannot be the same."""
    where = f"{stage.dataset}/{stage.name}"
    if said.digest == stage.fingerprint.digest:
        raise UserError(f"the features of {where} are today's already; there is nothing to adopt")
    now = (stage.extractor.row_shape, stage.extractor.dtype)
    if stage.is_imported or (said.row_shape, said.dtype) != now:
        raise UserError(f"the features of {where} are {said.dtype} {said.row_shape} and today's {now[1]} {now[0]}; run: signcache extract")
    if stage.upstream:
        above = published(home, stage.dataset, stage.upstream.name)
        if above is None or above.digest != stage.upstream.fingerprint.digest:
            name = f"{stage.dataset} {stage.upstream.name}"
            raise UserError(f"{where} derives from {stage.upstream.name!r}, which is stale itself; adopt or extract {name} first")


def _derives(home: Home, dataset: str, name: str, digest: str) -> bool:
    said = published(home, dataset, name)
    return said is not None and said.identity.get("upstream") == digest


class _Old:
    """The published rows, and `rows`: each of them with the input that today's identity knows it by."""

    def __init__(self, home: Home, table: Manifest, stage: Stage, features: Features) -> None:
        self.home, self.table, self.stage, self.features = home, table, stage, features
        entries = {clip: self.features.index.entry(number) for clip, number in self.features.index.position.items()}
        self.rows = self._rederived(entries, features.said) if stage.upstream else entries

    def _rederived(self, entries: Mapping[str, Entry], said: Published) -> dict[str, Entry]:
        """Rows of a derived stage whose upstream row is still the one that they were made from, by its new key."""
        upstream = self.stage.upstream
        assert upstream is not None  # noqa: S101
        now = published(self.home, self.table.name, upstream.name)
        assert now is not None  # noqa: S101
        above = Features(self.home, self.table.name, upstream.name, now)
        before = replace(upstream, fingerprint=replace(upstream.fingerprint, digest=str(said.identity.get("upstream"))))
        found = {}
        for clip, (row, shard) in entries.items():
            made_from = above.index.entry(above.index.position[clip]) if clip in above else None
            if made_from and derived_content(before, made_from) == row.content:
                stat = derived_stat(upstream, made_from)
                key = derived_content(upstream, made_from)
                found[clip] = Entry(replace(row, content=key, stat=stat.token, size=stat.size), shard)
        return found

    def drawn(self, trial: Trial) -> list[str]:
        """The sample: published clips whose files are as they were. Raises UserError where there is none."""
        samples = {sample.id: sample for sample in self.table.samples}
        source = self.stage.extractor.source
        same = [clip for clip in sorted(self.rows) if clip in samples]
        if not self.stage.upstream:
            same = [clip for clip in same if stat_of(self.table.paths(samples[clip], source)).token == self.rows[clip].row.stat]
        if not same:
            raise UserError(f"no finished clip of {self.table.name}/{self.stage.name} is as it was when it was extracted; run extract")
        return sorted(random.Random(trial.seed).sample(same, min(trial.sample, len(same))))  # noqa: S311

    def made_alike(self, clips: Sequence[str]) -> dict[tuple[str, int], list[str]]:
        """The clips by the device and the threads that their rows were made with: equal bytes are promised for equal ones."""
        found: dict[tuple[str, int], list[str]] = {}
        for clip in clips:
            made = shards.read_record(self.features.folder / (self.rows[clip].shard.name + MARKER_SUFFIX)).made
            found.setdefault((str(made.get("device", "auto")), int(made.get("threads", 0))), []).append(clip)
        return found


def _extracted(home: Home, table: Manifest, old: _Old, clips: Sequence[str], trial: Trial, progress: Progress) -> dict[str, Array]:
    """The rows of these clips by today's code, each made as the published ones were."""
    alike = {
        (device if trial.device == "auto" else trial.device, threads): chosen for (device, threads), chosen in old.made_alike(clips).items()
    }
    now, failures = made_again(home, table, old.stage, alike, progress)
    for failure in failures:
        raise UserError(f"{failure.id!r} fails with today's code: {failure.reason}; nothing is adopted")
    if not now:
        raise UserError(f"today's code extracted nothing of {clips[0]!r}; nothing is adopted")
    return now


def made_again(
    home: Home, table: Manifest, stage: Stage, alike: Mapping[tuple[str, int], Sequence[str]], progress: Progress
) -> tuple[dict[str, Array], list[Failure]]:
    """The rows of these clips by today's code, or why they fail, from a scratch folder that is gone afterwards.

    `alike` are the clips by the device and the threads that are to make them; the caller holds the lock of the stage.
    """
    found, failed = dict[str, Array](), list[Failure]()
    chosen = {clip for clips in alike.values() for clip in clips}
    if not chosen:
        return found, failed
    part = replace(table, samples=tuple(sample for sample in table.samples if sample.id in chosen))
    with _scratch(home, stage) as scratch:
        for (device, threads), clips in alike.items():
            options = Options(device=device, threads=threads, only=clips, retry_failed=True)
            failed += extract(scratch, part, [stage], options, progress).failed.get(stage.name, ())
        said = published(scratch, table.name, stage.name)
        if said is not None:
            features = Features(scratch, table.name, stage.name, said)
            found = {clip: np.array(features[clip]) for clip in chosen if clip in features}
    return found, failed


@contextmanager
def _scratch(home: Home, stage: Stage) -> Iterator[Home]:
    """A cache of its own beside the stage's identities, in which the stages that this one derives from are those of the real one."""
    folder = home.cache / stage.dataset / stage.name
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder, ignore_cleanup_errors=True) as name:
        scratch = Home(Path(name) / "cache", Path(name) / "manifests")
        (scratch.cache / stage.dataset).mkdir(parents=True)
        above = stage.upstream
        while above:
            (scratch.cache / stage.dataset / above.name).symlink_to((home.cache / stage.dataset / above.name).absolute())
            above = above.upstream
        yield scratch


def _compared(old: _Old, now: Mapping[str, Array], trial: Trial) -> dict[str, Any]:
    """The largest difference, as a fraction of the sample's largest value, and its clip; UserError beyond the tolerance."""
    found: dict[str, float] = {}
    scale = max((largest(old.features[clip]) for clip in now), default=0.0) or 1.0
    for clip, rows in now.items():
        before = old.features[clip]
        if before.shape != rows.shape:
            raise UserError(f"{clip!r} has {len(before)} rows, and {len(rows)} with today's code; nothing is adopted")
        found[clip] = difference(before, rows) / scale
    worst = max(found, key=lambda clip: found[clip])
    equal = all(old.features[clip].tobytes() == rows.tobytes() for clip, rows in now.items())
    if not equal and (trial.tolerance == 0 or not found[worst] <= trial.tolerance):
        raise UserError(
            f"today's code gives other numbers: the largest difference is {found[worst]:.3g} of the largest value, in {worst!r} "
            f"({len(now)} clips tried, tolerance {trial.tolerance:g}); nothing is adopted"
        )
    return {"largest_difference": found[worst], "clip": worst, "equal_bytes": equal}


def largest(rows: Array) -> float:
    """The largest absolute value among those that are finite."""
    values = np.abs(rows[np.isfinite(rows)].astype(np.float64))
    return float(values.max(initial=0.0))


def difference(a: Array, b: Array) -> float:
    """The largest absolute difference; infinite where one has a NaN or an infinity that the other has not."""
    odd = ~np.isfinite(a) | ~np.isfinite(b)
    if not np.array_equal(a[odd], b[odd], equal_nan=True):
        return float("inf")
    return float(np.abs(a[~odd].astype(np.float64) - b[~odd].astype(np.float64)).max(initial=0.0))
