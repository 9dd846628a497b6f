"""The state of media files: what tells without reading them that they changed, and the hash of what they hold."""

from __future__ import annotations

import functools
import os
import re
import stat as modes
import struct
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.corpus.intervals import parted
from pipeline.errors import UserError

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".pgm", ".ppm"})
SYSTEM = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})
"""Folders that file systems put at the top of a disk for themselves."""
FRAME = re.compile(r"(.*?)(\d+)(\.[^.]+)", re.DOTALL)
"""A file of one frame: what comes before its number, the number, the suffix."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What tells without reading whether files changed: a hash of every (size, mtime_ns), and the total size."""

    token: int
    size: int


@dataclass(frozen=True)
class States:
    """The `Stat` of every clip of a manifest as `(clips,)` columns in its order; `there` is false where a clip has no input."""

    tokens: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    there: NDArray[np.bool_]

    def __len__(self) -> int:
        """How many clips have an input."""
        return int(np.count_nonzero(self.there))

    def of(self, place: int) -> Stat | None:
        """That of one clip."""
        return Stat(int(self.tokens[place]), int(self.sizes[place])) if self.there[place] else None


def composed(text: str) -> str:
    """The one form (NFC) of a name that file systems write in several."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def natural(text: str) -> list[tuple[int, str]]:
    """A sorting key by which `a2` comes before `a10`, and `a01` beside `a1`, always in one order."""
    return [*((int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)), (-1, text)]


def walk(root: Path, *, depth: int = sys.maxsize, order: Callable[[str], Any] | None = None) -> Iterator[tuple[str, list[str]]]:
    """`("", names)`, `("a/b", names)`: the files of a folder, if it is one, and of all below it, as deep as asked, nothing hidden.

    Links are followed, but not back into a folder that they lie in. Raises UserError where a folder cannot be listed.
    """
    above: dict[str, frozenset[tuple[int, int]]] = {}
    for folder, folders, names in os.walk(root, followlinks=True, onerror=_refuse) if root.is_dir() else ():
        below = folder.removeprefix(str(root)).strip("/")
        own = above.pop(folder, frozenset()) | {_identity(folder)}
        folders[:] = sorted((name for name in folders if _is_listed(folder, name, own)), key=order) if _depth(below) < depth else []
        above |= {os.path.join(folder, name): own for name in folders}
        yield below, sorted((name for name in names if not name.startswith(".")), key=order)


def _depth(below: str) -> int:
    return below.count("/") + 1 if below else 0


def _is_listed(folder: str, name: str, above: frozenset[tuple[int, int]]) -> bool:
    return not name.startswith(".") and name not in SYSTEM and _identity(os.path.join(folder, name)) not in above


def _identity(folder: str) -> tuple[int, int]:
    """The same for every path that leads to a folder."""
    try:
        found = os.stat(folder)
    except OSError as error:
        _refuse(error)
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"cannot list {error.filename}: {error.strerror}; mend that and run the same line again, lest its clips be left out")


@contextmanager
def listing() -> Iterator[None]:
    """What a disk refuses those who list its files meanwhile, in one line."""
    try:
        yield
    except OSError as error:
        _refuse(error)


def series_name(file: str) -> str | None:
    """`clip.12.jpg` -> `clip.*.jpg`, the media name of all frames of that clip; None where the file has no number."""
    match = FRAME.fullmatch(file)
    return f"{match[1]}*{match[3]}" if match else None


def files_of(path: Path) -> list[Path]:
    """The files of one track: itself, the frames of a folder, or those of a series `clip.*.jpg`, by their numbers.

    What is not there is returned as it is.
    """
    try:
        if not modes.S_ISDIR(path.stat().st_mode):
            return [path]
        files = [Path(entry.path) for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith(".")]
        return sorted(files, key=lambda file: natural(file.name)) or [path]
    except OSError:
        return _series(path) if "*" in path.name else [path]


def exists(path: Path) -> bool:
    """Whether a track has files."""
    path = Path(parted(path)[0])
    files = files_of(path)
    return files != [path] or os.path.isfile(path)


def _series(path: Path) -> list[Path]:
    try:
        listing = _listing(path.parent, path.parent.stat().st_mtime_ns)
    except OSError:
        return [path]
    return [path.parent / name for name in listing.get(path.name, ())] or [path]


@functools.lru_cache(maxsize=64)
def _listing(folder: Path, mtime_ns: int) -> dict[str, list[str]]:
    """Every series of a folder with its files: a folder of many clips is listed once while it stays as it is."""
    found: dict[str, list[str]] = {}
    for name in os.listdir(folder):
        series = series_name(name)
        if series and not name.startswith("."):
            found.setdefault(series, []).append(name)
    return {series: sorted(names, key=natural) for series, names in found.items()}


def stat_of(paths: Sequence[str | Path]) -> Stat:
    """The stat of a clip's files in order; a missing file counts as such, a frame of a series by its name too."""
    return Stat(*token_and_size(paths))


