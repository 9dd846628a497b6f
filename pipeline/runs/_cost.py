"""What a training took: seconds, memory, values trained."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.learning.epochs import FIGURES, read_figures
from pipeline.runs import run_folder


class Clock:
    """Counts the seconds of one training in its run folder from now on.

    Counted are the seconds since the start, those of the epochs that killed trainings of the same run have done, and those of the
    runs of its members, whenever they were trained; not extraction, nor what was lost between a last epoch and a kill.
    """

    def __init__(self, folder: Path | None = None) -> None:
        tables = folder.rglob(FIGURES) if folder else ()
        self.elsewhere = sum(row.seconds for table in tables for row in read_figures(table.parent))
        self.began = time.monotonic()

    def aside(self, member: Callable[[], Path]) -> Path:
        """The folder of the run that `member` trains or finds: its own seconds count, not those of this call."""
        began = time.monotonic()
        folder = member()
        self.began += time.monotonic() - began
        self.elsewhere += run_folder.read(folder).scores.get("seconds", 0.0)
        return folder

    def cost(self, parameters: int) -> dict[str, Any]:
        """For the result: memory is the most that this process has held since it started, in trainings before this one too."""
        seconds = round(time.monotonic() - self.began + self.elsewhere, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        device = {"peak_device_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {}
        return {"parameters": parameters, "seconds": seconds, "peak_memory_bytes": peak, **device}
