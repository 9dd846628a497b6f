"""Rows of planning: what a large corpus costs when nothing, or one clip, has changed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench import million
from tests.bench.contest import Contestant
from tests.bench.rows import Row

PART = "plan"
SIZES = (10_000, 100_000, 1_000_000)
AIMS = {10_000: 0.2, 100_000: 1.0, 1_000_000: 8.0}
"""Seconds: of one changed clip among ten thousand, of a run with nothing to do on more."""


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Seconds and peak memory of each command, at most what is promised; there is no rival that does the same."""
    for clips in (1_000,) if quick else SIZES:
        with Contestant(sys.executable, "tests.bench.million", "serve") as worker:
            measured = [million.Row(**found) for found in worker.ask("measure", clips, str(folder))]
        for found in measured:
            what, limit, seconds = f"{found.what}, {clips:,} clips", found.floor_seconds, tuple(found.seconds)
            yield Row(PART, what, "s", seconds, (), seconds, limit, AIMS.get(clips) if limit else None, at_most=True)
            if found.floor_bytes:
                peaks, most = tuple(peak / 2**20 for peak in found.peak_bytes), found.floor_bytes / 2**20
                yield Row(PART, f"{what}: peak memory", "MiB", peaks, (), peaks, most, most / 2, at_most=True)
