"""Damaged shards, markers and indexes set aside, so that the next extraction rebuilds exactly their clips; what has a copy put back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.atomic import replace, sync, unseal
from pipeline.cache.locking import locked
from pipeline.cache.publishing import COPY
from pipeline.cache.shards import MARKER_SUFFIX
from pipeline.cache.upkeep.places import ASIDE, PUBLISHED
from pipeline.cache.upkeep.verify import NEWER, Damage
from pipeline.corpus.manifest import Home


def mend(home: Home, damages: Sequence[Damage]) -> list[str]:
    """Move what is damaged into the folder `damaged` beside it, markers first; nothing is deleted. A line for each file."""
    done: list[str] = []
    for dataset, stage in sorted({(damage.dataset, damage.stage) for damage in damages}):
        with locked(home, dataset, [stage]):
            for damage in damages:
                if (damage.dataset, damage.stage) == (dataset, stage):
                    folder = home.cache / dataset / stage / damage.digest
                    done += [f"set aside: {_aside(path)}" for path in _files(folder, damage) if path.exists()]
            if not (home.cache / dataset / stage / PUBLISHED).exists():
                done += [f"put back as it was published last: {path}" for path in _put_back(home.cache / dataset / stage)]
    return done


def _put_back(folder: Path) -> Iterator[Path]:
    """`published.json` from the copy in the folder of the identity that was published last, where there is one."""
    copies = []
    for path in folder.glob(f"*/{COPY}"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            copies.append((float(unseal(path.read_bytes())["at"]), path))
    if copies:
        replace(folder / PUBLISHED, max(copies)[1].read_bytes())
        yield folder / PUBLISHED


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
