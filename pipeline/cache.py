"""The cache: what a stage is for a corpus, which of its rows are finished, what is published, and how features are opened."""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pipeline import atomic, index, manifest, shards
from pipeline.configured import FORMAT, Stage, configure, published, staleness
from pipeline.errors import UserError
from pipeline.features import Features as Features
from pipeline.index import Entry, Index
from pipeline.manifest import Home
from pipeline.sealed import seal, unseal
from pipeline.shards import Failure, Marker

INDEX_PREFIX = "rows-"


@dataclass
class Finished:
    """Every finished row of one identity: those of its last index, and those of markers written since."""

    index: Index
    markers: list[Marker]
    later: dict[str, list[Entry]] = field(default_factory=dict)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    """Clips that the index lists in shards that are gone."""

    def __post_init__(self) -> None:
        for failure in self.index.failures.values():
            self.failures.setdefault(failure.id, []).append(failure)
        for marker in self.markers:
            for entry in index.of_marker(marker):
                self.later.setdefault(entry.row.id, []).append(entry)
            for failure in marker.failures:
                self.failures.setdefault(failure.id, []).append(failure)

    def has(self, clip: str, stat: int) -> bool:
        """Whether a row of this clip in this state is finished."""
        number = self.index.position.get(clip)
        if number is not None and int(self.index.columns["stat"][number]) == stat:
            return True
        return any(entry.row.stat == stat for entry in self.later.get(clip, ()))

    def entry(self, clip: str, stat: int) -> Entry | None:
        """The row of this clip in this state; of two, the one whose marker's name is lowest."""
        found = [entry for entry in self.later.get(clip, ()) if entry.row.stat == stat]
        number = self.index.position.get(clip)
        if number is not None and int(self.index.columns["stat"][number]) == stat:
            found.append(self.index.entry(number))
        return min(found, key=lambda entry: entry.shard.name) if found else None

    def knows(self, clip: str) -> bool:
        """Whether rows of this clip in any state are finished."""
        return clip in self.index.position or clip in self.later

    def failure(self, clip: str, stat: int) -> Failure | None:
        """The recorded failure of this clip in this state, the latest try."""
        found = [failure for failure in self.failures.get(clip, ()) if failure.stat == stat]
        return max(found, key=lambda failure: failure.attempts) if found else None

    @cached_property
    def later_by_content(self) -> dict[str, Entry]:
        return {entry.row.content: entry for entries in self.later.values() for entry in entries}

    @cached_property
    def sizes(self) -> set[int]:
        """Total sizes of all clips ever finished: a clip of another size cannot be one of them."""
        return self.index.sizes | {entry.row.size for entry in self.later_by_content.values()}

    def by_content(self, content: str) -> Entry | None:
        """The row made from these bytes, whatever the clip was called then."""
        number = self.index.by_content.get(content)
        return self.later_by_content.get(content) if number is None else self.index.entry(number)


def finished(stage: Stage, home: Home) -> Finished:
    """What is finished of a stage's identity, from its last index and the markers that it does not hold."""
    folder = stage.folder(home)
    names = shards.marker_names(folder)
    before = published(home, stage.dataset, stage.name)
    current = [before.index] if before and before.digest == stage.fingerprint.digest else []
    for name in [*current, *sorted(path.name for path in folder.glob(f"{INDEX_PREFIX}*.npz"))]:
        if (folder / name).exists():
            last = index.read(folder / name)
            break
    else:
        last = index.build([], [], [])
    whole = _without_missing(last, set(names))
    lost, last = frozenset(last.position) - frozenset(whole.position), whole
    held = {shard.name for shard in last.shards}
    return Finished(last, list(_markers(folder, [name for name in names if name not in held])), lost=lost)


def _markers(folder: Path, names: list[str]) -> Iterator[Marker]:
    """Those that are still there: `compact` may have packed their shards meanwhile."""
    for name in names:
        with suppress(FileNotFoundError):
            yield shards.read_marker(folder / (name + shards.MARKER_SUFFIX))


def _without_missing(last: Index, names: set[str]) -> Index:
    """The index without rows of shards whose marker is gone: no marker, no shard."""
    gone = {i for i, shard in enumerate(last.shards) if shard.name not in names}
    if not gone:
        return last
    kept = [last.entry(i) for i in range(len(last)) if int(last.shard_of[i]) not in gone]
    return index.build(kept, last.failures.values(), [shard for i, shard in enumerate(last.shards) if i not in gone])


