"""Who works on a stage now, as the runs' own files tell it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.cache.leases import BEAT, kernel, runs
from pipeline.cache.upkeep.places import stages
from pipeline.corpus.manifest import Home
from pipeline.machine import shown_time

WATCHED_SECONDS = 2.5 * BEAT
"""For which a run of another host is watched: its clock says nothing here, a beat does."""


@dataclass(frozen=True, slots=True)
class Working:
    """A run: where it is, what it has got from its files and what it holds, and the seconds since its last beat, at least."""

    host: str
    pid: int
    user: str
    clips: int
    failed: int
    holds: int
    clips_per_second: float
    age_seconds: float

    def __str__(self) -> str:
        done = f"{self.clips} clips, {self.failed} failed, {self.clips_per_second:.3g} clips/s"
        return f"{self.host} {self.pid} ({self.user}): {done}, holds {self.holds}, last beat {shown_time(self.age_seconds)} ago"

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return asdict(self)


def working(home: Home, dataset: str) -> dict[str, list[Working]]:
    """The runs at each stage of a name, of any identity of it. Waits for a beat of those of other hosts."""
    found = {name: dict(runs(home.cache / dataset / name, "*/")) for name in stages(home, dataset)}
    elsewhere = {path: said for each in found.values() for path, said in each.items() if said.get("kernel") != kernel()}
    ages = _watched(elsewhere) if elsewhere else {}
    return {name: list(_said(each, ages)) for name, each in found.items() if each}


def _said(found: Mapping[Path, Mapping[str, Any]], ages: Mapping[Path, float]) -> Iterator[Working]:
    for path, said in found.items():
        age = ages[path] if path in ages else time.monotonic() - said["at"]
        rate = said["clips"] / said["seconds"] if said["seconds"] else 0.0
        told = {key: said[key] for key in ("host", "pid", "user", "clips", "failed", "holds")}
        yield Working(**told, clips_per_second=round(rate, 3), age_seconds=round(max(0.0, age), 1))


def _watched(said: Mapping[Path, Mapping[str, Any]]) -> dict[Path, float]:
    """How long each file has stayed as it is, as far as it was watched."""
    began, ages = time.monotonic(), dict[Path, float]()
    while len(ages) < len(said) and time.monotonic() - began < WATCHED_SECONDS:
        time.sleep(BEAT / 4)
        now: Sequence[tuple[Path, dict[str, Any]]] = [each for folder in {path.parent for path in said} for each in runs(folder)]
        ages.update({path: 0.0 for path, beat in now if path in said and beat["beat"] != said[path]["beat"]})
    return {path: ages.get(path, time.monotonic() - began) for path in said}
