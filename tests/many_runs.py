"""Eight runs of one line that are killed, terminated, stopped and started again by chance, in processes forked from one that has imported
the libraries. Of the code it imports nothing.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.preloaded import _status

RUNS, DEEDS = 8, 12
LIBRARIES = ("av", "click", "h5py", "numpy", "pebble", "pydantic", "rich.console", "rich.progress", "xxhash", "zarr")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSTOP, signal.SIGCONT)
MOMENT = 0.5
"""Seconds in which something is done to a run at the latest, where no shard is finished before."""


@dataclass
class Trial:
    """What was done to which run, and how each ended."""

    folder: Path
    words: list[str]
    environment: dict[str, str]
    chance: random.Random
    living: dict[int, int] = field(default_factory=dict)
    """Process id -> number of the run."""
    ended: list[tuple[int, int]] = field(default_factory=list)
    deeds: list[str] = field(default_factory=list)
    started: int = 0

    def run(self) -> None:
        """Deeds until there are enough of them, or nothing is left to do; then all go on to their end."""
        while len(self.deeds) < DEEDS:
            while len(self.living) < RUNS:
                self._start()
            self._wait_a_moment()
            if any(status == 0 for _, status in self.ended):
                break
            self._do(self.chance.choice(sorted(self.living)), self.chance.choice(SIGNALS))
        for process in self.living:
            os.kill(process, signal.SIGCONT)
        while self.living:
            self._reap(block=True)

    def _do(self, process: int, number: signal.Signals) -> None:
        self.deeds.append(f"{number.name} to run {self.living[process]}")
        os.kill(process, number)
        if number == signal.SIGTERM:
            os.kill(process, signal.SIGCONT)

    def _start(self) -> None:
        streams = [str(self.folder / f"{kind}-{self.started}") for kind in ("out", "err")]
        child = os.fork()
        if not child:
            os._exit(_status(self.words, str(self.folder), self.environment, streams))
        self.living[child] = self.started
        self.started += 1

    def _wait_a_moment(self) -> None:
        """Until a run ends, or another shard is finished."""
        end, before = time.monotonic() + self.chance.uniform(0, MOMENT), self._shards()
        while time.monotonic() < end and self._shards() == before and not self._reap():
            time.sleep(0.01)

    def _shards(self) -> int:
        return len(list((self.folder / "cache").glob("tiny/*/*/[0-9]*.json")))

    def _reap(self, *, block: bool = False) -> bool:
        process, status = os.waitpid(-1, 0 if block else os.WNOHANG)
        if process:
            self.ended.append((self.living.pop(process), os.waitstatus_to_exitcode(status)))
        return bool(process)


def serve() -> None:
    """Answers a line that asks for a trial with what happened in it."""
    for name in LIBRARIES:
        import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        asked = json.loads(line)
        trial = Trial(Path(asked["folder"]), asked["words"], asked["environment"], random.Random(asked["seed"]))
        trial.run()
        print(json.dumps({"ended": trial.ended, "deeds": trial.deeds}), flush=True)


def trials() -> Iterator[subprocess.Popen[str]]:
    """The process that is asked for trials; it ends with this generator."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", "from tests.many_runs import serve; serve()"]
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        yield process
        with suppress(OSError):
            assert process.stdin
            process.stdin.close()
