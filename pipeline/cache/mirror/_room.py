"""How much of a bucket's rows lies here: beyond the limit the least recently read shards go, which come back when they are read."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import UserError
from pipeline.objects.bucket import Bucket

LIMIT, DEFAULT_GB = "SIGNCACHE_WORK_GB", 50.0
"""In the environment: how many GB of shards a working folder holds."""
FETCHED, DAY_SECONDS = re.compile(r"\.[0-9]{7}-[0-9a-f]{12}\.\w+\.[0-9a-f]{8}"), 86400.0
KEPT = 0.9
"""Of the limit, after shards went."""


class Room:
    """What is left for shards in a working folder."""

    def __init__(self, root: Path, store: Bucket) -> None:
        self.root, self.store = root, store
        self.left: float | None = None

    def take(self, size: int, newest: Path) -> None:
        """A shard of this size came: where the limit is reached, others go. A map of one that goes stays readable."""
        if self.left is None or self.left < size:
            self.left = self._freed(newest)
        else:
            self.left -= size

    def _freed(self, newest: Path) -> float:
        limit = _limit()
        found = sorted(_shards(self.root), key=lambda pair: pair[0].stat().st_mtime_ns)
        held = sum(size for _, size in found)
        for path, size in found if held > limit else ():
            if held <= KEPT * limit:
                break
            marker = path.with_name(path.name.partition(".")[0] + ".json").relative_to(self.root).as_posix()
            if path != newest and self.store.has(marker):
                remove(path)
                held -= size
        return limit - held


def sweep(root: Path) -> None:
    """Remove what processes that were killed had fetched half; nothing is fetched for a day."""
    for path in root.glob("*/*/*/.*.*.*"):
        if FETCHED.fullmatch(path.name) and time.time() - path.stat().st_mtime > DAY_SECONDS:
            remove(path)


def _limit() -> float:
    said = os.environ.get(LIMIT, str(DEFAULT_GB))
    try:
        return float(said) * 1e9
    except ValueError:
        raise UserError(f"{LIMIT}={said!r}: expected a number of GB, as in {LIMIT}={DEFAULT_GB:g}") from None


def _shards(root: Path) -> Iterator[tuple[Path, int]]:
    """Every shard here whose marker is, with its bytes."""
    for marker in root.glob("*/*/*/*.json"):
        for path in marker.parent.glob(f"{marker.stem}.*"):
            if path != marker:
                files = [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]
                yield path, sum(file.stat().st_size for file in files)


def remove(path: Path) -> None:
    """A file or a folder, if it is there, out of the way in one step."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
