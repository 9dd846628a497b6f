"""A log file for every extraction that does something: what was asked, planned, failed, and how long it took."""

from __future__ import annotations

import contextlib
import re
import secrets
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.corpus.manifest import Home

KEPT = 50
SECRET = re.compile(r"(?i)(\b[\w.-]*(?:token|secret|password|passwd|api[_-]?key)[\w.-]*[= ])\S+|(://[^/\s:@]+:)[^@\s/]+(?=@)")


class Log:
    """Lines with the time of day in `cache/<dataset>/logs/<time>-extract.log`; a cache that cannot be written to has none."""

    def __init__(self, home: Home, dataset: str, command: str) -> None:
        self.folder = home.cache / dataset / "logs"
        self.path = self.folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{command}.log"
        self.began = time.monotonic()
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            _rotate(self.folder, self.path)
            self.path = _its_own(self.path)
        self.add(f"signcache {without_secrets(shlex.join(sys.argv[1:]))}")

    def add(self, *lines: str) -> None:
        """Append lines; an embedded newline does not begin another."""
        now = time.strftime("%H:%M:%S")
        text = "".join(f"{now}  {_one_line(line)}\n" for line in lines)
        with contextlib.suppress(OSError), open(self.path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)

    def end(self, state: str) -> None:
        """The last line: how it ended, and after how long."""
        self.add(f"{state} after {time.monotonic() - self.began:.1f} s")


@contextlib.contextmanager
def logged(home: Home, dataset: str, plan: Sequence[str]) -> Iterator[Log]:
    """The log of one extraction, with its plan, and at the end how it ended."""
    log = Log(home, dataset, "extract")
    log.add(*plan)
    try:
        yield log
    except BaseException as error:
        log.end(f"stopped by {type(error).__name__}: {error}".rstrip(": "))
        raise
    log.end("done")


def _its_own(path: Path) -> Path:
    """The file, made now; under another name where another run of this second has it."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return path.with_name(f"{path.stem}-{secrets.token_hex(4)}.log")
    return path


def without_secrets(words: str) -> str:
    """The text with what looks like a password or a token left out."""
    return SECRET.sub(lambda match: f"{match.group(1) or match.group(2)}***", words)


def _one_line(line: str) -> str:
    return line.replace("\n", "\\n").replace("\r", "\\r")


def _rotate(folder: Path, new: Path) -> None:
    """Keep the newest files, this one among them."""
    files: Sequence[Path] = sorted(path for path in folder.glob("*.log") if path != new)
    for path in files[: max(0, len(files) + 1 - KEPT)]:
        path.unlink(missing_ok=True)
