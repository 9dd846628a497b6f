"""What an extraction says while it runs is known: no estimate before there is one, hours as hours."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pipeline.extraction.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only a test changes."""
    now = [1000.0]
    monkeypatch.setattr("pipeline.extraction.progress.time.monotonic", lambda: now[0])
    return now


def said(shown: Progress) -> list[str]:
    """The lines since the last look."""
    file = shown.console.file
    assert isinstance(file, io.StringIO)
    lines = file.getvalue().splitlines()
    file.seek(0)
    file.truncate()
    return lines


def test_there_is_no_estimate_before_there_is_one(clock: list[float]) -> None:
    shown = Progress(Console(file=io.StringIO(), width=200))
    shown.start({"colour": 10_000, "resnet50": 10_000})
    clock[0] += 20
    shown.advance("colour", frames=0, failed=True)
    assert said(shown) == ["colour: 1/10000 clips, 1 failed", "resnet50: 0/10000 clips"]
    clock[0] += 20
    shown.advance("colour", frames=80, failed=False)
    assert said(shown) == ["colour: 2/10000 clips, 2 frames/s, 1 failed, eta 55.5 h", "resnet50: 0/10000 clips"]


def test_the_last_lines_estimate_nothing(clock: list[float]) -> None:
    shown = Progress(Console(file=io.StringIO(), width=200))
    shown.start({"colour": 1, "palette": 0})
    clock[0] += 4
    shown.advance("colour", frames=8, failed=False)
    shown.stop()
    assert said(shown) == ["colour: 1/1 clips, 2 frames/s", "palette: 0/0 clips"]


def test_a_run_of_no_time_has_no_speed(clock: list[float]) -> None:
    shown = Progress(Console(file=io.StringIO(), width=200))
    shown.start({"colour": 1})
    shown.advance("colour", frames=8, failed=False)
    shown.stop()
    assert said(shown) == ["colour: 1/1 clips"]
