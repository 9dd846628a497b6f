"""Eight runs of one line, killed, terminated, stopped and started again at random: nothing is lost, nothing is wrong.

`pytest -n 0 tests/extraction/test_random_runs.py --examples N --seed N` tries more of them, and others.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.checkout import Checkout
from tests.extraction.test_kill import CLIPS, emptied, unharmed
from tests.many_runs import trials

__all__ = ["unharmed"]  # the fixture
LINE = ["extract", "tiny", "colour", "--set", "max_frames=4"]
HOW = {0: "done", 143: "terminated", -9: "killed", -15: "terminated before it began"}


@pytest.fixture(scope="module")
def asked() -> Iterator[subprocess.Popen[str]]:
    yield from trials()


def test_eight_runs_that_are_killed_and_stopped_at_random_make_what_one_makes(
    unharmed: Checkout, asked: subprocess.Popen[str], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    first, examples = pytestconfig.getoption("--seed"), pytestconfig.getoption("--examples")
    for seed in range(first, first + max(1, examples // 6)):
        checkout = emptied(unharmed, tmp_path / str(seed))
        checkout.edit("pipeline/cache/leases.py", "BEAT, EXPIRY = 2.0, 30.0", "BEAT, EXPIRY = 0.2, 2.0")
        checkout.edit("pipeline/extraction/sharing/division.py", "LOOK_SECONDS = 1.0", "LOOK_SECONDS = 0.1")
        checkout.slow("colour", 0.02)
        assert asked.stdin
        assert asked.stdout
        wanted = {"folder": str(checkout.folder), "words": LINE, "environment": checkout.environment, "seed": seed}
        print(json.dumps(wanted), file=asked.stdin, flush=True)
        happened = json.loads(asked.stdout.readline())
        errors = [path.read_text() for path in checkout.folder.glob("err-*")]
        assert not any("Traceback" in text for text in errors), (happened, errors)
        assert {status for _, status in happened["ended"]} <= HOW.keys(), (happened, errors)
        checkout.ok(*LINE)
        assert checkout.rows("colour") == unharmed.rows("colour"), happened
        known = {row["id"]: row["checksum"] for marker in unharmed.markers("colour").values() for row in marker["rows"]}
        made = [(row["id"], row["checksum"]) for marker in checkout.markers("colour").values() for row in marker["rows"]]
        assert len(known) == CLIPS
        assert all(known[clip] == checksum for clip, checksum in made), happened
        assert checkout.extracted(*LINE[2:]) == {}, happened
        assert "all whole" in checkout.ok("verify").stderr
        assert not [path.name for path in (checkout.folder / "cache/tiny/colour").rglob(".*") if path.name.startswith((".run-", ".claim-"))]
