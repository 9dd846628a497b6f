"""Files that appear in one step: a reader sees the old bytes or the new ones, never a part; and JSON that tells whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

SEAL = "seal"

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


PIECE = 4 << 20
"""Bytes of a file that are summed at once."""


def file_sum(path: Path) -> tuple[str, int]:
    """32 hex digits for the bytes of a file, and how many they are."""
    hasher, size = xxhash.xxh3_128(), 0
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            hasher.update(piece)
            size += len(piece)
    return hasher.hexdigest(), size


def sha256(path: Path) -> str:
    """64 hex digits for the bytes of a file, that anybody else can compute too."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(content: Mapping[str, Any], *, indent: int | None = None) -> bytes:
    """The bytes of a JSON file with these values and their seal."""
    return json.dumps({**content, SEAL: _sum(content)}, indent=indent).encode()


def unseal(content: bytes) -> dict[str, Any]:
    """The values in such a file; one without a seal is taken as it is. Raises ValueError where they are not those that were sealed."""
    values = json.loads(content)
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    said = values.pop(SEAL, None)
    if said is not None and said != _sum(values):
        raise ValueError("its content does not fit its seal")
    return values


def _sum(content: Mapping[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(content).encode())


def digest_of(value: Any) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
