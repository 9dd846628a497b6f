"""What every test starts from."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from joblib import cpu_count

if TYPE_CHECKING:
    from pipeline.corpus.manifest import Home, Manifest
    from tests.checkout import Checkout
    from tests.s3_server import Line


# Before torch is there, and for every process that a test starts: threads that spin at barriers take the cores from the other tests.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
settings.register_profile("any host", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any host")
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what it puts in the background deaf to Ctrl-C


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: commands in processes of their own wait for their disk and for one another."""
    return int(cpu_count()) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, else all wait for it at the end (xdist's own order begins with the files of most tests)."""
    items.sort(key=lambda item: item.path.name != "test_histories.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long test_histories.py looks, and at which histories."""
    group = parser.getgroup("histories of events (tests/test_histories.py)")
    group.addoption("--examples", type=int, default=6, metavar="N", help="histories of random events that are tried [6]")
    group.addoption("--steps", type=int, default=40, metavar="N", help="events in a history, at most [40]")
    group.addoption("--seed", type=int, default=0, metavar="N", help="of the random events [0]")
    group.addoption("--shrink", action="store_true", help="look for a shorter history that fails too: minutes")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Torch computes with one thread, whatever a test before set: another number gives other last bits."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def signs(tmp_path: Path) -> tuple[Home, Manifest]:
    """Three signs that any model can tell apart, with published features."""
    from tests.feature_cache import balanced, corpus, publish, signals

    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    return home, table


@pytest.fixture(scope="module")
def s3_server() -> Iterator[Line]:
    """A line to a server of objects."""
    from tests.s3_server import s3

    with s3() as line:
        yield line


@pytest.fixture
def line(s3_server: Line, monkeypatch: pytest.MonkeyPatch) -> Line:
    """The line as the environment names it, to a server with nothing but the empty bucket `lab`."""
    return s3_server.reached(monkeypatch)


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose `colour`, `palette` and `brightness` are published; tests work on copies."""
    from tests.checkout import Checkout

    folder = tmp_path_factory.mktemp("extracted") / "checkout"
    Checkout.make(folder).ok("extract", "tiny", "colour", "palette", "brightness")
    return folder


@pytest.fixture
def checkout(extracted: Path, tmp_path: Path) -> Checkout:
    """A copy of the `extracted` checkout, bound to its own clips."""
    from tests.checkout import Checkout

    copy = Checkout(tmp_path / "checkout")
    shutil.copytree(extracted, copy.folder)
    copy.ok("manifest", "tiny", "--root", copy.folder / "clips")
    return copy
