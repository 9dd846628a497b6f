"""A disk that refuses, proven without any right: a limit on the size of files, a sync that fails, folders that may not be written to."""

from __future__ import annotations

import ctypes
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.checkout import Checkout, write_clip

CLIPS = 8
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2
FILE_BYTES = 90_000
FULL = """
import errno, os, sys
left, sync = [int(sys.argv[1])], os.fsync

def full(handle):
    left[0] -= 1
    if left[0] < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    sync(handle)

os.fsync = full
from pipeline.cli import main
main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Shards of two clips, as they come: a clip of the first four is 12 kB, one of the others 96 kB."""
    checkout = Checkout.make(tmp_path_factory.mktemp("template") / "checkout", clips=CLIPS)
    for number in range(4):
        write_clip(checkout.clip(number), number, frames=1)
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    checkout.edit("stages/colour.py", "return (3,)", "return (3, 1000)")
    checkout.edit("stages/colour.py", ".astype(np.float32)", ".astype(np.float32)[:, None] + np.zeros((3, 1000), np.float32)")
    checkout.edit("pipeline/extraction/estimate.py", "PROBED = 8, 64, 5", "PROBED = 8, 64, 0")  # lengths unknown: it starts
    return checkout


@pytest.fixture
def checkout(template: Checkout, tmp_path: Path) -> Checkout:
    shutil.copytree(template.folder, tmp_path / "checkout")
    copy = Checkout(tmp_path / "checkout")
    copy.ok("manifest", "tiny", "--root", copy.folder / "clips")
    return copy


def refused(checkout: Checkout, process: subprocess.Popen[str], why: str) -> None:
    """It says so in one line, and the next extraction goes on with what is finished."""
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    lines = [line for line in err.splitlines() if line.startswith("signcache: ")]
    assert lines == [
        f"signcache: cannot write to the cache {checkout.folder / 'cache'}: {why}; "
        "finished clips and what is published are kept, run the same line again"
    ]
    assert "Traceback" not in err
    finished = sum(len(marker["rows"]) for marker in checkout.markers("colour").values())
    plan = checkout.plan("colour")["colour"]
    assert (plan["fresh"], plan["failed"]) == (finished, 0), "a disk that refuses is no clip's failure"
    assert checkout.extracted("colour").get("colour", 0) == CLIPS - finished
    assert sorted(shape for shape, _ in checkout.rows("colour").values()) == [(1, 3, 1000)] * 4 + [(8, 3, 1000)] * 4


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))


def test_a_file_that_may_not_grow_is_one_line(checkout: Checkout) -> None:
    refused(checkout, checkout.start("extract", "tiny", "colour", preexec_fn=limited), "File too large")


@pytest.mark.parametrize("syncs", [0, 1, 8, 20])
def test_a_full_disk_is_one_line_whenever_it_is_found_to_be(checkout: Checkout, syncs: int) -> None:
    """Where blocks are given late, as on quotas, it is the sync that finds no room."""
    command = [sys.executable, "-c", FULL, str(syncs), "extract", "tiny", "colour"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=checkout.folder, env=checkout.environment, text=True, stdout=pipe, stderr=pipe)
    refused(checkout, process, "No space left on device")


def obedient() -> None:
    """Even root keeps to the modes of folders, from the next program on."""
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, right, 0, 0, 0)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    try:
        yield
    finally:
        for path in folders:
            path.chmod(0o755)


def test_a_folder_that_may_not_be_written_to_is_one_line(checkout: Checkout) -> None:
    folder = checkout.folder / "cache"
    folder.mkdir(exist_ok=True)
    with read_only(folder):
        process = checkout.start("extract", "tiny", "colour", preexec_fn=obedient)
        process.wait(timeout=120)
    refused(checkout, process, "Permission denied")


def test_what_is_published_is_read_where_nothing_may_be_written(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "colour")
    with read_only(checkout.folder / "cache"):
        for line in (("extract", "tiny", "colour"), ("verify", "tiny"), ("status", "tiny"), ("export", "tiny", "colour", "out")):
            process = checkout.start(*line, preexec_fn=obedient)
            _, err = process.communicate(timeout=120)
            assert process.returncode == 0, err
    assert len(checkout.rows("colour")) == CLIPS
