"""Stages as a suite makes them: with other values of each field, and the frames of a clip that they would read."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any, Literal

from pipeline import registry
from pipeline.cache.identity import fingerprint
from pipeline.errors import UserError
from pipeline.types import STAGE_PREFIX, Extractor

IMAGE = (48, 64, 3)
TRACKS: dict[str, list[tuple[int, ...]]] = {
    "rgb": [IMAGE],
    "radar": [IMAGE] * 3,
    "inertial": [(6,)],
    "skeleton": [(20, 3)],
    "landmarks": [(1662,)],
}


def created(name: str, **fields: Any) -> Extractor:
    """The stage with these fields."""
    stage: Extractor = registry.create("stage", name, fields)
    return stage


def digest(stage: Extractor) -> str:
    """Its identity, over an upstream stage that is always the same."""
    return fingerprint(stage, upstream_of(stage)).digest


def upstream_of(stage: Extractor) -> str | None:
    """In place of the digest of the stage that a derived one reads."""
    return "digest of the upstream" if stage.source.startswith(STAGE_PREFIX) else None


def other_values(name: str) -> dict[str, Any]:
    """Another valid value of each field: the first of some guesses that the stage takes."""
    found = {}
    for field, info in registry.find("stage", name).model_fields.items():
        guesses = ["random:7"] if field == "weights" else _guesses(info.annotation, info.default)
        found[field] = next((guess for guess in guesses if _takes(name, field, guess)), None)
    return {field: value for field, value in found.items() if value is not None}


def _takes(name: str, field: str, value: Any) -> bool:
    try:
        created(name, **{field: value})
    except UserError:
        return False
    return True


def _guesses(annotation: Any, value: Any) -> list[Any]:
    """Values of a field's type other than its default."""
    if typing.get_origin(annotation) is Literal:
        return [option for option in typing.get_args(annotation) if option != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, (int, float)):
        return [value + 1, value + 2, value * 2, value / 2, value - 1]
    if isinstance(value, tuple):
        return [value[:-1], *((*value[:-1], guess) for guess in _guesses(None, value[-1]))] if value else [("a",), (1,)]
    if isinstance(value, Mapping):
        return [{**value, "max_frames": 7}]
    if value is None:
        return [2, 0.5, "other", (1, 2)]
    return [f"{value}2", f"stage:{value}", *registry.names("stage")]
