"""The same line started many times divides the work: nothing is done twice, nothing is lost, whatever happens to one of them."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.checkout import PATIENCE, Checkout
from tests.extraction.test_kill import CLIPS, emptied, finished_clips, unharmed

__all__ = ["unharmed"]  # the fixture
GROUP = 23456
LOOP = "        for (image,) in frames:"
WAIT = """        import contextlib, os, time
        def may_pass():
            for name in os.listdir(TICKETS):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(TICKETS, name))
                    return True
            return os.path.exists(GO)
        while not may_pass(): time.sleep(0.01)
"""
LINE = ("extract", "tiny", "colour", "--set", "max_frames=4")


@pytest.fixture
def checkout(unharmed: Checkout, tmp_path: Path) -> Checkout:
    """One with nothing extracted, where no clip gets ready before `go`, but for one a ticket."""
    checkout = emptied(unharmed, tmp_path / "checkout")
    (checkout.folder / "tickets").mkdir()
    wait = WAIT.replace("GO", repr(str(checkout.folder / "go"))).replace("TICKETS", repr(str(checkout.folder / "tickets")))
    checkout.edit("stages/colour.py", LOOP, wait + LOOP)
    return checkout


def go(checkout: Checkout) -> None:
    (checkout.folder / "go").touch()


def until(is_true: Callable[[], object]) -> None:
    """Returns when something is so, which it is after a while."""
    end = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.01)


def begun(checkout: Checkout, *words: str) -> subprocess.Popen[str]:
    """A run that has claimed clips, and waits at the first of them; `words` come before its command."""
    before = claims(checkout)
    process = subprocess.Popen(
        [*words, sys.executable, "-m", "pipeline", *LINE],
        cwd=checkout.folder,
        env=checkout.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: claims(checkout) - before or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    return process


def claims(checkout: Checkout) -> set[Path]:
    return set((checkout.folder / "cache/tiny/colour").glob("*/.claim-*"))


def ended(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a run said on stderr until it ended, in the expected way."""
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == status, err
    assert "Traceback" not in err
    return err


def as_one_run(checkout: Checkout, unharmed: Checkout) -> None:
    """What is published is what one run publishes, nobody does it again, and nothing of the runs is left."""
    assert checkout.rows("colour") == unharmed.rows("colour")
    folder = checkout.folder / "cache/tiny/colour"
    assert sorted(path.name for path in folder.rglob(".*") if path.name not in (".lock", ".publishing", ".published")) == []
    assert checkout.extracted("colour") == {}


def test_two_runs_of_the_same_line_divide_the_clips(checkout: Checkout, unharmed: Checkout) -> None:
    runs = [begun(checkout), begun(checkout)]
    go(checkout)
    for text in map(ended, runs):
        assert f"colour: {CLIPS}/{CLIPS} clips, " in text
        assert "of them by other runs" in text
        assert f"{CLIPS} of {CLIPS} ready" in text
    clips = finished_clips(checkout, "colour")
    assert len(clips) == len(set(clips)) == CLIPS, "a clip was extracted twice"
    as_one_run(checkout, unharmed)


def test_what_a_killed_run_had_is_taken_over_at_once(checkout: Checkout, unharmed: Checkout) -> None:
    victim, other = begun(checkout), begun(checkout)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    go(checkout)
    assert f"{CLIPS} clips extracted" in ended(other)
    as_one_run(checkout, unharmed)


def test_a_run_that_is_terminated_seals_what_is_whole_and_gives_its_clips_back(checkout: Checkout, unharmed: Checkout) -> None:
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 4", "SHARD_CLIPS = 64")
    checkout.edit("pipeline/extraction/progress.py", "PLAIN_SECONDS = 10.0", "PLAIN_SECONDS = 0.0")
    for number in range(3):
        (checkout.folder / "tickets" / str(number)).touch()
    process = begun(checkout)
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("colour: 3/"))
    process.terminate()
    said = ended(process, 143)
    assert said.endswith(f"signcache: terminated; finished clips are kept. Go on with: signcache {shlex.join(LINE)}\n")
    assert len(finished_clips(checkout, "colour")) == 3
    assert not claims(checkout)
    go(checkout)
    assert f"{CLIPS - 3} clips extracted" in ended(checkout.start(*LINE))
    as_one_run(checkout, unharmed)


STUCK = """

    def load(self, device):
        import pathlib, threading
        rows = []

        def forward(items):
            if len(rows) >= 16:
                pathlib.Path(STUCK).touch()
                threading.Event().wait()
            rows.extend(items)
            return items

        return forward


stage = Colour
"""


def test_what_is_whole_is_sealed_though_a_computation_does_not_end(checkout: Checkout) -> None:
    stuck = checkout.folder / "stuck"
    checkout.edit("stages/colour.py", "\n\nstage = Colour\n", STUCK.replace("STUCK", repr(str(stuck))))
    checkout.edit("pipeline/extraction/_stopping.py", "SEAL_SECONDS = 4.0", "SEAL_SECONDS = 0.2")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 4", "SHARD_CLIPS = 64")
    go(checkout)
    process = checkout.start(*LINE)
    until(lambda: stuck.exists() or process.poll() is not None)
    process.terminate()
    ended(process, 143)
    assert len(finished_clips(checkout, "colour")) == 4, "16 rows of 4 a clip"
    assert not claims(checkout)


