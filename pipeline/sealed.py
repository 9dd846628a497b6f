"""JSON files that tell whether they are whole: a checksum of what they hold is their last key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import xxhash

SEAL = "seal"


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
