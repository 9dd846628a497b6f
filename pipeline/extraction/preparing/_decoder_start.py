"""Loaded by the fork server alone, first: the threads of the processes that it forks, and what they say when they cannot start."""

from __future__ import annotations

import os
import sys
from types import TracebackType

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")  # there is a process a core


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As ever, but for a process that is forked while its parent stops: the semaphores that it was to share are gone."""
    last = trace
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    is_orphan = (
        isinstance(error, (FileNotFoundError, EOFError)) and last is not None and "multiprocessing" in last.tb_frame.f_code.co_filename
    )
    if not is_orphan:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _excepthook
