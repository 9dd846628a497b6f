"""Contestants: processes of their own that are asked in turns, so that a busy moment of the machine hits all of them alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LAST_WORDS = 300


class ContestantFailed(RuntimeError):
    """A contestant ended before it answered; the message is the last line that it said."""


class Contestant:
    """A Python process that runs `serve`; ends with this context."""

    def __init__(self, python: str, module: str, *arguments: object, threads: int = 1, waiting: Mapping[str, str] | None = None) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "3", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", **(waiting or {})}
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with this
        command = [python, "-m", module, *map(str, arguments)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True
        )

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of its input ends it
        self.said.close()

    def ask(self, *words: object) -> Any:
        """The answer to a command; raises ContestantFailed where the process ends instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            print(json.dumps(words), file=self.process.stdin, flush=True)
            return json.loads(self.process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self.process.wait()
            self.said.seek(0)
            lines = self.said.read().strip().splitlines() or ["it said nothing"]
            raise ContestantFailed(lines[-1][:LAST_WORDS]) from error


def serve(answers: Mapping[str, Callable[..., object]]) -> None:
    """Answer the commands on stdin, a JSON list a line, until it ends. What libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        command, *words = json.loads(line)
        print(json.dumps(answers[command](*words)), file=out, flush=True)


def in_turns(contestants: Mapping[str, Contestant], rounds: Sequence[int], *question: str) -> dict[str, list[Any]]:
    """The answers of each contestant to `question` and the round's number; every other round goes backwards."""
    found: dict[str, list[Any]] = {name: [] for name in contestants}
    for number in rounds:
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            found[name].append(contestants[name].ask(*question, number))
    return found
