"""What an extraction shows while it runs: a bar a stage on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from pipeline.machine import shown_time

PLAIN_SECONDS = 10.0


@dataclass
class _Count:
    total: int
    clips: int = 0
    others: int = 0
    """Clips that other runs have finished since this one began."""
    failed: int = 0
    frames: int = 0
    task: TaskID | None = None


@dataclass
class Progress:
    """Clips, frames a second, time left and failures of every stage."""

    console: Console = field(default_factory=lambda: Console(stderr=True))
    counts: dict[str, _Count] = field(default_factory=dict)
    bars: Bars | None = None
    began: float = 0.0
    said: float = 0.0

    def start(self, totals: Mapping[str, int]) -> None:
        """`totals` clips are to do of each stage."""
        self.counts = {name: _Count(total) for name, total in totals.items()}
        self.began = self.said = time.monotonic()
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
            self.bars = Bars(*columns, TimeElapsedColumn(), TextColumn("eta"), TimeRemainingColumn(), console=self.console)
            for name, count in self.counts.items():
                count.task = self.bars.add_task(name, total=count.total, rate="")
            self.bars.start()

    def advance(self, name: str, *, frames: int, failed: bool) -> None:
        """One more clip of a stage is done."""
        count = self.counts[name]
        count.clips, count.failed, count.frames = count.clips + 1, count.failed + failed, count.frames + frames
        now = time.monotonic()
        if self.bars and count.task is not None:
            self.bars.update(count.task, advance=1, rate=self._rate(count, now))
        elif now - self.said > PLAIN_SECONDS:
            self.said = now
            for stage in self.counts:
                self._line(stage, now)

    def beside(self, others: Mapping[str, int]) -> None:
        """So many clips of each stage have been finished by other runs since this one began."""
        for name, clips in others.items():
            count = self.counts[name]
            if self.bars and count.task is not None and clips != count.others:
                self.bars.update(count.task, advance=clips - count.others, rate=self._rate(count, time.monotonic()))
            count.others = clips

    def say(self, line: str) -> None:
        """One line, above the bars where there are some."""
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def stop(self) -> None:
        """Close the bars, or say the last line of each stage."""
        if self.bars:
            self.bars.stop()
            self.bars = None
        else:
            for stage in self.counts:
                self._line(stage, time.monotonic())

    def _rate(self, count: _Count, now: float) -> str:
        """`40 of them by other runs, 812 frames/s, 2 failed`, without what is not known yet."""
        rate = f"{count.frames / (now - self.began):.0f} frames/s" if count.frames and now > self.began else ""
        others = f"{count.others} of them by other runs" if count.others else ""
        return ", ".join(filter(None, [others, rate, f"{count.failed} failed" if count.failed else ""]))

    def _line(self, stage: str, now: float) -> None:
        count = self.counts[stage]
        done = count.clips + count.others
        left = count.total - done
        eta = f"eta {shown_time((now - self.began) * left / done)}" if left > 0 and count.frames else ""
        line = ", ".join(filter(None, [f"{stage}: {done}/{count.total} clips", self._rate(count, now), eta]))
        self.say(line)
