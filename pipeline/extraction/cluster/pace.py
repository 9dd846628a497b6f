"""How many clips make a task: those of some seconds of work, by what the latest tasks took."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

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
        """Two tasks, which are halved again by the next death; that of a clip alone is its first."""
        middle = (len(self.jobs) + 1) // 2
        return [Task(part, int(len(part) > 1)) for part in (self.jobs[:middle], self.jobs[middle:])]


@dataclass
class Queue:
    """Clips that no worker has: tasks that came back first. The others are taken from `jobs` as they are handed out."""

    jobs: Iterator[Job]
    left: Callable[[], int]
    """Clips that no run has taken."""
    next: deque[Job] = field(default_factory=deque)
    back: deque[Task] = field(default_factory=deque)
    taken: int = 0
    size: int = 0
    """Clips that were handed out, and what they weighed."""
    rates: dict[str, float] = field(default_factory=dict)
    """Seconds a byte, of each worker's latest task."""

    def __bool__(self) -> bool:
        return bool(self.back or self.first())

    def first(self) -> Job | None:
        """The next clip that is no part of a task, where there is one."""
        if not self.next:
            self.next.extend(islice(self.jobs, 1))
        return self.next[0] if self.next else None

    def learn(self, worker: str, task: Task, seconds: float) -> None:
        """What a task took."""
        if seconds:
            self.rates[worker] = seconds / task.size

    def take(self, worker: str, workers: int) -> Task:
        """The next task of a worker: of TASK_SECONDS, less where `workers` would not all end together; never more than a shard."""
        if self.back:
            return self.back.popleft()
        most, task = self._bytes(worker, workers), Task([])
        while len(task.jobs) < shards.SHARD_CLIPS and (task.size < most if most else len(task.jobs) < FIRST_CLIPS) and self.first():
            task.jobs.append(self.next.popleft())
        self.taken, self.size = self.taken + len(task.jobs), self.size + task.size
        return task

    def _bytes(self, worker: str, workers: int) -> float:
        """That a task may weigh, or 0 where nothing tells yet."""
        rate = self.rates.get(worker) or (sum(self.rates.values()) / len(self.rates) if self.rates else 0.0)
        if not rate:
            return 0.0
        left = self.left() * self.size / self.taken
        return max(min(TASK_SECONDS / rate, left / (2 * workers)), LEAST_SECONDS / rate)


def _weight(job: Job) -> int:
    return job.stat.size + CLIP_BYTES
