"""What is found out about the files that clips are parts of: once in an extraction, by the decode process that asks first."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import xxhash

from pipeline import atomic
from pipeline.corpus.intervals import parted
from pipeline.corpus.media import hashed, stat_of
from pipeline.decoding.timeline import Timeline, timeline_of
from pipeline.decoding.video import Moved, media_errors
from pipeline.extraction.preparing.jobs import Job

DIGEST = "digest"
WAIT_SECONDS = 0.5
"""After which a process that waits for another one tells that it is not hung."""


def leave_digest(spool: Path, file: Path, token: int, digest: str) -> None:
    """What was found out before about a file in some state, for all processes that share a spool."""
    atomic.replace(_place(spool, file, token, DIGEST), digest.encode())


def whole_digests(job: Job) -> dict[Path, str]:
    """The hash of each track that the job's clip is a part of; raises ClipError, and OSError where the spool cannot be written."""
    tracks = [Path(name) for name, part in map(parted, job.paths) if part]
    return {track: _once(job, track, DIGEST, partial(_digest, track, job.moved)).decode() for track in tracks}


def _digest(track: Path, moved: Moved) -> bytes:
    with media_errors(track):
        return hashed([track], moved).encode()


def whole_timeline(job: Job, path: Path, moved: Moved, *, exact: bool = False) -> Timeline:
    """As `timeline_of`."""
    kind = "exact" if exact else "timeline"
    return Timeline.from_bytes(_once(job, path, kind, lambda: timeline_of(path, moved, exact=exact).as_bytes()))


def _once(job: Job, file: Path, kind: str, find: Callable[[], bytes]) -> bytes:
    """What one of the processes that share a spool found out about a file in its state now; the others wait for it.

    One that is killed, or cannot tell, leaves it to the next.
    """
    from filelock import FileLock, Timeout

    known = _place(job.spool, file, stat_of([file]).token, kind)
    while not known.exists():
        job.moved()
        try:
            with FileLock(f"{known}.lock", timeout=WAIT_SECONDS):
                if not known.exists():
                    atomic.replace(known, find())
        except Timeout:
            continue
    return known.read_bytes()


def _place(spool: Path, file: Path, token: int, kind: str) -> Path:
    return spool / f"{kind}-{xxhash.xxh3_64_hexdigest(os.fsencode(file))}-{token:x}"