def test_a_clip_that_fails_in_one_run_is_a_failure_of_all(checkout: Checkout) -> None:
    checkout.clip(5).write_text("no video")
    runs = [begun(checkout), begun(checkout)]
    go(checkout)
    for run in runs:
        assert "failed: 'class1/clip 05': clip 05.mp4 cannot be decoded" in ended(run, 1)
    assert checkout.plan("colour", "--set", "max_frames=4")["colour"]["failed"] == 1
    assert [len(marker["failures"]) for marker in checkout.markers("colour").values()].count(1) == 1, "it was tried once"


def test_a_stopped_run_loses_its_clips_and_harms_nothing_when_it_goes_on(checkout: Checkout, unharmed: Checkout) -> None:
    checkout.edit("pipeline/cache/leases.py", "BEAT, EXPIRY = 2.0, 30.0", "BEAT, EXPIRY = 0.2, 2.0")
    checkout.edit("pipeline/extraction/sharing/division.py", "LOOK_SECONDS = 1.0", "LOOK_SECONDS = 0.1")
    stopped = begun(checkout)
    other = begun(checkout)
    os.killpg(stopped.pid, signal.SIGSTOP)
    go(checkout)
    assert f"{CLIPS} clips extracted" in ended(other)
    before = checkout.rows("colour")
    os.killpg(stopped.pid, signal.SIGCONT)
    ended(stopped)
    assert checkout.rows("colour") == before
    as_one_run(checkout, unharmed)


def test_status_tells_who_works_on_what(checkout: Checkout) -> None:
    (checkout.folder / "tickets/0").touch()
    run = begun(checkout)
    until(lambda: not (checkout.folder / "tickets/0").exists())

    def told() -> dict[str, Any]:
        (said,) = json.loads(checkout.ok("status", "tiny", "--json").stdout)["runs"]["colour"]
        return dict(said)

    until(lambda: told()["holds"] > 0)  # by its next beat
    said = told()
    assert (said["host"], said["pid"], said["user"]) == (socket.gethostname(), run.pid, pwd.getpwuid(os.getuid()).pw_name)
    assert said["age_seconds"] < PATIENCE
    line = f"at work on colour: {socket.gethostname()} {run.pid} ("
    assert line in checkout.ok("status", "tiny").stdout
    go(checkout)
    ended(run)
    assert "at work" not in checkout.ok("status", "tiny").stdout


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="another user's process needs root and setpriv")
def test_two_users_fill_a_cache_of_their_group(checkout: Checkout, unharmed: Checkout) -> None:
    (checkout.folder / "cache").mkdir(exist_ok=True)
    for path in [*checkout.folder.glob("cache"), *(checkout.folder / "manifests").rglob("*"), checkout.folder / "manifests"]:
        os.chown(path, 0, GROUP)
        path.chmod(0o2775 if path.is_dir() else 0o664)
    runs = [begun(checkout, *as_user(user)) for user in (12345, 12346)]
    go(checkout)
    for run in runs:
        ended(run)
    every = [*(checkout.folder / "cache").rglob("*")]
    assert {path.stat().st_uid for path in every} == {12345, 12346}
    assert all(path.stat().st_mode & 0o020 and path.stat().st_gid == GROUP for path in every)
    as_one_run(checkout, unharmed)
    command = [*as_user(12346), sys.executable, "-m", "pipeline", "drop", "tiny", "colour", "--yes"]
    subprocess.run(command, cwd=checkout.folder, env=checkout.environment, check=True, capture_output=True)
    assert not checkout.markers("colour")


def as_user(user: int) -> list[str]:
    """The words for a command of another user of the group, who may read anything, and write as the folders allow."""
    may_read = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    return ["setpriv", "--reuid", str(user), "--regid", str(GROUP), "--clear-groups", *may_read]


@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode != 0,
    reason="a mount namespace of its own needs unshare -m, and the right to it",
)
def test_what_a_host_had_that_vanished_is_taken_over_by_its_silence(checkout: Checkout, unharmed: Checkout, tmp_path: Path) -> None:
    checkout.edit("pipeline/cache/leases.py", "BEAT, EXPIRY = 2.0, 30.0", "BEAT, EXPIRY = 0.2, 2.0")
    checkout.edit("pipeline/extraction/sharing/division.py", "LOOK_SECONDS = 1.0", "LOOK_SECONDS = 0.1")
    checkout.edit(
        "pipeline/cache/leases.py",
        "def kernel() -> str:",
        "def kernel() -> str:\n    return os.readlink('/proc/self/ns/mnt')\n\n\ndef _() -> str:",
    )
    place = tmp_path / "the same folder"
    place.mkdir()
    mounted = f'mount --bind "{checkout.folder}" "{place}" && cd "{place}" && exec "$@"'
    elsewhere = begun(checkout, "unshare", "-m", "sh", "-c", mounted, "sh")
    here = begun(checkout)
    (said,) = [run for run in json.loads(checkout.ok("status", "tiny", "--json").stdout)["runs"]["colour"] if run["pid"] == elsewhere.pid]
    assert said["age_seconds"] == 0, "a beat was seen"
    os.killpg(elsewhere.pid, signal.SIGKILL)
    elsewhere.communicate()
    go(checkout)
    assert f"{CLIPS} clips extracted" in ended(here)
    assert checkout.rows("colour") == unharmed.rows("colour")
    assert "leftover of a killed run" in checkout.ok("gc", "tiny", "--yes").stdout
    as_one_run(checkout, unharmed)
