"""An extraction that was never published, because its code was mended in the middle: its rows, as they would be if it had been."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.cache import index, shards
from pipeline.cache.features import Features
from pipeline.cache.publishing import INDEX_PREFIX
from pipeline.cache.shards import MARKER_SUFFIX
from pipeline.cache.stage import Published, Stage, configure, published
from pipeline.cache.upkeep.places import PUBLISHED, identities
from pipeline.corpus.manifest import Home, Manifest


@dataclass(frozen=True)
class Unfinished:
    """The stage as that extraction would run today, and the rows that it made."""

    stage: Stage
    features: Features


def unfinished(home: Home, table: Manifest, name: str) -> Unfinished | None:
    """The extraction of a stage that was left last, of another identity than today's; None where what is published is younger."""
    folder = home.cache / table.name / name
    found = max(_left(home, table.name, name), key=lambda each: each[0], default=None)
    if found is None or found[0] < _published_at(folder):
        return None
    record = shards.read_record(found[1] / (shards.marker_names(found[1])[-1] + MARKER_SUFFIX))
    before = published(home, table.name, name)
    settings = {**dict.fromkeys(before.settings if before else (), ""), **record.made.get("settings", {})}
    stage = configure(home, table, name, now=settings, kind=record.made.get("stage", ""))
    if stage.fingerprint.digest == found[1].name or stage.upstream:  # what the rows of a derived stage were made from is not known
        return None
    marker = record.marker
    said = Published(stage.kind, found[1].name, {}, stage.settings, marker.row_shape, marker.dtype, "")
    return Unfinished(stage, Features(home, table.name, name, said, _rows(found[1])))


def _left(home: Home, dataset: str, name: str) -> Iterator[tuple[float, Path]]:
    """When each identity that was never published got its last shard."""
    for digest in identities(home, dataset, name):
        folder = home.cache / dataset / name / digest
        names = shards.marker_names(folder)
        if names and not any(folder.glob(f"{INDEX_PREFIX}*.npz")):
            yield max((folder / (each + MARKER_SUFFIX)).stat().st_mtime for each in names), folder


def _published_at(folder: Path) -> float:
    path = folder / PUBLISHED
    return path.stat().st_mtime if path.exists() else 0.0


def _rows(folder: Path) -> index.Index:
    """One row a clip, of several that of the lowest marker name. Failures are not taken over: the code was mended for a reason."""
    entries = dict[str, index.Entry]()
    for name in shards.marker_names(folder):
        for entry in index.of_marker(shards.read_marker(folder / (name + MARKER_SUFFIX))):
            entries.setdefault(entry.row.id, entry)
    return index.build(list(entries.values()))
