"""Leases: which run works on which units of a stage's clips, in files that every host of a shared folder can judge.

A run is a file whose content changes at every beat. A claim is a file that one run alone could create: generation 0 of a unit,
or the next one where the holder of the last is dead. No clocks are compared: a run is dead where its own kernel says that nobody
holds its file's lock, or where the observer, by its own monotonic clock, has looked at an unchanging file for EXPIRY seconds.
A listing is trusted that was made after this host changed the folder: until then a network file system may show an old one.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.cache.shards import MARKER_SUFFIX

RUN, CLAIM = ".run-", ".claim-"
BEAT, EXPIRY = 2.0, 30.0
"""Seconds between two beats, and those without one after which a run on another host counts as dead."""
SIZE = 512
"""Bytes of a run's file: written in place and in one piece, for another host may have it open."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What lies in a stage's folder: the latest generation of each claimed unit, the runs, the names of finished shards."""

    claims: Mapping[int, int]
    runs: tuple[str, ...]
    markers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Silence:
    """How long a content has been seen to stay as it is; what an observer sleeps through does not count."""

    content: bytes
    at: float
    seconds: float


class Leases:
    """This run's part in a stage's folder: its beating file, the units that it holds, and what it sees of others."""

    def __init__(self, folder: Path, said: Callable[[], Mapping[str, Any]]) -> None:
        self.folder, self.said = folder, said
        self.token = secrets.token_hex(6)
        self.held: dict[int, int] = {}
        self._beats = 0
        self._silences: dict[str, _Silence] = {}
        self._holders: dict[tuple[int, int], str] = {}
        self._judged: dict[str, bool] = {}
        """Of this look: a run holds many units."""
        self._lock = self._begin()

    def _begin(self) -> int:
        """The locked file appears whole, so that nobody ever sees one that is not locked yet."""
        new, path = self.folder / f".{self.token}.new", self._run(self.token)
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another run has ended, and taken the empty folder away
                handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
                break
        with suppress(OSError):  # a file system without locks: only silence tells there
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(handle, self._content())
        os.rename(new, path)
        return handle

    def beat(self) -> None:
        """Say that this run lives. One that was taken for dead and buried says it anew."""
        try:
            handle = os.open(self._run(self.token), os.O_WRONLY)
        except FileNotFoundError:
            os.close(self._lock)
            self._lock = self._begin()
            return
        try:
            os.pwrite(handle, self._content(), 0)
        finally:
            os.close(handle)  # which sends it to a server

    def _content(self) -> bytes:
        self._beats += 1
        said = {"host": socket.gethostname(), "pid": os.getpid(), "kernel": kernel(), "beat": self._beats, "at": time.monotonic()}
        return json.dumps({**said, "user": _user(), **self.said()}).encode().ljust(SIZE)

    def look(self) -> Seen:
        """What lies in the folder now."""
        self._judged.clear()
        claims, runs, markers = dict[int, int](), list[str](), list[str]()
        for entry in os.scandir(self.folder):
            name = entry.name
            if name.startswith(CLAIM):
                unit, generation = map(int, name.removeprefix(CLAIM).split("-"))
                claims[unit] = max(claims.get(unit, -1), generation)
            elif name.startswith(RUN):
                runs.append(name.removeprefix(RUN))
            elif name.endswith(MARKER_SUFFIX) and not name.startswith("."):
                markers.append(name.removesuffix(MARKER_SUFFIX))
        return Seen(claims, tuple(runs), tuple(markers))

    def take(self, unit: int, seen: Seen) -> bool:
        """Whether the unit is this run's from now on: nobody else's, or of one that is dead. Look again before anything is done."""
        last = seen.claims.get(unit, -1)
        if unit in self.held or (last >= 0 and not self._is_dead(unit, last)):
            return False
        try:
            handle = os.open(self._claim(unit, last + 1), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        with open(handle, "w", encoding="ascii") as file:
            file.write(self.token)
        self.held[unit] = last + 1
        return True

    def has_lost(self, unit: int, seen: Seen) -> bool:
        """Whether somebody has the unit by a later claim than this run's."""
        return seen.claims.get(unit, -1) > self.held[unit]

    def release(self, unit: int) -> None:
        """Give a unit back, all of it finished or not; the claims before this run's go first."""
        for generation in range(self.held.pop(unit, -1) + 1):
            _remove(self._claim(unit, generation))

    def close(self) -> None:
        """Give everything back; what this run has left in the folder is gone then, and the folder where it is empty."""
        for unit in list(self.held):
            self.release(unit)
        self._run(self.token).unlink(missing_ok=True)
        os.close(self._lock)
        with suppress(OSError):
            self.folder.rmdir()

    def bury(self) -> None:
        """Clear away what runs of this kernel that have ended left, where all clips are finished; a silent one may only be stopped."""
        seen = self.look()
        dead = {token for token in seen.runs if token != self.token and _is_gone(self._run(token))}
        for unit, last in seen.claims.items():
            for generation in range(last + 1):
                if self._holder(unit, generation) in dead:
                    _remove(self._claim(unit, generation))
        for token in dead:
            _remove(self._run(token))

    def _is_dead(self, unit: int, generation: int) -> bool:
        """Whether nobody works on a claimed unit any more."""
        known = self._holders.get((unit, generation), "")
        if known and not self._has_ended(known):
            return False
        holder = self._holders[unit, generation] = self._holder(unit, generation)  # the claim may be another's by now
        return self._has_ended(holder) if holder else self._is_silent(f"{unit}-{generation}", b"")

    def _holder(self, unit: int, generation: int) -> str:
        """The token of the run that made a claim; empty as long as it is being written, or where it is gone."""
        with suppress(FileNotFoundError):
            return self._claim(unit, generation).read_text(encoding="ascii")
        return ""

    def _has_ended(self, token: str) -> bool:
        if token not in self._judged:
            self._judged[token] = token != self.token and self._is_dead_run(self._run(token))
        return self._judged[token]

    def _is_dead_run(self, path: Path) -> bool:
        return _is_gone(path) or self._is_silent(path.name, _content(path))

    def _is_silent(self, name: str, content: bytes) -> bool:
        now, before = time.monotonic(), self._silences.get(name)
        if before is None or before.content != content:
            self._silences[name] = _Silence(content, now, 0.0)
            return False
        seconds = before.seconds + min(now - before.at, BEAT)
        self._silences[name] = _Silence(content, now, seconds)
        return seconds > EXPIRY

    def _run(self, token: str) -> Path:
        return self.folder / f"{RUN}{token}"

    def _claim(self, unit: int, generation: int) -> Path:
        return self.folder / f"{CLAIM}{unit}-{generation}"


def _remove(path: Path) -> None:
    """What another user left in a sticky folder stays, and is passed over as that of a run that has ended."""
    with suppress(FileNotFoundError, PermissionError):
        path.unlink()


def _content(path: Path) -> bytes:
    """What a run said at its last beat; nothing where its file is gone."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    return b""


def _is_gone(path: Path) -> bool:
    """Whether the run of a file was of this kernel, and has ended: nobody holds the file's lock."""
    with suppress(ValueError, OSError):
        if json.loads(_content(path))["kernel"] == kernel():
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
    return False


def runs(folder: Path, below: str = "") -> Iterator[tuple[Path, dict[str, Any]]]:
    """What every run that works in a folder, or in those `below`, said at its last beat; not those that have ended on this kernel."""
    for path in sorted(folder.glob(f"{below}{RUN}*")):
        with suppress(ValueError):
            if not _is_gone(path):
                yield path, json.loads(_content(path))


@cache
def kernel() -> str:
    """Which start of which kernel this is: processes of one see each other's locks, whatever folder these lie in."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{socket.gethostname()} {os.uname().sysname}"


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without a name, as in containers
        return str(os.getuid())
