"""What an interrupted verification had found whole, so that the next one goes on where it was."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import xxhash

from pipeline import atomic, registry
from pipeline.cache.shards import MARKER_SUFFIX

NAME = ".verified.json"
SAVE_SECONDS = 2.0


class Verified:
    """Shards found whole in a stage's folder, by the names, sizes and times of their files; kept until a verification completes."""

    def __init__(self, folder: Path, *, again: bool) -> None:
        self.path, self.saved = folder / NAME, time.monotonic()
        self.known: dict[str, str] = {} if again else self._read()
        self.is_complete = False

    def _read(self) -> dict[str, str]:
        try:
            content = json.loads(self.path.read_bytes())
            return {str(name): str(state) for name, state in content["shards"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):  # a cache that cannot be written to is verified all the same
            if self.is_complete:
                self.path.unlink(missing_ok=True)
            else:
                self._save()

    def holds(self, folder: Path, name: str) -> bool:
        """Whether this shard was found whole and none of its files has changed since."""
        return self.known.get(f"{folder.name}/{name}") == _state(folder, name)

    def add(self, folder: Path, name: str) -> None:
        """This shard is whole."""
        self.known[f"{folder.name}/{name}"] = _state(folder, name)
        if time.monotonic() - self.saved > SAVE_SECONDS:
            with contextlib.suppress(OSError):
                self._save()
            self.saved = time.monotonic()

    def complete(self) -> None:
        """Everything was looked at: the next verification reads it all again."""
        self.is_complete = True

    def _save(self) -> None:
        if self.known:
            atomic.replace(self.path, json.dumps({"format": 1, "shards": self.known}).encode())


def _state(folder: Path, name: str) -> str:
    """Changes with the name, size or time of any file of a shard, its marker among them."""
    found = []
    for path in _files(folder, name):
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            found.append(f"{path.relative_to(folder).as_posix()} {stat.st_size} {stat.st_mtime_ns}")
    return xxhash.xxh3_64_hexdigest("\n".join(sorted(found)).encode())


def _files(folder: Path, name: str) -> list[Path]:
    """The marker, and what a shard of this name is made of in any store."""
    found = [folder / (name + MARKER_SUFFIX)]
    for store in registry.names("store"):
        path = folder / (name + registry.create("store", store).suffix)
        found += [path] if path.is_file() else [Path(parent, file) for parent, _, files in os.walk(path) for file in files]
    return found