def publish(home: Home, stage: Stage, done: Finished, bound: Mapping[str, Entry], failures: list[Failure]) -> None:
    """Make `bound` (clip id -> its row) what training reads, in one step; rows that no clip has stay findable by content."""
    folder = stage.folder(home)
    entries = [Entry(entry.row, entry.shard) for entry in bound.values()]
    used = {(entry.shard.name, entry.row.start) for entry in entries}
    every = [*(done.index.entry(i) for i in range(len(done.index))), *(entry for found in done.later.values() for entry in found)]
    orphans = {(e.shard.name, e.row.start): e for e in every if (e.shard.name, e.row.start) not in used}
    entries += [Entry(_renamed(entry, index.ORPHAN), entry.shard) for entry in orphans.values()]
    marked = [index.Shard(marker.name, marker.shard, marker.store) for marker in done.markers]
    table = index.build(entries, failures, [*done.index.shards, *marked])
    content = {
        "format": FORMAT,
        "dataset": stage.dataset,
        "stage": stage.kind,
        "digest": stage.fingerprint.digest,
        "identity": stage.fingerprint.identity,
        "settings": stage.settings,
        "row_shape": stage.extractor.row_shape,
        "dtype": stage.extractor.dtype,
    }
    _put(folder, content, table)
    _write_lengths(home, stage, [entry for entry in entries if entry.row.id != index.ORPHAN])


def publish_index(home: Home, dataset: str, name: str, table: Index) -> None:
    """Put another row index in place of the published one, in one step: the same rows in other shards."""
    folder = home.cache / dataset / name
    content = unseal((folder / "published.json").read_bytes())
    _put(folder / content["digest"], content, table)
    if lengths_path(home, dataset, name).exists():
        lengths_path(home, dataset, name).touch()  # the same clips and lengths: the table is still the published one


def _put(folder: Path, content: Mapping[str, Any], table: Index) -> None:
    """Publish what lies in an identity's folder; the indexes that it had before go last."""
    name = f"{INDEX_PREFIX}{secrets.token_hex(6)}.npz"
    atomic.replace(folder / name, index.to_bytes(table))
    said = {**content, "index": name, "shards": [shard.name for shard in table.shards], "at": time.time()}
    atomic.replace(folder.parent / "published.json", seal(said, indent=1))
    for old in folder.glob(f"{INDEX_PREFIX}*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def _renamed(entry: Entry, clip: str) -> shards.Row:
    import dataclasses

    return dataclasses.replace(entry.row, id=clip)


def lengths_path(home: Home, dataset: str, name: str) -> Path:
    """The length manifest of a stage."""
    return home.manifests / dataset / f"{name}.csv"


def has_lengths(home: Home, dataset: str, name: str) -> bool:
    """Whether the length manifest is that of what is published: a kill between the two leaves an older one."""
    try:
        written = lengths_path(home, dataset, name).stat().st_mtime_ns
        return written >= (home.cache / dataset / name / "published.json").stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _write_lengths(home: Home, stage: Stage, entries: list[Entry]) -> None:
    """The length manifest: a table for people and other programs, never read back."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["id", "length", "source_length", "rate_hz", "decoder", "content"])
    for row, _ in entries:
        table.writerow([row.id, row.length, row.source_length, f"{row.rate_hz:g}", row.decoder, row.content])
    atomic.replace(lengths_path(home, stage.dataset, stage.name), out.getvalue().encode("utf-8", errors="surrogateescape"))


def open_stage(
    dataset: str,
    stage: str,
    *,
    cache: Path | str | None = None,
    manifests: Path | str | None = None,
    stale: Literal["refuse", "allow"] = "refuse",
) -> Features:
    """The published features of a stage by clip id, each `(T, *row_shape)`; None means the checkout's folders.

    Raises UserError, one sentence with what is stale and what to run, where they are not those of today's stage.
    """
    default = Home()
    home = Home(Path(cache) if cache else default.cache, Path(manifests) if manifests else default.manifests)
    said = published(home, dataset, stage)
    if said is None:
        raise UserError(f"no features of {dataset}/{stage} are published; run: signcache extract {dataset} {stage}")
    if stale == "refuse":
        reason = staleness(configure(home, manifest.read(home, dataset), stage), said)
        if reason:
            raise UserError(
                f"the features of {dataset}/{stage} are stale ({reason}); run: signcache extract {dataset} {stage}, "
                f"or read the old ones with --stale allow"
            )
    try:
        return Features(home, dataset, stage, said)
    except FileNotFoundError:  # published again between the two reads
        again = published(home, dataset, stage)
        if again is None or again.index == said.index:
            raise UserError(f"the row index of {dataset}/{stage} is missing; run: signcache extract {dataset} {stage}") from None
        return Features(home, dataset, stage, again)
