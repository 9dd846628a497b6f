"""The identity of a stage: everything that can change its numbers, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from pipeline.atomic import digest_of
from pipeline.cache import code, weights
from pipeline.errors import UserError
from pipeline.types import Extractor

NUMBERS_VERSION = 1
"""Raised when decoding, resizing, tables or folded weights in `pipeline` give other numbers; golden rows in the tests guard it."""
SAID = ("version", "libraries", "row_layout", "like", "item_shape", "item_dtype", "item_axes", "after_items")
"""What a stage's class says that its identity holds already, as it does the defaults of fields, or that changes no rows."""
_agreed = set[tuple[Any, ...]]()
"""Identities that what this process has loaded is known to be of, each with what it had loaded then."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What a stage is: `identity` says it in plain JSON values, `digest` names it."""

    identity: Mapping[str, Any]
    digest: str


def fingerprint(extractor: Extractor, upstream: str | None = None) -> Fingerprint:
    """The identity of a configured stage; `upstream` is the digest of the stage that it derives from.

    Raises UserError where a weights file is not there.
    """
    fields = extractor.model_dump(mode="json")
    identity: dict[str, Any] = {
        "class": type(extractor).__name__,
        "version": extractor.version,
        "code": _code_of(extractor),
        "libraries": _libraries(extractor),
        "numbers": NUMBERS_VERSION,
    }
    if "weights" in fields:
        identity["weights"] = weights.describe(fields.pop("weights"), extractor.checkpoints)
    if upstream is not None:
        identity["upstream"] = upstream
    identity["fields"] = fields
    return Fingerprint(identity, digest_of(identity))


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why two identities of one stage differ, a phrase each: `max_frames 30 -> 60`, `code of stages/resnet50.py`."""
    reasons = [f"{key} {_shown(a)} -> {_shown(b)}" for key, a, b in _changed(old["fields"], new["fields"])]
    reasons += [f"code of {key}" for key, _, _ in _changed(old["code"], new["code"])]
    reasons += [f"{key} {_shown(a)} -> {_shown(b)}" for key, a, b in _changed(old["libraries"], new["libraries"])]
    if old.get("weights") != new.get("weights"):
        reasons.append(f"weights {weights.phrase(old.get('weights'))} -> {weights.phrase(new.get('weights'))}")
    words = {"class": "class", "version": "version", "numbers": "decoding of signcache", "upstream": "upstream"}
    reasons += [f"{words[key]} {_shown(old.get(key))} -> {_shown(new.get(key))}" for key in words if old.get(key) != new.get(key)]
    return reasons


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted({*old, *new}):
        before, now = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            yield from _changed(before, now)
        elif before != now:
            yield key, before, now


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _code_of(extractor: Extractor, read: Callable[[Path], bytes] = Path.read_bytes) -> dict[str, str]:
    """The hashes of the code of a stage and of the one that it wraps, without what is said elsewhere or changes no rows."""
    stage, found = type(extractor), dict[str, str]()
    for each in (extractor, extractor.wrapped):
        if each is not None:
            stage = type(each)
            file = sys.modules[stage.__module__].__file__ or ""
            found |= code.code_hashes(file, stage.__name__, {*stage.model_fields, *SAID}, read=read)
    return found


def _libraries(extractor: Extractor) -> dict[str, str]:
    wrapped = extractor.wrapped.libraries if extractor.wrapped else ()
    return {name: library_version(name) for name in (*extractor.libraries, *wrapped)}


def refuse_changed(name: str, extractor: Extractor, said: Fingerprint, *, has_weights: bool = False) -> None:
    """Raise UserError where the code or weights that this process has loaded are not those of the identity.

    Asked again it looks only where more was loaded since; with `has_weights`, at those that the stage has just loaded.
    """
    given = str(getattr(extractor, "weights", ""))
    read = weights.loaded(given)
    state = (said.digest, code.loads(), digest_of(read))
    if state in _agreed and not has_weights:
        return
    now = {
        **said.identity,
        "version": extractor.version,
        "code": _code_of(extractor, code.loaded),
        "libraries": _libraries(extractor),
    }
    if "weights" in said.identity and (read or has_weights):
        now["weights"] = read or weights.describe(given, extractor.checkpoints)
    reasons = differences(said.identity, now)
    if reasons:
        raise UserError(f"stage {name!r} changed while it ran ({'; '.join(reasons)}); finished clips are kept, run the same line again")
    _agreed.add(state)
