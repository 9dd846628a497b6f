"""Which rows of a stage's identity are finished: those of its last index, and those of shards that closed since."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import index, shards
from pipeline.cache.index import Entry, Index, Shard
from pipeline.cache.shards import Failure, Marker
from pipeline.cache.stage import Published, Stage, of_published
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import States

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
    is_whole: bool = True
    """Whether none of the index' shards is gone, those of rows that no clip has among them."""

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

    def past(self, now: Sequence[Failure]) -> list[Failure]:
        """The latest try of every failure but those `now` in a state that the clip has no row of."""
        every = (failure for failures in self.failures.values() for failure in sorted(failures, key=attrgetter("attempts")))
        latest = {(failure.id, failure.stat, failure.content): failure for failure in every}
        for failure in now:
            latest.pop((failure.id, failure.stat, failure.content), None)
        return [failure for (clip, stat, _), failure in latest.items() if not self.has(clip, stat)]

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
    failures = _by_clip([*whole.past, *whole.failures.values()])
    later = _rows_of(_markers(folder, [name for name in names if name not in held]), failures)
    return Finished(whole, later, failures, lost, whole is last)


def _by_clip(failures: Iterable[Failure]) -> dict[str, list[Failure]]:
    found: dict[str, list[Failure]] = {}
    for failure in failures:
        found.setdefault(failure.id, []).append(failure)
    return found


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
    whole = replace(last, columns=columns, shards=[last.shards[number] for number in kept])
    return whole, frozenset(last.position) - frozenset(whole.position)
