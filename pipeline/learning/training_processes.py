"""Starts this command as several processes that train together, and ends with them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from pipeline import machine
from pipeline.errors import UserError

LOST = 75
"""Exit status of a process that ends because another has."""
GRACE = 10.0
"""Seconds in which the others may end by themselves once one has failed."""
POLL = 0.02


def supervise(count: int) -> int:
    """The exit status of `count` processes of this command; raises UserError where one was killed."""
    ranks = [_start(rank, count, port) for port in [_free_port()] for rank in range(count)]
    try:
        codes = _ended(ranks)
    except KeyboardInterrupt:
        for process in ranks:
            process.send_signal(signal.SIGINT)
        _ended(ranks, GRACE)
        return 130
    finally:
        for process in ranks:
            process.kill()
            process.wait()
    cause = [(rank, code) for rank, code in enumerate(codes) if code not in (None, 0, LOST)]
    if not cause and any(codes):
        raise UserError("the processes of this training lost one another; the same line goes on from the last checkpoint")
    rank, code = cause[0] if cause else (0, 0)
    if code is not None and code < 0:
        raise UserError(
            f"process {rank} of {count} was killed by {signal.Signals(-code).name}; the same line goes on from the last checkpoint"
        )
    return code or 0


def _start(rank: int, count: int, port: int) -> subprocess.Popen[bytes]:
    """One of the processes, told as torchrun tells; Ctrl-C reaches it through this one alone."""
    threads = str(machine.threads(max(machine.cores() // count, 1)))
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    told = {**{name: str(number) for name, number in numbers.items()}, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": threads}
    command = [sys.executable, *_program(), *sys.argv[1:]]
    return subprocess.Popen(command, env={**os.environ, **told}, process_group=0, preexec_fn=machine.die_with_parent)


def _program() -> list[str]:
    """What this process runs: a module, or the script."""
    spec = sys.modules["__main__"].__spec__
    return ["-m", spec.name] if spec else [os.path.abspath(sys.argv[0])]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _ended(ranks: Sequence[subprocess.Popen[bytes]], grace: float | None = None) -> list[int | None]:
    """Exit statuses, when all have ended, or `GRACE` seconds after the first that failed; None of those still running."""
    deadline = float("inf") if grace is None else time.monotonic() + grace
    while None in (codes := [process.poll() for process in ranks]) and time.monotonic() < deadline:
        if any(codes):
            deadline = min(deadline, time.monotonic() + GRACE)
        time.sleep(POLL)
    return codes
