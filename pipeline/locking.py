"""One writer of a stage at a time, and what the disk refuses it in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.manifest import Home

LOCK = ".lock"
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


@contextmanager
def alone(file: Path, busy: str) -> Iterator[None]:
    """One process at a time in what `file` locks; the lock of one that dies goes with it. Raises UserError, `busy`, for another."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(busy) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def locked(home: Home, dataset: str, names: Sequence[str]) -> Iterator[None]:
    """Keep other writers of these stages out.

    Raises UserError where one is at work, or where the disk refuses what is done meanwhile.
    """
    with disk_errors(home), ExitStack() as stack:
        for name in sorted(names):
            busy = f"an extraction of {dataset}/{name} is running; wait for it, then run this again"
            stack.enter_context(alone(home.cache / dataset / name / LOCK, busy))
        yield


@contextmanager
def disk_errors(home: Home) -> Iterator[None]:
    """What the disk refuses, in one line."""
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        where = f"cannot write to the cache {home.cache}: {error.strerror}"
        raise UserError(f"{where}; finished clips and what is published are kept, run the same line again") from error
