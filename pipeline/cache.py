"""The cache: what a stage is for a corpus, which of its rows are finished, what is published, and how features are opened."""

from __future__ import annotations

import csv
import io
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, index, manifest, shards
from pipeline.configured import FORMAT, Published, Stage, configure, of_published, staleness
from pipeline.errors import UserError
from pipeline.features import Features as Features
from pipeline.index import Entry, Index, Shard
from pipeline.manifest import Home, Manifest
from pipeline.media import States
from pipeline.sealed import seal, unseal
from pipeline.shards import Failure, Marker
from pipeline.types import Stale

INDEX_PREFIX = "rows-"
GATHERED = 10_000
"""Rows of markers that are put into columns at once."""
DISPUTED = -2
"""In place of a row's number, of a clip that rows or failures of several contents say to be in its state: only its bytes can tell."""


@dataclass
class Finished:
    """Every finished row of one identity: those of its last index, and those of markers written since."""

    index: Index
    later: Index
    """Its shards are those that the index does not hold."""
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    lost: frozenset[str] = frozenset()
    """Clips that the index lists in shards that are gone."""

    @cached_property
    def rows(self) -> Index:
        """All of them in one table, those of the index first."""
        return index.joined([self.index, self.later]) if len(self.later) else self.index

    def places(self, table: Manifest) -> NDArray[np.int64]:
        """`(rows,)` the place of each row's clip in the manifest, -1 where it has none."""
        return table.places_of(self.rows.text("ids"))

    def current(self, places: NDArray[np.int64], states: States) -> NDArray[np.int64]:
        """`(clips,)` the row of each clip in its state now, -1 where none is finished, or DISPUTED.

        Of two made from the same content, that of the lowest marker name.
        """
        rows = np.flatnonzero(places >= 0)
        rows = rows[(self.rows.columns["stat"][rows] == states.tokens[places[rows]]) & states.there[places[rows]]]
        if len(self.later):
            rank = np.argsort(np.argsort(np.array([shard.name for shard in self.rows.shards])))
            rows = rows[np.argsort(-rank[self.rows.shard_of[rows]], kind="stable")]  # of two in one place, the last stays
        found = np.full(len(states.tokens), -1, np.int64)
        found[places[rows]] = rows
        if len(self.later):
            contents = self.rows.columns["content"]
            found[places[rows[contents[rows] != contents[found[places[rows]]]]]] = DISPUTED
        return found

    def dispute(self, numbers: NDArray[np.int64], table: Manifest, states: States) -> None:
        """Mark the clips of `numbers`, those of their rows, that failed in the same state with another content."""
        for clip, failures in self.failures.items():
            place = table.places.get(clip)
            if place is None or numbers[place] < 0:
                continue
            content, stat = self.rows.columns["content"][numbers[place]].decode(), states.tokens[place]
            if any(failure.stat == stat and failure.content != content for failure in failures):
                numbers[place] = DISPUTED

    @cached_property
    def _states(self) -> set[tuple[str, int]]:
        return set(zip(self.rows.ids, self.rows.columns["stat"].tolist(), strict=True))

    def has(self, clip: str, stat: int) -> bool:
        """Whether a row of this clip in this state is finished."""
        return (clip, stat) in self._states

    def failure(self, clip: str, stat: int, content: str = "") -> Failure | None:
        """The recorded failure of this clip in this state, the latest try; where its content is known, none with another."""
        found = [f for f in self.failures.get(clip, ()) if f.stat == stat and (not content or f.content in ("", content))]
        return max(found, key=lambda failure: failure.attempts) if found else None

    def by_content(self, content: str) -> Entry | None:
        """The row made from these bytes, whatever the clip was called then."""
        number = self.rows.by_content.get(content)
        return None if number is None else self.rows.entry(number)


def finished(stage: Stage, home: Home) -> Finished:
    """What is finished of a stage's identity, from its last index and the markers that it does not hold."""
    return of_published(home, stage.dataset, stage.name, lambda said: _finished(stage.folder(home), said))


def _finished(folder: Path, before: Published | None) -> Finished:
    current = [before.index] if before and before.digest == folder.name else []
    for name in [*current, *sorted(path.name for path in folder.glob(f"{INDEX_PREFIX}*.npz"))]:
        if (folder / name).exists():
            last = index.read(folder / name, whole=False)
            break
    else:
        last = index.build([])
    names = shards.marker_names(folder)  # after the index, whose shards may be gone by now: then another one is published
    whole, lost = _without_missing(last, set(names))
    held = {shard.name for shard in whole.shards}
    failures: dict[str, list[Failure]] = {clip: [failure] for clip, failure in whole.failures.items()}
    later = _rows_of(_markers(folder, [name for name in names if name not in held]), failures)
    return Finished(whole, later, failures, lost)


