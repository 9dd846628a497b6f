"""Many small shards of what is published packed into full ones, without the rows that no clip has any more."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import __version__, registry
from pipeline.cache import index, shards
from pipeline.cache.index import ORPHAN, Entry, Index, Shard
from pipeline.cache.locking import locked_wholly
from pipeline.cache.provenance import giver
from pipeline.cache.publishing import opened, publish_index
from pipeline.cache.shards import MARKER_SUFFIX, SHARD_BYTES, SHARD_CLIPS, Failure, Marker, Record, Row
from pipeline.cache.stage import Published, published
from pipeline.cache.upkeep.garbage import delete
from pipeline.cache.upkeep.places import size_of
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.types import Array

MADE = ("device", "threads", "stage", "settings", "pulled")
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
    with locked_wholly(home, dataset):  # a derived stage may be reading these shards
        if published(home, dataset, name) is None:
            return None
        features = opened(home, dataset, name)
        folder, table = features.folder, features.index
        packing = _Packing(folder, features.said, table)
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
        self.records = {shard: _record(folder, shard) for shard in self.old}
        gone = set(self.old)
        self.moving = [entry for entry in self.entries if entry.shard in gone and entry.row.id != ORPHAN]
        self.orphans = sum(entry.shard in gone and entry.row.id == ORPHAN for entry in self.entries)
        self.groups: list[list[Entry]] = list(self._grouped())
        records = list(self.records.values())
        self.failures = _latest([failure for record in records for failure in record.marker.failures])
        self.adopted = _joined_evidence([record.made["adopted"] for record in records if "adopted" in record.made])

    @property
    def is_worth_it(self) -> bool:
        """Whether fewer shards or fewer rows come out."""
        return bool(self.orphans) or max(len(self.groups), self._says_more) < len(self.old)

    @property
    def _says_more(self) -> bool:
        """Whether there is something to say where no row is left."""
        return bool(self.failures or self.adopted)

    def _stays(self, shard: Shard, rows: Sequence[Row]) -> bool:
        if shard.file is None or any(row.id == ORPHAN for row in rows):
            return False
        size = sum(row.length for row in rows) * self.said.row_bytes
        return len(rows) >= FULL * SHARD_CLIPS or size >= FULL * SHARD_BYTES

    def write(self) -> Index:
        """The new shards with their markers, and the index that names them in place of the old ones."""
        said = {"compacted": [shard.name for shard in self.old], "signcache": __version__}
        groups = self.groups or ([[]] if self._says_more else [])
        if self.adopted and not any(self._adopted(group) for group in self.groups):
            groups = [*self.groups, []]  # for the runs that were trained on what was adopted
        written: list[Shard] = []
        moved: dict[str, Entry] = {}
        try:
            for number, group in enumerate(groups):
                made = {**said, **(self._made(group[0].shard) | self._adopted(group) if group else self.adopted)}
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
        kept = [shard for shard in self.table.shards if shard not in gone]
        return index.build(entries, self.table.failures.values(), [*kept, *written], self.table.past)

    def _grouped(self) -> Iterator[list[Entry]]:
        """Rows that move, of one store and made alike, in groups of a full shard, in the order of the index."""
        kinds: dict[str, list[Entry]] = {}
        for entry in self.moving:
            made = self._made(entry.shard)
            origin = self._adopted([entry]).get("adopted", {}).get("from")
            kinds.setdefault(f"{entry.shard.store} {origin} { ({**made, 'pulled': giver(made)}) }", []).append(entry)
        for entries in kinds.values():
            group: list[Entry] = []
            size = 0
            for entry in entries:
                added = entry.row.length * self.said.row_bytes
                if group and (len(group) >= SHARD_CLIPS or size + added > SHARD_BYTES):
                    yield group
                    group, size = [], 0
                group.append(entry)
                size += added
            yield group

    def _made(self, shard: Shard) -> dict[str, Any]:
        """What tells how to make the same bytes again, and who gave them."""
        return {key: value for key, value in self.records[shard].made.items() if key in MADE}

    def _adopted(self, group: Sequence[Entry]) -> dict[str, Any]:
        """On what evidence rows were taken over that are packed together: all from one identity, or none."""
        made = [self.records[shard].made for shard in dict.fromkeys(entry.shard for entry in group)]
        return _joined_evidence([each["adopted"] for each in made if "adopted" in each])

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


def _record(folder: Path, shard: Shard) -> Record:
    try:
        return shards.read_record(folder / (shard.name + MARKER_SUFFIX))
    except FileNotFoundError:
        dataset, name = folder.parent.parent.name, folder.parent.name
        raise UserError(
            f"the shard {shard.name} of {dataset}/{name} is missing; run: signcache extract {dataset} {name}, then compact it again"
        ) from None


def _joined_evidence(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The last adoption with all the identities that came before it, or nothing."""
    if not found:
        return {}
    last = max(found, key=lambda evidence: float(evidence["at"]))
    earlier = {digest for evidence in found for digest in (evidence["from"], *evidence.get("earlier", ()))}
    return {"adopted": {**last, "earlier": sorted(earlier - {last["from"]})}}


def _latest(failures: Sequence[Failure]) -> tuple[Failure, ...]:
    """Of failures of the same clip in the same state the latest try."""
    found: dict[tuple[str, int], Failure] = {}
    for failure in failures:
        before = found.get((failure.id, failure.stat))
        if before is None or before.attempts < failure.attempts:
            found[failure.id, failure.stat] = failure
    return tuple(found.values())


def _remove(folder: Path, shard: Shard) -> None:
    """A shard that nothing names any more: its marker first; its data vanish in one step, so that nobody reads a part of them."""
    (folder / (shard.name + MARKER_SUFFIX)).unlink(missing_ok=True)
    if shard.file is not None and (folder / shard.file).exists():
        hidden = folder / f".{shard.file}"
        os.rename(folder / shard.file, hidden)
        delete(hidden)
