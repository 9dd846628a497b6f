"""Local Dask workers: the same rows, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.checkout import PATIENCE, Checkout
from tests.extraction.test_kill import CLIPS, LINE, emptied, unharmed

__all__ = ["unharmed"]  # the fixture


def on_one_core(checkout: Checkout, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command where the engine sees one processor, and so sets one torch thread."""
    checkout.edit("pipeline/machine.py", "return int(cpu_count())", "return 1 or int(cpu_count())")
    return checkout.ok(*arguments)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Processes that started a fork server: the main one has none with `--workers`."""
    every = psutil.Process(process.pid).children(recursive=True)
    servers = [child for child in every if "multiprocessing.forkserver" in " ".join(child.cmdline())]
    return [parent for server in servers if (parent := server.parent()) is not None]


def test_workers_give_the_bytes_of_the_run_in_one_process(unharmed: Checkout, tmp_path: Path) -> None:
    alone, spread = emptied(unharmed, tmp_path / "alone"), emptied(unharmed, tmp_path / "spread")
    on_one_core(alone, *LINE)
    done = on_one_core(spread, *LINE, "--workers", 2)
    assert "24/24 clips" in done.stderr
    for stage in ("resnet50", "colour"):
        assert spread.rows(stage) == alone.rows(stage)
        made = [marker["made"] for marker in spread.markers(stage).values()]
        assert {part["threads"] for part in made} == {1}


def test_a_worker_killed_twice_costs_its_shards_in_flight_only(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.slow("colour", 0.05)
    process = checkout.start("extract", "tiny", "colour", "--set", "max_frames=4", "--workers", 2)
    assert process.stderr is not None
    for count in (4, 12):
        next(line for line in process.stderr if line.startswith(f"colour: {count}/"))
        victims = workers_of(process)
        if victims:
            os.kill(victims[0].pid, signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert checkout.rows("colour") == unharmed.rows("colour")
    again = sum(len(marker["rows"]) for marker in checkout.markers("colour").values()) - CLIPS
    assert again <= 2 * 4, "more than the shards in flight were made twice"


def test_another_cluster_on_this_machine_is_nothing_to_speak_of(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # somebody else has it
            other.bind(("", 8787))
            other.listen()
        done = checkout.ok("extract", "tiny", "colour", "--workers", 2)
    assert "8787" not in done.stderr


def test_a_failing_clip_is_recorded_by_its_worker(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.clip(3).write_text("no video")
    done = checkout.run("extract", "tiny", "colour", "--workers", 2)
    assert done.returncode == 1
    assert "failed: 'class1/clip 03': clip 03.mp4 cannot be decoded" in done.stderr
    assert checkout.plan("colour")["colour"]["failed"] == 1


@pytest.mark.parametrize("workers", [-1, "two"])
def test_a_number_of_workers_that_is_none_is_a_usage_error(unharmed: Checkout, workers: object) -> None:
    done = unharmed.run("extract", "tiny", "--workers", workers)
    assert done.returncode == 2
    assert "Invalid value for '--workers'" in done.stderr