def _markers(folder: Path, names: list[str]) -> Iterator[Marker]:
    """Those that are still there: `compact` may have packed their shards meanwhile."""
    for name in names:
        with suppress(FileNotFoundError):
            yield shards.read_marker(folder / (name + shards.MARKER_SUFFIX))


def _rows_of(markers: Iterator[Marker], failures: dict[str, list[Failure]]) -> Index:
    """The rows of markers, as columns after every so many of them; their failures are added to those known."""
    parts, entries, marked = [], list[Entry](), list[Shard]()
    for marker in markers:
        marked.append(Shard(marker.name, marker.shard, marker.store))
        entries += index.of_marker(marker)
        for failure in marker.failures:
            failures.setdefault(failure.id, []).append(failure)
        if len(entries) >= GATHERED:
            parts.append(index.build(entries))
            entries = []
    return index.joined([index.build(entries, (), marked), *parts])


def _without_missing(last: Index, names: set[str]) -> tuple[Index, frozenset[str]]:
    """The index without rows of shards whose marker is gone (no marker, no shard), and the clips that lose theirs by it."""
    kept = [number for number, shard in enumerate(last.shards) if shard.name in names]
    if len(kept) == len(last.shards):
        return last, frozenset()
    places = np.full(len(last.shards), -1, np.int64)
    places[kept] = np.arange(len(kept))
    part = last.taken(np.flatnonzero(places[last.shard_of] >= 0))
    columns = {**part.columns, "shard_of": places[part.shard_of]}
    whole = Index(columns, [last.shards[number] for number in kept], last.failures)
    return whole, frozenset(last.position) - frozenset(whole.position)


def publish(home: Home, stage: Stage, done: Finished, bound: Index, failures: Sequence[Failure]) -> None:
    """Make `bound`, finished rows under the ids of their clips, what training reads, in one step.

    Rows that no clip has stay findable by content.
    """
    folder = stage.folder(home)
    held = index.build([], failures, [*done.index.shards, *done.later.shards])
    table = index.joined([held, bound, _orphans(done.rows, bound)])
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
    _write_lengths(home, stage, bound)


def _orphans(rows: Index, bound: Index) -> Index:
    """The rows that no clip has, each once, under no id."""
    number = {shard: i for i, shard in enumerate(dict.fromkeys([*rows.shards, *bound.shards]))}

    def starts(table: Index) -> NDArray[np.int64]:
        """Where a row begins, as one number a row."""
        return np.array([number[shard] for shard in table.shards], np.int64)[table.shard_of] << 32 | table.columns["start"]

    every, first = np.unique(starts(rows), return_index=True)
    unused = np.sort(first[~np.isin(every, starts(bound))])
    return rows.taken(unused, [index.ORPHAN] * len(unused))


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


def _write_lengths(home: Home, stage: Stage, bound: Index) -> None:
    """The length manifest: a table for people and other programs, never read back."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["id", "length", "source_length", "rate_hz", "decoder", "content"])
    lengths, source_lengths, rates, contents = (bound.columns[name].tolist() for name in ("length", "source_length", "rate_hz", "content"))
    shown = {rate: f"{rate:g}" for rate in set(rates)}
    parts = (lengths, source_lengths, map(shown.__getitem__, rates), bound.decoders, map(bytes.decode, contents))
    table.writerows(zip(bound.ids, *parts, strict=True))
    atomic.replace(lengths_path(home, stage.dataset, stage.name), out.getvalue().encode("utf-8", errors="surrogateescape"))


def open_stage(
    dataset: str,
    stage: str,
    *,
    cache: Path | str | None = None,
    manifests: Path | str | None = None,
    stale: Stale = "refuse",
) -> Features:
    """The published features of a stage by clip id, each `(T, *row_shape)`; None means the checkout's folders.

    Raises UserError, one sentence with what is stale and what to run, where they are not those of today's stage.
    """
    home = Home.at(cache, manifests)
    features = opened(home, dataset, stage)
    if stale == "refuse":
        reason = staleness(configure(home, manifest.read(home, dataset, clips=False), stage), features.said)
        if reason:
            raise UserError(
                f"the features of {dataset}/{stage} are stale ({reason}); run: signcache extract {dataset} {stage}, "
                f"or read the old ones with --stale allow"
            )
    return features


def opened(home: Home, dataset: str, stage: str) -> Features:
    """The published features of a stage, whatever it is today; raises UserError where there are none."""

    def look(said: Published | None) -> Features:
        if said is None:
            raise UserError(f"no features of {dataset}/{stage} are published; run: signcache extract {dataset} {stage}")
        return Features(home, dataset, stage, said)

    try:
        return of_published(home, dataset, stage, look)
    except FileNotFoundError:
        raise UserError(f"the row index of {dataset}/{stage} is missing; run: signcache extract {dataset} {stage}") from None
