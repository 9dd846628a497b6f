"""How many clips make a task: those of some seconds of work, by what the latest tasks took."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.cache import shards
from pipeline.extraction.preparing.jobs import Job

TASK_SECONDS, LEAST_SECONDS = 30.0, 2.0
"""Of work in a task, at most but for its first clip, and towards the end at least."""
FIRST_CLIPS = 8
"""In a task while nothing tells how long clips take."""
CLIP_BYTES = 100_000
"""That a clip costs besides its own."""


@dataclass
class Task:
    """Clips that one worker takes to one shard, and how many workers died at them."""

    jobs: list[Job]
    deaths: int = 0

    @property
    def size(self) -> int:
        """Bytes that its clips weigh."""
        return sum(map(_weight, self.jobs))

    def halves(self) -> list[Task]:
        """Two tasks, where there are two clips."""
        middle = (len(self.jobs) + 1) // 2
        return [Task(part, self.deaths) for part in (self.jobs[:middle], self.jobs[middle:]) if part]


@dataclass
class Queue:
    """Clips that no worker has: tasks that came back first."""

    jobs: deque[Job]
    back: deque[Task] = field(default_factory=deque)
    left: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    """Seconds a byte, of each worker's latest task."""

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Queue:
        """All clips of a run."""
        return cls(deque(jobs), left=sum(map(_weight, jobs)))

    def __bool__(self) -> bool:
        return bool(self.jobs or self.back)

    def learn(self, worker: str, task: Task, seconds: float) -> None:
        """What a task took."""
        if seconds:
            self.rates[worker] = seconds / task.size

    def take(self, worker: str, workers: int) -> Task:
        """The next task of a worker: of TASK_SECONDS, less where `workers` would not all end together; never more than a shard."""
        if self.back:
            return self.back.popleft()
        jobs = [self.jobs.popleft()]
        most = self._bytes(worker, workers)
        size = _weight(jobs[0])
        while self.jobs and len(jobs) < shards.SHARD_CLIPS and (size < most if most else len(jobs) < FIRST_CLIPS):
            jobs.append(self.jobs.popleft())
            size += _weight(jobs[-1])
        self.left -= size
        return Task(jobs)

    def _bytes(self, worker: str, workers: int) -> float:
        """That a task may weigh, or 0 where nothing tells yet."""
        rate = self.rates.get(worker) or (sum(self.rates.values()) / len(self.rates) if self.rates else 0.0)
        if not rate:
            return 0.0
        return max(min(TASK_SECONDS / rate, self.left / (2 * workers)), LEAST_SECONDS / rate)


def _weight(job: Job) -> int:
    return job.stat.size + CLIP_BYTES
