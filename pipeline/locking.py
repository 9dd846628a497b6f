"""One writer of a stage at a time, and what the disk refuses it in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from filelock import FileLock, Timeout

from pipeline.errors import UserError
from pipeline.manifest import Home

LOCK = ".lock"
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


@contextmanager
def locked(home: Home, dataset: str, names: Sequence[str]) -> Iterator[None]:
    """Keep other writers of these stages out. The lock of a process that dies goes with it.

    Raises UserError where one is at work, or where the disk refuses what is done meanwhile.
    """
    with disk_errors(home), ExitStack() as stack:
        for name in sorted(names):
            folder = home.cache / dataset / name
            folder.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(folder / LOCK, timeout=0))
            except Timeout:
                raise UserError(f"an extraction of {dataset}/{name} is running; wait for it, then run this again") from None
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
