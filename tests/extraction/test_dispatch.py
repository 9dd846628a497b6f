"""Who gets which clips of a run on a cluster, whose workers here are made of plain values: they die, leave and share GPUs at once."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pipeline.corpus.media import Stat
from pipeline.errors import UserError
from pipeline.extraction._engine import Work
from pipeline.extraction.cluster import dispatch, preflight
from pipeline.extraction.preparing.jobs import Job


class Ended:
    """A future that ended, or, without an answer, one whose worker did."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.status = answer, "finished" if answer is not None else "pending"

    def add_done_callback(self, tell: Callable[[Any], None]) -> None:
        if self.answer is not None:
            tell(self)

    def result(self, timeout: float) -> Any:
        return self.answer

    def cancel(self) -> None:
        self.status = "cancelled"


class Cluster:
    """Workers by address with their GPUs; `killers` are clips at which a worker dies, so many times, and another takes its place."""

    def __init__(self, asked: dict[str, Any], killers: dict[str, int], expected: bool = False, **gpus: Sequence[str]) -> None:
        self.asked, self.killers, self.expected, self.gpus = asked, killers, expected, dict(gpus)
        self.status, self.given, self.done = "running", dict[str, int | None](), Counter[str]()
        self.tasks: list[list[str]] = []

    def nthreads(self) -> dict[str, int]:
        return dict.fromkeys(self.gpus, 1)

    def get_events(self, address: str) -> list[tuple[float, dict[str, Any]]]:
        return [(0.0, {"action": "remove-worker", "expected": self.expected})]

    def cancel(self, futures: object) -> None:
        """Nothing is left to end."""

    def submit(self, function: Callable[..., Any], *arguments: Any, workers: Sequence[str], **_: Any) -> Ended:
        (address,) = workers
        if function is preflight.look:
            same = {
                "version": self.asked["version"],
                "stages": [],
                "refused": "",
                "is_daemon": False,
                "free": 1 << 40,
                "folder": "/scratch",
            }
            seen = {name: preflight._glimpse(self.asked[name]) for name in ("probe", "media")}
            return Ended({**same, **seen, "gpus": self.gpus[address]})
        _, jobs = pickle.loads(arguments[0])  # noqa: S301
        self.given[address] = arguments[1]
        self.tasks.append([job.id for job in jobs])
        for clip in self.tasks[-1]:
            if self.killers.get(clip):
                self.killers[clip] -= 1
                self.gpus[f"{address}+"] = self.gpus.pop(address)
                return Ended(None)
        self.done.update(self.tasks[-1])
        return Ended(([("colour", 1, None) for _ in jobs], 0.0))


def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killers: dict[str, int], device: str = "cpu", **how: Any
) -> tuple[Cluster, list[str]]:
    """The cluster after 16 clips, and what was said."""
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", 0.0)
    spool = tmp_path / "cache" / "tiny" / "colour" / ".spool-x"
    spool.mkdir(parents=True)
    clips = [Job(number, f"clip{number}", {}, spool, Stat(0, 1000), 60.0) for number in range(16)]
    jobs = SimpleNamespace(spool=spool, taken=lambda: iter(clips), division=SimpleNamespace(left=lambda: 0))
    said: list[str] = []
    work = Work({}, {}, {}, device, 1, 1, "zarr")
    cluster = Cluster({}, killers, **how)
    made = dispatch._Dispatch(cast(Any, cluster), work, cast(Any, jobs), lambda *_: None, lambda *_: None, said.append)
    made.asked["needs_device"] = device != "cpu"
    cluster.asked = made.asked
    try:
        made.run()
    except UserError as error:
        said.append(str(error))
    return cluster, said


def test_clips_beside_one_that_kills_its_workers_are_all_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = run(tmp_path, monkeypatch, {"clip5": 1000}, a=[], b=[])
    assert cluster.done == Counter({f"clip{number}": 1 for number in range(16) if number != 5})
    assert cluster.tasks.count(["clip5"]) == dispatch.DEATHS
    assert said[-1].startswith("5 workers died at 'clip5', each time alone in its task; all else is in the cache")


def test_a_worker_that_dies_once_costs_nobody_its_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = run(tmp_path, monkeypatch, {"clip5": 1}, a=[], b=[])
    assert set(cluster.done.values()) == {1}
    assert len(cluster.done) == 16
    assert said == []


def test_workers_that_leave_at_the_end_of_their_lifetime_are_no_deaths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = run(tmp_path, monkeypatch, {"clip5": 40}, expected=True, a=[], b=[])
    assert len(cluster.done) == 16
    assert said == []


def test_each_process_has_a_gpu_of_its_own_and_one_without_gets_no_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = run(tmp_path, monkeypatch, {}, device="auto", a=["GPU-1", "GPU-2"], b=["GPU-1", "GPU-2"], c=["GPU-2"], d=[])
    assert cluster.given == {"a": 0, "b": 1}
    assert len(cluster.done) == 16
    assert said == [
        "worker c gets no work: its GPU is that of b: one process a GPU (CUDA_VISIBLE_DEVICES)",
        "worker d gets no work: it has no GPU, as others have; --device cpu uses all",
    ]
