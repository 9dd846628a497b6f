"""A Dask scheduler that somebody has started: the same rows from its workers, whoever joins, leaves, dies or differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkout import PATIENCE, Checkout
from tests.extraction.test_kill import CLIPS, LINE, emptied, unharmed
from tests.extraction.test_workers import on_one_core

__all__ = ["unharmed"]  # the fixture
CODE = "import sys; from distributed.cli.dask_{0} import main; {1}; sys.exit(main())"
COLOUR = ("extract", "tiny", "colour", "--set", "max_frames=4")


@contextmanager
def dask(
    program: str, checkout: Checkout, *arguments: object, before: str = "", under: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A `dask scheduler` or `dask worker` with a checkout's code, until this ends; `before` runs first in it, `under` starts it."""
    command = [*under, sys.executable, "-c", CODE.format(program, before or "pass"), *map(str, arguments)]
    environment = {**checkout.environment, "DASK_DISTRIBUTED__WORKER__DAEMON": "False"}
    process = subprocess.Popen(
        command, cwd=checkout.folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@contextmanager
def scheduler_of(checkout: Checkout, folder: Path, before: str = "") -> Iterator[Path]:
    """The file of a scheduler on loopback."""
    file = folder / "scheduler.json"
    arguments = ("--host", "127.0.0.1", "--port", 0, "--dashboard-address", "127.0.0.1:0", "--scheduler-file", file)
    with dask("scheduler", checkout, *arguments, before=before) as process:
        said(process, "Scheduler at:")
        yield file


@contextmanager
def worker_of(
    checkout: Checkout, file: Path, folder: Path, *options: str, before: str = "", under: Sequence[str] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A worker that has joined, of one thread."""
    arguments = ("--scheduler-file", file, "--nthreads", 1, "--no-dashboard", "--local-directory", folder, *(options or ["--no-nanny"]))
    with dask("worker", checkout, *arguments, before=before, under=under) as process:
        said(process, "Registered to:")
        yield process


def said(process: subprocess.Popen[str], words: str) -> str:
    """The next line of stderr with these words."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if words in line:
            return line
    raise AssertionError("".join(lines))


@pytest.fixture(scope="module")
def scheduler(unharmed: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One for the module, without workers."""
    with scheduler_of(unharmed, tmp_path_factory.mktemp("scheduler")) as file:
        yield file


def test_a_cluster_gives_the_bytes_of_the_run_in_one_process(unharmed: Checkout, scheduler: Path, tmp_path: Path) -> None:
    alone, spread = emptied(unharmed, tmp_path / "alone"), emptied(unharmed, tmp_path / "spread")
    on_one_core(alone, *LINE)
    with worker_of(unharmed, scheduler, tmp_path / "one"), worker_of(unharmed, scheduler, tmp_path / "two", "--nanny"):
        done = spread.ok(*LINE, "--scheduler", scheduler)
        for stage in ("resnet50", "colour"):
            assert spread.rows(stage) == alone.rows(stage)
            assert {marker["made"]["threads"] for marker in spread.markers(stage).values()} == {1}
        again = spread.ok(*COLOUR[:-1], "max_frames=3", "--scheduler", json.loads(scheduler.read_text())["address"])
    alone.ok(*COLOUR[:-1], "max_frames=3")
    assert spread.rows("colour") == alone.rows("colour")
    assert "dashboard: http://127.0.0.1:" in done.stderr
    assert "24/24 clips" in done.stderr
    assert "gets no work" not in done.stderr + again.stderr


def test_a_worker_killed_costs_its_open_shard_and_one_that_joins_late_goes_on(unharmed: Checkout, scheduler: Path, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.slow("colour", 0.05)
    process = checkout.start(*COLOUR, "--scheduler", scheduler)
    said(process, "no worker is there")
    with worker_of(checkout, scheduler, tmp_path / "one") as first:
        said(process, "colour: 4/")
        os.killpg(first.pid, signal.SIGKILL)
        said(process, "no worker is there")
        with worker_of(checkout, scheduler, tmp_path / "two"):
            _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert "KilledWorker" not in err
    assert checkout.rows("colour") == unharmed.rows("colour")
    assert sum(len(marker["rows"]) for marker in checkout.markers("colour").values()) <= CLIPS + 4, "more than an open shard was made again"


def test_workers_that_differ_are_named_and_get_no_work(unharmed: Checkout, scheduler: Path, tmp_path: Path) -> None:
    checkout, other = emptied(unharmed, tmp_path / "checkout"), emptied(unharmed, tmp_path / "other")
    (checkout.folder / "cache").mkdir()
    other.edit("stages/palette.py", "SCALE = 1.0", "SCALE = 2.0")
    blind = ("unshare", "--mount", "--map-root-user", "sh", "-c", f'mount -t tmpfs none "{checkout.folder}/cache" && exec "$@"', "sh")
    if subprocess.run([*blind, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    stale = "import pipeline; pipeline.__version__ = '0.0.1'"
    with (
        worker_of(other, scheduler, tmp_path / "one"),
        worker_of(unharmed, scheduler, tmp_path / "two", under=blind),
        worker_of(unharmed, scheduler, tmp_path / "three", before=stale),
    ):
        refused = checkout.run(*COLOUR, "--scheduler", scheduler)
        assert refused.returncode == 2
        assert refused.stderr.count("gets no work: ") == 3
        for reason in (
            "colour differs there (code of stages/palette.py): give it the code",
            f"it does not see the cache {checkout.folder}/cache as it is here",
            "it runs signcache 0.0.1, this is ",
            "none of the 3 workers can take part, as said above",
        ):
            assert reason in refused.stderr
        with worker_of(unharmed, scheduler, tmp_path / "four"):
            done = checkout.ok(*COLOUR, "--scheduler", scheduler)
    assert done.stderr.count("gets no work: ") == 3
    assert checkout.rows("colour") == unharmed.rows("colour")


def test_a_scheduler_of_another_version_is_refused_in_one_line(unharmed: Checkout, tmp_path: Path) -> None:
    before = (
        "import distributed.versions as v; real = v._version_cached; v._version_cached = lambda n: '2020.1' if n == 'dask' else real(n)"
    )
    with scheduler_of(unharmed, tmp_path, before) as file:
        done = emptied(unharmed, tmp_path / "checkout").run(*COLOUR, "--scheduler", file)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("signcache: the scheduler at tcp://127.0.0.1:")
    assert " runs dask 2020.1; this is dask 20" in done.stderr
    assert "Mismatched" not in done.stderr


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("127.0.0.1:9", "nothing to work with answers at tcp://127.0.0.1:9"),
        ("nowhere.json", "No such file or directory; expected an address"),
        ("pyproject.toml", "it holds no address; expected an address"),
    ],
)
def test_a_scheduler_that_is_none_is_one_line(unharmed: Checkout, tmp_path: Path, asked: str, reason: str) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.edit("pipeline/extraction/cluster/connecting.py", "CONNECT_SECONDS = 10.0", "CONNECT_SECONDS = 2.0")
    (checkout.folder / "pyproject.toml").touch()
    done = checkout.run(*COLOUR, "--scheduler", asked)
    assert done.returncode == 2
    assert f"signcache: --scheduler {asked}: {reason}" in done.stderr.splitlines()[-1]


def test_workers_here_and_elsewhere_exclude_one_another(unharmed: Checkout) -> None:
    done = unharmed.run(*COLOUR, "--workers", 2, "--scheduler", "tcp://127.0.0.1:9")
    assert done.returncode == 2
    assert "give one of them" in done.stderr