def token_and_size(paths: Sequence[str | Path], seen: dict[str, tuple[list[bytes], int]] | None = None) -> tuple[int, int]:
    """The two values of `stat_of`: of many clips, making an object of each is what takes time.

    The state of a part of a file is that of the file and which part it is; a file whose parts were `seen` is not looked at again.
    """
    states, size = list[bytes](), 0
    for path in paths:
        file, part = parted(path)
        own, own_size = found if part and seen and (found := seen.get(file)) else _state(file)
        states += own
        size += own_size
        if part:
            states.append(part.encode())
            if seen is not None:
                seen[file] = own, own_size
    return xxhash.xxh64_intdigest(b"".join(states)), size


def _state(file: str) -> tuple[list[bytes], int]:
    """What tells without reading whether a track changed, and its size."""
    try:
        stat = os.stat(file)
    except OSError:
        stat = None
    if stat is None or modes.S_ISDIR(stat.st_mode):
        return _frames(Path(file))
    return [struct.pack("<qq", stat.st_size, stat.st_mtime_ns)], stat.st_size


def _frames(path: Path) -> tuple[list[bytes], int]:
    """The same of what is no file: the frames of a folder or of a series with their names, or what is missing."""
    states, size = [], 0
    for file in files_of(path):
        try:
            stat = file.stat()
            states.append(struct.pack("<qq", stat.st_size, stat.st_mtime_ns))
            states.append(b"" if file == path else os.fsencode(file.name))
            size += stat.st_size
        except OSError:
            states.append(b"missing")
    return states, size


def content_of(paths: Sequence[Path], whole: Callable[[Path], str] | None = None) -> str:
    """32 hex digits for the bytes of a clip's files in order, and which parts of them it is; empty where one cannot be read."""
    try:
        return hashed(paths, lambda: None, whole)
    except OSError:
        return ""


def hashed(paths: Sequence[Path], moved: Callable[[], object], whole: Callable[[Path], str] | None = None) -> str:
    """As `content_of`; `moved` is called after each part that is read, and `whole` may know the hash of a track that parts are of.

    Raises OSError.
    """
    digests = []
    for track in paths:
        name, part = parted(track)
        if part:
            digests += [whole(Path(name)) if whole else hashed([Path(name)], moved), f"#{part}"]
        else:
            digests += [_digest(file, moved) for file in files_of(track)]
    return digests[0] if len(digests) == 1 else xxhash.xxh3_128_hexdigest("".join(digests).encode())


def _digest(file: Path, moved: Callable[[], object]) -> str:
    """32 hex digits for the bytes of a file; raises OSError."""
    digest = xxhash.xxh3_128()
    with open(file, "rb", buffering=0) as opened:
        while chunk := opened.read(1 << 20):
            digest.update(chunk)
            moved()
    return digest.hexdigest()
