"""The clips to do divided among all runs of the same stages: each takes the next units that nobody has, until all are finished."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from pipeline.cache import shards
from pipeline.cache.leases import BEAT, Leases, Seen
from pipeline.cache.shards import MARKER_SUFFIX, SHARD_CLIPS, Failure, Row
from pipeline.corpus.intervals import parted
from pipeline.corpus.manifest import Manifest
from pipeline.extraction.plan import StagePlan

UNITS = 1024
"""Of a corpus, at least, until a unit has as many clips as a shard: the last unit of a run is what the others wait for."""
TAKEN_SECONDS = 10.0
"""Of work that a run takes at a time, once it knows how fast it is."""
LOOK_SECONDS = 1.0
"""Between two looks at what the others have finished, where nothing is left to take."""


@dataclass
class _Part:
    """One stage: what of its clips nobody has finished and this run has not taken, by unit, and what others made of the rest."""

    leases: Leases
    todo: dict[int, dict[str, int]]
    known: set[str]
    units: Mapping[str, int]
    others: int = 0
    failed: list[Failure] = field(default_factory=list)
    seen: Seen = field(default_factory=lambda: Seen({}, (), ()))
    taken: dict[int, set[str]] = field(default_factory=dict)
    """The clips of units that this run holds whose rows have not landed."""

    def look(self) -> None:
        """Strike out what lies in shards that were not known."""
        self.seen = self.leases.look()
        for name in self.seen.markers:
            if name not in self.known:
                self.known.add(name)
                self._strike(shards.read_marker(self.leases.folder / (name + MARKER_SUFFIX)))

    def _strike(self, marker: shards.Marker) -> None:
        entries: tuple[Row | Failure, ...] = (*marker.rows, *marker.failures)
        for found in entries:
            unit = self.units.get(found.id, -1)
            if self.todo.get(unit, {}).get(found.id) == found.stat:
                del self.todo[unit][found.id]
                if not self.todo[unit]:
                    del self.todo[unit]
                self.others += 1
                if isinstance(found, Failure):
                    self.failed.append(found)

    def sealed(self, clips: Collection[str]) -> None:
        """These clips lie in a finished shard: a unit all of whose clips do is given back."""
        for clip in clips:
            unit = self.units[clip]
            left = self.taken.get(unit, set())
            left.discard(clip)
            if not left and self.taken.pop(unit, None) is not None:
                self.leases.release(unit)


class Division:
    """This run's share of a pass; its leases beat as long as it is entered."""

    def __init__(self, table: Manifest, plans: Mapping[str, StagePlan], folders: Mapping[str, Path]) -> None:
        self.size = max(1, min(SHARD_CLIPS, len(table.samples) // UNITS))
        self.began, self.done = time.monotonic(), dict.fromkeys(plans, 0)
        self.failed = dict.fromkeys(plans, 0)
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.parts: dict[str, _Part] = {}
        for name, result in plans.items():
            self.parts[name] = self._part(table, result, folders[name], name)
        self.ready: dict[int, dict[str, list[str]]] = {}
        self.thread = threading.Thread(target=self._beat, name="leases", daemon=True)

    def _part(self, table: Manifest, result: StagePlan, folder: Path, name: str) -> _Part:
        todo: dict[int, dict[str, int]] = {}
        units: dict[str, int] = {}
        places = _places(table, result)
        for item in sorted(result.todo, key=lambda item: places[item.sample.id]):
            unit = units[item.sample.id] = places[item.sample.id] // self.size
            todo.setdefault(unit, {})[item.sample.id] = item.stat.token
        known = {shard.name for shard in chain(result.done.index.shards, result.done.later.shards)}
        return _Part(Leases(folder, lambda: self._said(name)), todo, known, units)

    def _said(self, name: str) -> dict[str, Any]:
        """What this run's file says of a stage."""
        holds = sum(map(len, list(self.parts[name].taken.values()))) if name in self.parts else 0
        return {"clips": self.done[name], "failed": self.failed[name], "holds": holds, "seconds": round(time.monotonic() - self.began, 1)}

    def __enter__(self) -> Division:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back what this run has."""
        self.ended.set()
        self.thread.join()
        with self.lock:
            for part in self.parts.values():
                part.leases.close()

    def _beat(self) -> None:
        while not self.ended.wait(BEAT):
            for part in self.parts.values():
                with suppress(OSError):  # a server that refuses this one may take the next
                    part.leases.beat()

    def advance(self, name: str, failure: Failure | None) -> None:
        """This run has got one more clip of a stage from its files."""
        self.done[name] += 1
        self.failed[name] += failure is not None

    def sealed(self, name: str, clips: Collection[str]) -> None:
        """These clips of a stage lie in a finished shard; from any thread."""
        with self.lock:
            self.parts[name].sealed(clips)

    def left(self) -> int:
        """About how many clips nobody has finished and this run has not taken."""
        return self.size * max(len(part.todo) for part in self.parts.values())

    @property
    def tokens(self) -> dict[str, str]:
        """How this run is called in the folder of each stage."""
        return {name: part.leases.token for name, part in self.parts.items()}

    def others(self) -> dict[str, int]:
        """How many clips of each stage others have finished since this run was planned."""
        return {name: part.others for name, part in self.parts.items()}

    def has_more(self, tell: Callable[[Mapping[str, int]], None]) -> bool:
        """Whether there is something to take, which is taken; waits as long as others have what is left, and tells what they did."""
        while not self.ready and not self._take():
            tell(self.others())
            if not any(part.todo for part in self.parts.values()):
                for part in self.parts.values():
                    part.leases.bury()
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def taken(self) -> Iterator[dict[str, list[str]]]:
        """Of each unit that this run takes, in order, the clips of each stage; ends where others have what is left."""
        while self.ready or self._take():
            yield self.ready.pop(min(self.ready))

    def _take(self) -> bool:
        """Take the next free units: about TAKEN_SECONDS of work, and no more than half of this run's share of what is left."""
        while not self.ready:
            for part in self.parts.values():
                part.look()
            wanted, chosen, clips = self._wanted(), dict[int, list[str]](), 0
            for unit in heapq.merge(*(part.todo for part in self.parts.values())):
                if unit not in chosen and (names := self._claimed(unit)):
                    chosen[unit] = names
                    clips += max(len(self.parts[name].todo[unit]) for name in names)
                if clips >= wanted:
                    break
            if not chosen:
                return False
            self._settle(chosen)
        return True

    def _claimed(self, unit: int) -> list[str]:
        with self.lock:
            return [name for name, part in self.parts.items() if unit in part.todo and part.leases.take(unit, part.seen)]

    def _settle(self, chosen: Mapping[int, list[str]]) -> None:
        """Keep of the units just claimed what nobody had finished, or claimed, before."""
        for name in sorted(set(chain.from_iterable(chosen.values()))):
            self.parts[name].look()
        for unit, names in chosen.items():
            for name in names:
                part = self.parts[name]
                with self.lock:
                    if unit not in part.todo or part.leases.has_lost(unit, part.seen):
                        part.leases.release(unit)
                        continue
                    clips = part.todo.pop(unit)
                    part.taken[unit] = set(clips)
                self.ready.setdefault(unit, {})[name] = list(clips)

    def _wanted(self) -> int:
        """How many clips to take now."""
        done, seconds = max(self.done.values()), time.monotonic() - self.began
        wanted = min(SHARD_CLIPS, int(TAKEN_SECONDS * done / seconds)) if done else 1
        runs = max(len(part.seen.runs) for part in self.parts.values())
        return max(1, min(wanted, self.left() // (2 * runs)) if runs > 1 else wanted)


def _places(table: Manifest, result: StagePlan) -> Mapping[str, int]:
    """Where each clip stands in the manifest, or where it would if parts of one file stood beside its first: the same for all runs."""
    source = result.stage.extractor.source
    named = [parted(sample.media.get(source, ("",))[0]) for sample in table.samples]
    if not any(part for _, part in named):
        return table.places
    first = dict[str, int]()
    together = sorted((first.setdefault(file or table.ids[n], n), n) for n, (file, _) in enumerate(named))
    return {table.ids[number]: place for place, (_, number) in enumerate(together)}
