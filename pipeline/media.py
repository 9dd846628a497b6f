"""The state of media files: what tells without reading them that they changed, and the hash of what they hold."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash


@dataclass(frozen=True, slots=True)
class Stat:
    """What tells without reading whether files changed: a hash of every (size, mtime_ns), and the total size."""

    token: int
    size: int


def stat_of(paths: Sequence[Path]) -> Stat:
    """The stat of a clip's files in order; a missing file counts as such."""
    token, size = xxhash.xxh64(), 0
    for path in paths:
        try:
            stat = path.stat()
            token.update(struct.pack("<qq", stat.st_size, stat.st_mtime_ns))
            size += stat.st_size
        except OSError:
            token.update(b"missing")
    return Stat(token.intdigest(), size)


def content_of(paths: Sequence[Path]) -> str:
    """32 hex digits for the bytes of a clip's files in order; empty where one cannot be read."""
    digests = []
    for path in paths:
        digest = xxhash.xxh3_128()
        try:
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError:
            return ""
        digests.append(digest.hexdigest())
    return digests[0] if len(digests) == 1 else xxhash.xxh3_128_hexdigest("".join(digests).encode())
