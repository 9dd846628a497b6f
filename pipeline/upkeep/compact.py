"""Many small shards of what is published packed into full ones, without the rows that no clip has any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import __version__, index, registry, shards
from pipeline.cache import publish_index
from pipeline.configured import Published, published
from pipeline.index import ORPHAN, Entry, Index, Shard
from pipeline.lanes import SHARD_BYTES, SHARD_CLIPS
from pipeline.locking import locked
from pipeline.manifest import Home
from pipeline.shards import MARKER_SUFFIX, Failure, Marker, Row
from pipeline.types import Array
from pipeline.upkeep.garbage import delete
from pipeline.upkeep.places import size_of, stages

FULL = 0.75
"""A shard that is full by this fraction, and all of whose rows are used, stays as it is."""


@dataclass(frozen=True, slots=True)
class Packed:
    """What was packed: shards before and after, rows of clips dropped that no clip has now, bytes freed."""

    before: int
    after: int
    orphans: int
    freed: int


def compact(home: Home, dataset: str, name: str) -> Packed | None:
    """Pack the published identity of a stage, or None where nothing is published.

    Killed anywhere, what is published stays whole: new shards are complete before one step publishes them, and the
    old ones go last. Raises UserError where a row is damaged, or while an extraction of the name's stages is running.
    """
    with locked(home, dataset, stages(home, dataset)):  # a derived stage may be reading these shards
        said = published(home, dataset, name)
        if said is None:
            return None
        folder = home.cache / dataset / name / said.digest
        table = index.read(folder / said.index)
        packing = _Packing(folder, said, table)
        if not packing.is_worth_it:
            return Packed(len(table.shards), len(table.shards), 0, 0)
        size = size_of(folder)
        now = packing.write()
        publish_index(home, dataset, name, now)
        for shard in packing.old:
            _remove(folder, shard)
        return Packed(len(table.shards), len(now.shards), packing.orphans, size - size_of(folder))


class _Packing:
    """Which shards of an index are packed anew, and their rows as new shards."""

    def __init__(self, folder: Path, said: Published, table: Index) -> None:
        self.folder, self.said, self.table = folder, said, table
        self.entries = [table.entry(number) for number in range(len(table))]
        rows: dict[Shard, list[Row]] = {shard: [] for shard in table.shards}
        for row, shard in self.entries:
            rows[shard].append(row)
        self.old = [shard for shard in table.shards if not self._stays(shard, rows[shard])]
        gone = set(self.old)
        self.moving = [entry for entry in self.entries if entry.shard in gone and entry.row.id != ORPHAN]
        self.orphans = sum(entry.shard in gone and entry.row.id == ORPHAN for entry in self.entries)
        self.groups: list[list[Entry]] = list(_grouped(self.moving, said))
        records = [shards.read_record(folder / (shard.name + MARKER_SUFFIX)) for shard in self.old]
        self.failures = _latest([failure for record in records for failure in record.marker.failures])
        self.adopted = [record.made["adopted"] for record in records if "adopted" in record.made]

    @property
    def is_worth_it(self) -> bool:
        """Whether fewer shards or fewer rows come out."""
        return bool(self.orphans) or max(len(self.groups), bool(self.failures)) < len(self.old)

    def _stays(self, shard: Shard, rows: Sequence[Row]) -> bool:
        if shard.file is None or any(row.id == ORPHAN for row in rows):
            return False
        size = sum(row.length for row in rows) * self.said.row_bytes
        return len(rows) >= FULL * SHARD_CLIPS or size >= FULL * SHARD_BYTES

    def write(self) -> Index:
        """The new shards with their markers, and the index that names them in place of the old ones."""
        made: dict[str, Any] = {"compacted": [shard.name for shard in self.old], "signcache": __version__}
        if self.adopted:  # the last evidence names those before
            made["adopted"] = max(self.adopted, key=lambda evidence: evidence["at"])
        written: list[Shard] = []
        moved: dict[str, Entry] = {}
        try:
            for number, group in enumerate(self.groups or ([[]] if self.failures else [])):
                marker, values = self._joined(number, group)
                written.append(Shard(marker.name, marker.shard, marker.store))
                shards.write_shard(self.folder, marker, values, made)
                moved.update({entry.row.id: entry for entry in index.of_marker(marker)})
        except BaseException:
            for shard in written:
                _remove(self.folder, shard)
            raise
        gone = set(self.old)
        entries = [moved[e.row.id] if e.shard in gone else e for e in self.entries if e.shard not in gone or e.row.id != ORPHAN]
        return index.build(entries, self.table.failures.values(), [*(s for s in self.table.shards if s not in gone), *written])

    def _joined(self, number: int, group: Sequence[Entry]) -> tuple[Marker, Array]:
        """The marker and the values of one new shard, every row checked against its checksum; the first takes the failures."""
        rows, parts, start = [], [], 0
        for row, shard in group:
            every = shards.open_shard(self.folder, shard.store, str(shard.file))[row.start : row.start + row.length]
            values = shards.checked_rows(every, row.checksum, self.folder, shard.file, repr(row.id))
            rows.append(replace(row, start=start))
            parts.append(values)
            start += row.length
        name, store = shards.new_name(number), group[0].shard.store if group else "zarr"
        file = name + registry.create("store", store).suffix if group else None
        marker = Marker(name, file, store, self.said.dtype, self.said.row_shape, tuple(rows), () if number else self.failures)
        return marker, shards.joined(parts, self.said.row_shape, self.said.dtype)


def _latest(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Of failures of the same clip in the same state the latest try."""
    found: dict[tuple[str, int], Failure] = {}
    for failure in failures:
        before = found.get((failure.id, failure.stat))
        if before is None or before.attempts < failure.attempts:
            found[failure.id, failure.stat] = failure
    return tuple(found.values())


def _grouped(entries: Sequence[Entry], said: Published) -> Iterator[list[Entry]]:
    """Entries of one store in groups of a full shard, in the order of the index."""
    for store in dict.fromkeys(entry.shard.store for entry in entries):
        group: list[Entry] = []
        size = 0
        for entry in entries:
            if entry.shard.store != store:
                continue
            added = entry.row.length * said.row_bytes
            if group and (len(group) >= SHARD_CLIPS or size + added > SHARD_BYTES):
                yield group
                group, size = [], 0
            group.append(entry)
            size += added
        if group:
            yield group


def _remove(folder: Path, shard: Shard) -> None:
    """A shard that nothing names any more: its marker first; its data vanish in one step, so that nobody reads a part of them."""
    (folder / (shard.name + MARKER_SUFFIX)).unlink(missing_ok=True)
    if shard.file is not None and (folder / shard.file).exists():
        hidden = folder / f".{shard.file}"
        os.rename(folder / shard.file, hidden)
        delete(hidden)
