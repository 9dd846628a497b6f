"""One writer of a stage at a time, and what the disk refuses it in one line."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError

LOCK, GATE = ".lock", ".gate"
GATE_SECONDS = 10.0
"""A start waits for another so long: who packs or drops keeps the gate until the end."""
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


@contextmanager
def alone(file: Path, busy: str, *, seconds: float = 0) -> Iterator[None]:
    """One process at a time in what `file` locks; the lock of one that dies goes with it.

    Raises UserError, `busy`, where another has it for longer than these seconds.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=seconds)
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
        with _gate(home, dataset):
            _lock(home, dataset, names, stack)
        yield


@contextmanager
def locked_wholly(home: Home, dataset: str) -> Iterator[None]:
    """Keep writers of any stage of a name out, those that would begin meanwhile too: they may read what is taken away.

    Raises as `locked` does.
    """
    with disk_errors(home), _gate(home, dataset), ExitStack() as stack:
        folders = (path for path in (home.cache / dataset).iterdir() if path.is_dir())
        _lock(home, dataset, [path.name for path in folders if not path.name.startswith(".")], stack)
        yield


def _gate(home: Home, dataset: str) -> AbstractContextManager[None]:
    """What a writer of any stage goes through when it begins."""
    busy = f"the cache of {dataset} is being packed or dropped; wait for it, then run this again"
    return alone(home.cache / dataset / GATE, busy, seconds=GATE_SECONDS)


def _lock(home: Home, dataset: str, names: Sequence[str], stack: ExitStack) -> None:
    for name in sorted(names):
        busy = f"an extraction of {dataset}/{name} is running; wait for it, then run this again"
        stack.enter_context(alone(home.cache / dataset / name / LOCK, busy))


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
