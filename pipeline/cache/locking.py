"""Who keeps whom out of a stage: extractions share it, what packs, deletes or imports has it alone; what the disk refuses, in one line."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError

LOCK, GATE, PUBLISHING, PULLING = ".lock", ".gate", ".publishing", ".pulling"
GATE_SECONDS = 10.0
"""A start waits for another so long: who packs or drops keeps the gate until the end."""
PUBLISHING_SECONDS = 3600.0
"""So long a run waits for another to publish: that of a million clips takes less than a minute, a stopped process any time."""
ASKED_SECONDS = 0.05
"""Between two tries to get a lock."""
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
def together(file: Path, busy: str, *, seconds: float = 0) -> Iterator[None]:
    """Any number of processes at a time in what `file` locks, and none that is `alone` there; raises as `alone` does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, end = os.open(file, os.O_RDWR | os.O_CREAT, 0o666), time.monotonic() + seconds
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    raise UserError(busy) from None
                time.sleep(ASKED_SECONDS)
        yield
    finally:
        os.close(handle)


@contextmanager
def shared(home: Home, dataset: str, names: Sequence[str]) -> Iterator[None]:
    """Keep out who would pack, delete or import in these stages; other extractions are welcome.

    Raises UserError where such a one is at work, or where the disk refuses what is done meanwhile.
    """
    with disk_errors(home), ExitStack() as stack:
        with together(home.cache / dataset / GATE, _packed(dataset), seconds=GATE_SECONDS):
            for name in sorted(names):
                busy = f"{dataset}/{name} is being imported, adopted, mended or cleaned up; wait for it, then run this again"
                stack.enter_context(together(home.cache / dataset / name / LOCK, busy))
        yield


def publishing(home: Home, dataset: str, name: str) -> AbstractContextManager[None]:
    """One run at a time looks whether there is something to publish of a stage, and publishes it."""
    busy = f"another run has been publishing {dataset}/{name} for an hour; end it, then run this again"
    return alone(home.cache / dataset / name / PUBLISHING, busy, seconds=PUBLISHING_SECONDS)


def pulling(home: Home, dataset: str, name: str) -> AbstractContextManager[None]:
    """One run at a time takes rows of a stage from a remote: others of the same line wait, and then find them here."""
    busy = f"another run has been pulling {dataset}/{name} for an hour; end it, then run this again"
    return alone(home.cache / dataset / name / PULLING, busy, seconds=PUBLISHING_SECONDS)


@contextmanager
def locked(home: Home, dataset: str, names: Sequence[str]) -> Iterator[None]:
    """Keep other writers of these stages out, extractions among them.

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
    return alone(home.cache / dataset / GATE, _packed(dataset), seconds=GATE_SECONDS)


def _packed(dataset: str) -> str:
    return f"the cache of {dataset} is being packed or dropped; wait for it, then run this again"


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
