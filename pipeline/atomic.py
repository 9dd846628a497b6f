"""Files that appear in one step: a reader sees the old bytes or the new ones, never a part."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")
"""The names of what `replace` leaves behind where it is killed."""


def replace(path: Path, content: bytes) -> None:
    """Put `content` at `path`, on disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file's or a folder's content to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
