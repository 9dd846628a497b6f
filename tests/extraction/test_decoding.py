"""What the engine does with jobs while decode processes get on, die, hang or stand still: told by events, without a process."""

from __future__ import annotations

import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from pebble import ProcessExpired

from pipeline.corpus.media import Stat
from pipeline.extraction.preparing import decode_processes
from pipeline.extraction.preparing.decode_processes import Decoding, Pulse
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.types import Extractor


class Nothing(Extractor):
    """A stage that is never run."""

    source: str = "rgb"


class Pool:
    """Takes jobs in place of decode processes; a test says what becomes of each."""

    def __init__(self) -> None:
        self.running: list[tuple[Job, Future[Prepared]]] = []

    def schedule(self, act: object, args: tuple[bytes]) -> Future[Prepared]:
        future = Future[Prepared]()
        self.running.append((pickle.loads(args[0]), future))  # noqa: S301  # from this test
        return future

    def prepares(self, size: int = 0) -> Job:
        """The first job is done, with items of so many bytes a stage."""
        job, future = self.running.pop(0)
        for name in job.stages:
            job.items_path(name).write_bytes(bytes(size))
        future.set_result(Prepared("content", job.stat))
        return job

    def dies(self, status: int) -> Job:
        """The process of the first job ends."""
        job, future = self.running.pop(0)
        future.set_exception(ProcessExpired("Abnormal termination", code=status))  # type: ignore[no-untyped-call]
        return job


class Standing(Pulse):
    """A pulse whose losses a test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def lost_seconds(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a clip is soon told that there is none."""
    monkeypatch.setattr(decode_processes, "PATIENCE", 0.01)


def jobs(folder: Path, count: int) -> Iterator[Job]:
    for number in range(count):
        yield Job(number, f"clip{number}", {"one": Nothing(), "two": Nothing()}, folder, Stat(7, number), 60.0)


def decoded(pool: Pool, pulse: Pulse, given: Iterator[Job], ahead: int = 4) -> Decoding:
    stand_in: Any = pool
    return Decoding(stand_in, pulse, given, ahead=ahead)


def numbers(pool: Pool) -> list[int]:
    return [job.number for job, _ in pool.running]


def test_no_more_clips_are_decoded_ahead_of_the_device_than_asked(tmp_path: Path) -> None:
    pool = Pool()
    found = iter(decoded(pool, Standing(), jobs(tmp_path, 6), ahead=3))
    assert numbers(pool) == [0, 1, 2]
    pool.prepares()
    assert next(found)
    assert numbers(pool) == [1, 2], "the clip that the device is at counts"
    pool.prepares()
    assert next(found)
    assert numbers(pool) == [2, 3]


def test_decoding_pauses_while_the_spool_is_full_and_never_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_processes, "SPOOL_BYTES", 300)
    pool = Pool()
    found = iter(decoded(pool, Standing(), jobs(tmp_path, 7), ahead=3))
    for _ in range(3):
        pool.prepares(size=100)
    assert next(found)
    assert next(found)
    assert numbers(pool) == [], "two stages of two clips, 400 bytes, wait; 300 may"
    assert next(found)
    assert numbers(pool) == [3, 4], "there is room again"
    for size in (5000, 5000):
        pool.prepares(size=size)
    assert next(found)
    assert numbers(pool) == []
    assert next(found)
    assert next(found) is None
    assert numbers(pool) == [5, 6], "one clip may hold more than the spool: it is taken, then others come"


def test_whoever_takes_clips_is_given_a_turn_while_none_is_ready(tmp_path: Path) -> None:
    pool = Pool()
    found = iter(decoded(pool, Standing(), jobs(tmp_path, 1)))
    assert next(found) is None
    assert next(found) is None
    job = pool.prepares()
    assert next(found) == (job, Prepared("content", Stat(7, 0)))
    assert list(found) == []


DEATHS = {
    -signal.SIGALRM: "its decoding made no progress for 60 s",
    -signal.SIGSEGV: "its decoding process was killed by SIGSEGV",
    3: "its decoding process ended with status 3",
    decode_processes.ENDED: "its decoding process ended with status 0",
}


@pytest.mark.parametrize("status", DEATHS)
def test_after_a_death_each_stage_is_tried_alone_once_and_then_fails_in_the_state_that_was_planned(status: int, tmp_path: Path) -> None:
    pool = Pool()
    found = iter(decoded(pool, Standing(), jobs(tmp_path, 1)))
    pool.dies(status)
    assert next(found) is None
    assert [(list(job.stages), job.decord) for job, _ in pool.running] == [(["one"], False), (["two"], False)]
    job = pool.dies(status)
    assert next(found) == (job, Prepared("", Stat(7, 0), failures={"one": DEATHS[status]}))
    job = pool.prepares()
    assert next(found) == (job, Prepared("content", Stat(7, 0)))
    assert list(found) == []


def test_a_deadline_that_fell_while_the_driver_stood_still_counts_for_nothing(tmp_path: Path) -> None:
    pool, pulse = Pool(), Standing()
    found = iter(decoded(pool, pulse, jobs(tmp_path, 1)))
    (first,) = [job for job, _ in pool.running]
    for _ in range(3):
        pulse.seconds += 100
        pool.dies(-signal.SIGALRM)
        assert next(found) is None
        assert [job for job, _ in pool.running] == [first], "the same job, unchanged"
    pulse.seconds += 1
    pool.dies(-signal.SIGALRM)
    assert next(found) is None
    assert [job.decord for job, _ in pool.running] == [False, False], "a moment is no pause"


def test_another_death_while_the_driver_stood_still_is_a_death(tmp_path: Path) -> None:
    pool, pulse = Pool(), Standing()
    found = iter(decoded(pool, pulse, jobs(tmp_path, 1)))
    pulse.seconds += 100
    pool.dies(-signal.SIGKILL)
    assert next(found) is None
    assert [job.decord for job, _ in pool.running] == [False, False]


def test_a_pulse_counts_the_seconds_in_which_it_did_not_beat(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("pipeline.extraction.preparing.decode_processes.time.monotonic", lambda: now[0])
    monkeypatch.setattr(Pulse, "start", lambda pulse: None)
    pulse, waits = Pulse(), iter([0.25, 0.5, 30.25, 0.25])

    def wait(seconds: float) -> bool:
        slept = next(waits, None)
        now[0] += slept or 0.0
        return slept is None

    monkeypatch.setattr(pulse.ended, "wait", wait)
    pulse.run()
    assert pulse.lost_seconds() == 30
    now[0] += 60.25
    assert pulse.lost_seconds() == 90, "also before the next beat"
