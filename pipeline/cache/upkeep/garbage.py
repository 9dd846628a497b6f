"""What nobody needs: identities that are neither published nor read by a run, shards without marker, leftovers of what was killed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import TEMPORARY
from pipeline.cache import shards
from pipeline.cache.locking import LOCK, PUBLISHING, PULLING, locked
from pipeline.cache.publishing import COPY, INDEX_PREFIX
from pipeline.cache.shards import MARKER_SUFFIX
from pipeline.cache.stage import Published, configure, published
from pipeline.cache.trained import LEARNED
from pipeline.cache.upkeep._verified import NAME as VERIFIED
from pipeline.cache.upkeep.places import ASIDE, PUBLISHED, RUNS, Uses, identities, size_of, uses
from pipeline.corpus import manifest
from pipeline.corpus.manifest import PREDICTED, Home
from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Garbage:
    """One thing that may go: what it is, its bytes, days since it last changed, and the runs that were trained on it."""

    dataset: str
    stage: str
    path: Path
    what: str
    size: int
    age_days: float
    runs: tuple[str, ...] = ()
    kept: str = ""
    """Why it stays all the same; empty where `--yes` deletes it."""

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "dataset": self.dataset,
            "stage": self.stage,
            "path": str(self.path),
            "what": self.what,
            "size": self.size,
            "age_days": round(self.age_days, 2),
            "runs": list(self.runs),
            "kept": self.kept,
        }


def collect(home: Home, pairs: list[tuple[str, str]], *, yes: bool, runs_too: bool) -> Iterator[Garbage]:
    """What may go of these stages, and what looks like it and stays; `yes` deletes the former. Stages being extracted are left alone."""
    known = uses(home)
    for dataset, stage in pairs:
        folder = home.cache / dataset / stage
        try:
            with locked(home, dataset, [stage]):
                for item in [*_identities(home, dataset, stage, known, runs_too), *_leftovers(home, dataset, stage)]:
                    if yes and not item.kept:
                        delete(item.path)
                    yield item
        except UserError as error:
            yield Garbage(dataset, stage, folder, "stage", 0, 0.0, kept=str(error))
    for path in sorted([*home.cache.glob(f"{RUNS}/**/.*"), *home.manifests.glob(".*"), *home.manifests.glob("*/.*")]):
        if TEMPORARY.fullmatch(path.name) and _age(path) > 1:  # no lock tells whether it is being written
            item = _garbage("", "", path, "temporary file")
            if yes:
                delete(item.path)
            yield item


def _identities(home: Home, dataset: str, stage: str, known: Uses, runs_too: bool) -> Iterator[Garbage]:
    """Every identity but the published one and those that an extraction would go on with."""
    said = published(home, dataset, stage)
    for digest in identities(home, dataset, stage):
        if said and digest == said.digest:
            continue
        folder, runs = home.cache / dataset / stage / digest, tuple(known.of(dataset, digest))
        kept = _in_progress(home, dataset, stage, folder)
        if not kept and runs and not runs_too:
            kept = "runs refer to it (--runs-too)"
        elif not kept and dataset in known.unknown and not runs_too:
            kept = f"{known.unknown[dataset]} is damaged, so it may refer to it (--runs-too)"
        yield _garbage(dataset, stage, folder, f"identity {digest}", runs, kept)


def _in_progress(home: Home, dataset: str, stage: str, folder: Path) -> str:
    """Why an identity may be work that is not published yet, or nothing: it is today's, or what today's is cannot be told."""
    try:
        table, made = manifest.read(home, dataset.removesuffix(PREDICTED)), _begun(folder)
        before = published(home, table.name, stage)
        settings = {**dict.fromkeys(before.settings if before else (), ""), **made["settings"]} if "settings" in made else {}
        today = configure(home, table, stage, now=settings, kind=made.get("stage", ""))
        return "today's stage, not published yet" if today.fingerprint.digest == folder.name else ""
    except UserError as error:
        return f"it may be today's stage, which cannot be told: {error}"


def _begun(folder: Path) -> Mapping[str, Any]:
    """How the extraction began that never published this identity, its kind and `--set` among it; nothing of one that was published."""
    names = shards.marker_names(folder)
    if not names or any(folder.glob(f"{INDEX_PREFIX}*.npz")):
        return {}
    return shards.read_record(folder / (names[-1] + MARKER_SUFFIX)).made


def _leftovers(home: Home, dataset: str, stage: str) -> Iterator[Garbage]:
    """Spools, scratch folders and temporary files of killed runs; what `verify --mend` set aside; orphan shards; old row indexes."""
    folder = home.cache / dataset / stage
    said = published(home, dataset, stage)
    for path in sorted(folder.iterdir()):
        if path.name == ASIDE or (path.name.startswith(".") and path.name not in (LOCK, PUBLISHING, PULLING, VERIFIED)):
            yield _garbage(dataset, stage, path, "set aside as damaged" if path.name == ASIDE else "leftover of a killed run")
    for digest in identities(home, dataset, stage):
        for path, what in _inside(folder / digest, said):
            yield _garbage(dataset, stage, path, what)


def _inside(folder: Path, said: Published | None) -> Iterator[tuple[Path, str]]:
    """The leftovers in an identity's folder. Only the published index is current; without one, the newest may serve still."""
    markers = set(shards.marker_names(folder))
    indexes = sorted(folder.glob(f"{INDEX_PREFIX}*.npz"), key=lambda path: path.stat().st_mtime)
    current = said.index if said and said.digest == folder.name else indexes[-1].name if indexes else ""
    for path in sorted(folder.iterdir()):
        if path.name == ASIDE:
            yield path, "set aside as damaged"
        elif path.name.startswith("."):
            if path.name not in (COPY, LEARNED, f".health-{current}.json"):
                yield path, "leftover of a killed run"
        elif path in indexes:
            if path.name != current:
                yield path, "old row index"
        elif not path.name.endswith(MARKER_SUFFIX) and path.name.partition(".")[0] not in markers:
            yield path, "shard without marker"


def _garbage(dataset: str, stage: str, path: Path, what: str, runs: tuple[str, ...] = (), kept: str = "") -> Garbage:
    return Garbage(dataset, stage, path, what, size_of(path), _age(path), runs, kept)


def _age(path: Path) -> float:
    """Days since anything in it was written."""
    newest = max((part.lstat().st_mtime for part in [path, *(path.iterdir() if path.is_dir() else [])]), default=0.0)
    return max(0.0, time.time() - newest) / 86400


def delete(path: Path) -> None:
    """Remove a file or a folder; `published.json`, then markers first, so that a kill in between leaves nothing that counts as finished."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    for marker in [*path.glob(PUBLISHED), *path.rglob(f"*{MARKER_SUFFIX}")]:
        if marker.parent.suffix != ".zarr":
            marker.unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
