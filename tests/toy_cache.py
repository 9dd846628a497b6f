"""What lies in the cache of a world of toys, read as any program may read it, and compared with plain Python's rows."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import zarr

from pipeline.cache.publishing import Features
from pipeline.cache.stage import published
from pipeline.corpus.manifest import Home
from tests.toys import Plain
from tests.world import World


class Made(NamedTuple):
    """A clip's rows in a finished shard."""

    shard: str
    clip: str
    content: str
    stat: int


@dataclass
class Finished:
    """All that finished shards hold, by digest."""

    rows: dict[str, set[Made]] = field(default_factory=dict)
    failures: dict[str, Counter[tuple[str, int]]] = field(default_factory=dict)

    def contents(self, digest: str) -> set[str]:
        return {made.content for made in self.rows.get(digest, ())}

    def states(self, digest: str) -> set[tuple[str, int]]:
        return {(made.clip, made.stat) for made in self.rows.get(digest, ())}


class ToyCache:
    """Reads the cache of a world again and again; a shard that it has not seen yet is compared with plain Python's rows."""

    def __init__(self, world: World) -> None:
        self.world, self.home = world, Home(world.folder / "cache", world.folder / "manifests")
        self.seen: dict[tuple[Path, int], dict[str, Any]] = {}

    def finished(self) -> Finished:
        found = Finished()
        for path in sorted(self.home.cache.glob("toys/*/*/*.json")):
            if path.name.startswith(".") or path.parent.name == "damaged":
                continue
            key, digest = (path, path.stat().st_mtime_ns), path.parent.name
            if key not in self.seen:
                self.seen[key] = json.loads(path.read_bytes())
                self._compare(path.parent, self.seen[key])
            marker = self.seen[key]
            made = {Made(marker["name"], row["id"], row["content"], row["stat"]) for row in marker["rows"]}
            found.rows.setdefault(digest, set()).update(made)
            found.failures.setdefault(digest, Counter()).update((failure["id"], failure["stat"]) for failure in marker["failures"])
        return found

    def _compare(self, folder: Path, marker: Mapping[str, Any]) -> None:
        """Every row of a shard is what its digest's formula makes of the content that it names."""
        if marker["shard"] is None:
            return
        values = _values(folder / marker["shard"])
        contents = dict(self.world.contents(folder.name))
        for row in marker["rows"]:
            rows = plain(values[row["start"] : row["start"] + row["length"]])
            wanted = self.world.rows(folder.name, contents[row["content"]])
            assert rows == wanted, f"{folder}/{marker['name']}: {row['id']} holds {rows}, its content gives {wanted}"

    def published(self, stage: str) -> dict[str, Plain] | None:
        """{clip: rows} that are published, None where nothing is; all of them are right for the content that they name."""
        said = published(self.home, "toys", stage)
        if said is None:
            return None
        features = Features(self.home, "toys", stage, said)
        contents = dict(self.world.contents(said.digest))
        found = {clip: plain(features[clip]) for clip in features}
        for clip, rows in found.items():
            wanted = self.world.rows(said.digest, contents[features.content(clip)])
            assert rows == wanted, f"{stage}: {clip} is published as {rows}, its content gives {wanted}"
        return found

    def published_contents(self, stage: str) -> set[str]:
        """The content hashes of what is published."""
        said = published(self.home, "toys", stage)
        features = Features(self.home, "toys", stage, said) if said else None
        return {features.content(clip) for clip in features} if features else set()

    def digest(self, stage: str) -> str:
        """That of what is published, or nothing."""
        said = published(self.home, "toys", stage)
        return said.digest if said else ""

    def splits(self) -> Iterator[tuple[str, str]]:
        """(clip, split) of every clip that is listed."""
        with open(self.home.manifests / "toys.csv", newline="") as file:
            yield from ((row["id"], row["split"]) for row in csv.DictReader(file))

    def files(self) -> dict[Path, int]:
        """When every file of the cache was written last."""
        paths = (path for path in self.home.cache.rglob("*") if path.is_file() and path.name != ".lock")
        return {path: path.stat().st_mtime_ns for path in paths}


def plain(rows: np.ndarray[Any, Any]) -> Plain:
    return tuple((float(a), float(b)) for a, b in rows)


def _values(path: Path) -> np.ndarray[Any, Any]:
    if path.suffix == ".zarr":
        return np.asarray(zarr.open_array(path, mode="r")[:])
    with h5py.File(path) as file:
        (name,) = file
        return np.asarray(file[name][:])
