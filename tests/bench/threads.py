"""Rows of threads: an extraction and a training as a command runs them, beside one busy process and alone, and with other thread settings.

Beside it the best of all settings is the rival, alone what OpenMP does by itself: spin.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.machine import WAITING, cores
from tests.bench.contest import Contestant
from tests.bench.extracting import chosen
from tests.bench.learner import clips_of
from tests.bench.readers import Ours
from tests.bench.rows import Row, faster

PART = "threads"
TRAINED = 512
"""Clips of an epoch."""


@dataclass(frozen=True)
class Setting:
    """How many threads compute, 0 being all cores, and how they wait."""

    threads: int
    waiting: Mapping[str, str]


SPINNING = "spinning"
SETTINGS: Mapping[str, Setting] = {
    "ours": Setting(0, WAITING),
    SPINNING: Setting(0, {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"}),  # OpenMP's own
    "sleeping": Setting(0, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "one": Setting(1, WAITING),
}
Seconds: TypeAlias = Callable[[Setting, int], float]


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Two rows a kind of work; every setting in turns, each time in a fresh process."""
    clips, rounds, trained = (2, 1, 128) if quick else (8, 3, TRAINED)
    chosen(clips, folder / "signs")
    Ours(folder / "gru" / "ours-float32", clips_of("gru", trained)).write()
    Ours(folder / "lstm_late" / "ours-float32", clips_of("lstm_late", trained)).write()
    kinds: Mapping[str, tuple[Seconds, int]] = {
        "resnet50": (_extraction(folder, ["resnet50"]), clips),
        "resnet50 and holistic in one pass": (_extraction(folder, ["few_resnet50", "few_holistic"]), clips),
        "an epoch of lstm_late 2 x 256": (_epoch(folder, "lstm_late", trained), trained),
        "an epoch of GRU 128": (_epoch(folder, "gru", trained), trained),
    }
    for what, (seconds, count) in kinds.items():
        yield from compared(what, seconds, count, rounds)


def compared(what: str, seconds: Seconds, count: int, rounds: int) -> Iterator[Row]:
    """The row beside a busy process, then the row alone."""
    with busy():
        beside = _in_turns(seconds, SETTINGS, rounds)
    best = min((name for name in SETTINGS if name != "ours"), key=lambda name: statistics.median(beside[name]))
    name = f"{what} beside a busy process: the best setting of threads there ({best})"
    yield faster(PART, name, beside["ours"], beside[best], count=count, unit="clips", floor=0.8, aim=0.95)
    alone = _in_turns(seconds, ["ours", SPINNING], rounds)
    yield faster(PART, f"{what} alone: threads that spin", alone["ours"], alone[SPINNING], count=count, unit="clips", floor=0.95, aim=1)


@contextmanager
def busy() -> Iterator[subprocess.Popen[bytes]]:
    """A process that never waits."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    with process:
        try:
            yield process
        finally:
            process.kill()


def _in_turns(seconds: Seconds, names: Sequence[str] | Mapping[str, Setting], rounds: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for name in list(found)[:: -1 if number % 2 else 1]:
            found[name].append(seconds(SETTINGS[name], number))
    return found


def _extraction(folder: Path, stages: Sequence[str]) -> Seconds:
    def seconds(setting: Setting, number: int) -> float:
        arguments = ["engine", folder / "signs", folder / "out", 0, *stages]
        with _contestant(setting, "tests.bench.extractor", *arguments) as worker:
            worker.ask("ready")
            return float(worker.ask("run", number)["seconds"])

    return seconds


def _epoch(folder: Path, model: str, count: int) -> Seconds:
    def seconds(setting: Setting, number: int) -> float:
        with _contestant(setting, "tests.bench.learner", "ours", model, folder / model, count) as learner:
            learner.ask("epoch", 0)  # the first also warms up
            return float(learner.ask("epoch", 1)["seconds"])

    return seconds


def _contestant(setting: Setting, module: str, *arguments: object) -> Contestant:
    return Contestant(sys.executable, module, *arguments, threads=setting.threads or cores(), waiting=setting.waiting)
