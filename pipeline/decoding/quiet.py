"""Standard error without the lines that MediaPipe's native code prints in every run; whatever else comes, passes."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator

NOISE = re.compile(rb"I\d{4} \d\d:\d\d|WARNING: All log messages before absl::InitializeLog|W\d{4} .* inference_feedback_manager\.cc:")
"""Starts of lines: what absl informs of, and two warnings that no clip causes."""
FRAGMENTS = re.compile(rb"INFO: |Created TensorFlow Lite (XNNPACK )?delegate for [CG]PU\.")
"""TensorFlow Lite writes one message in three calls, between which another thread's line may come."""
STDERR = 2


class _Filter:
    """File descriptor 2 made a pipe, and the thread that passes its lines on to the real one."""

    def __init__(self) -> None:
        self.real = os.dup(STDERR)
        inlet, outlet = os.pipe()
        os.dup2(outlet, STDERR)
        os.close(outlet)
        self.thread = threading.Thread(target=self._pass_on, args=(inlet,), name="stderr-filter", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Put the real one back, after every line that was written so far; a second suffices unless a child holds the pipe."""
        os.dup2(self.real, STDERR)
        self.thread.join(1.0)

    def _pass_on(self, inlet: int) -> None:
        with open(inlet, "rb") as lines:
            for line in lines:
                told = FRAGMENTS.sub(b"", line)
                if told.strip() and not NOISE.match(told):
                    with contextlib.suppress(OSError):  # nobody listens, yet the writers must not block
                        os.write(self.real, told)
        os.close(self.real)


_lock = threading.Lock()
_inside: list[_Filter | None] = []


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """While any thread is inside, NOISE, FRAGMENTS and empty lines do not reach standard error.

    Native code writes to the file descriptor, past `sys.stderr`, so the whole process' descriptor is filtered.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else _opened())
    try:
        yield
    finally:
        with _lock:
            last = _inside.pop()
            if last and not _inside:
                last.close()


def _opened() -> _Filter | None:
    """None where the process has no standard error at all."""
    try:
        return _Filter()
    except OSError:
        return None
