"""Damaged shards, markers and indexes set aside, so that the next extraction rebuilds exactly their clips."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from pipeline.atomic import sync
from pipeline.locking import locked
from pipeline.manifest import Home
from pipeline.shards import MARKER_SUFFIX
from pipeline.upkeep.places import ASIDE
from pipeline.upkeep.verify import NEWER, Damage


def mend(home: Home, damages: Sequence[Damage]) -> list[Path]:
    """Move what is damaged into the folder `damaged` beside it, markers first; nothing is deleted. The new places."""
    moved: list[Path] = []
    for dataset, stage in sorted({(damage.dataset, damage.stage) for damage in damages}):
        with locked(home, dataset, [stage]):
            for damage in damages:
                if (damage.dataset, damage.stage) == (dataset, stage):
                    folder = home.cache / dataset / stage / damage.digest
                    moved += [_aside(path) for path in _files(folder, damage) if path.exists()]
    return moved


def _files(folder: Path, damage: Damage) -> list[Path]:
    """A marker and then its data; a row index; `published.json`, which lies in the stage's folder; nothing of a newer signcache."""
    if damage.kind == NEWER:
        return []
    if damage.kind == "published":
        return [(folder if not damage.digest else folder.parent) / damage.name]
    if damage.kind == "index":
        return sorted(folder.glob("rows-*.npz"))
    marker = folder / (damage.name + MARKER_SUFFIX)
    return [marker, *sorted(path for path in folder.glob(f"{damage.name}.*") if path != marker)]


def _aside(path: Path) -> Path:
    """Rename into `damaged/`, under a name that nothing has there."""
    folder = path.parent / ASIDE
    folder.mkdir(exist_ok=True)
    target = folder / path.name
    if target.exists():
        target = folder / f"{path.name}.{secrets.token_hex(4)}"
    os.rename(path, target)
    sync(path.parent)
    return target
