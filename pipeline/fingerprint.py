"""The identity of a stage: everything that can change its numbers, and nothing else."""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version as library_version
from pathlib import Path
from typing import Any

from pipeline import weights
from pipeline.types import Extractor

NUMBERS_VERSION = 1
"""Raised when decoding or resizing in `pipeline` gives other numbers; golden rows in the tests guard it."""


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
        "code": _code_of(type(extractor)),
        "libraries": {name: library_version(name) for name in extractor.libraries},
        "numbers": NUMBERS_VERSION,
    }
    if "weights" in fields:
        identity["weights"] = weights.describe(fields.pop("weights"), extractor.checkpoints)
    if upstream is not None:
        identity["upstream"] = upstream
    identity["fields"] = fields
    return Fingerprint(identity, digest_of(identity))


def digest_of(value: Any) -> str:
    """16 hex digits of the SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
        if old.get(key) != new.get(key):
            yield key, old.get(key), new.get(key)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "none" if value is None else str(value)


def _code_of(stage: type[Extractor]) -> dict[str, str]:
    """The hashes of a stage's code without what its identity holds already: defaults of its fields, `version`, `libraries`."""
    return code_hashes(sys.modules[stage.__module__].__file__ or "", stage.__name__, {*stage.model_fields, "version", "libraries"})


def code_hashes(file: str | Path, own_class: str = "", left_out: Container[str] = ()) -> dict[str, str]:
    """`{"stages/resnet50.py": hash}` of a file and of the files of its own package that it imports, at any depth.

    The values of the attributes `left_out` of the class `own_class` in `file` do not count.
    """
    package = Path(file).resolve().parent
    found: dict[str, str] = {}
    waiting = [Path(file).resolve()]
    while waiting:
        path = waiting.pop()
        name = f"{package.name}/{path.relative_to(package).as_posix()}"
        if name not in found:
            tree = ast.parse(path.read_bytes())
            for node in tree.body if not found else ():
                if isinstance(node, ast.ClassDef) and node.name == own_class:
                    node.body = [part for part in (_without_value(part, left_out) for part in node.body) if part]
            found[name] = digest_of(canonical(tree))
            waiting += _siblings(tree, package)
    return dict(sorted(found.items()))


def _without_value(part: ast.stmt, names: Container[str]) -> ast.stmt | None:
    """A statement of a class body, without the value that it gives to one of `names`."""
    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.target.id in names:
        is_field = part.target.id not in ("version", "libraries")
        return ast.AnnAssign(part.target, part.annotation, None, part.simple) if is_field else None
    if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and part.targets[0].id in names:
        return None
    return part


def _siblings(tree: ast.Module, package: Path) -> Iterator[Path]:
    """Files of `package` that a file in it imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package.name if node.level else "", node.module) if part)
            modules = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for module in modules:
            top, _, rest = module.partition(".")
            file = package / (rest.replace(".", "/") + ".py")
            if top == package.name and rest and file.is_file():
                yield file


def canonical(node: Any) -> Any:
    """A syntax tree as JSON values without what does not count: comments, docstrings, layout, empty fields.

    Skipping empty fields makes Python 3.11 and 3.12 agree: 3.12 added fields that are empty in older sources.
    """
    if isinstance(node, ast.Constant):
        return ["Constant", type(node.value).__name__, repr(node.value)]
    if isinstance(node, ast.AST):
        parts = [[name, canonical(_counting(node, value))] for name, value in ast.iter_fields(node)]
        return [type(node).__name__, *(part for part in parts if part[1] not in (None, []))]
    if isinstance(node, list):
        return [canonical(item) for item in node]
    return node


def _counting(parent: ast.AST, value: Any) -> Any:
    """A field's value without bare strings (docstrings) and without the empty constants that some versions keep in f-strings."""
    if not isinstance(value, list):
        return value
    if isinstance(parent, ast.JoinedStr):
        return [item for item in value if not (isinstance(item, ast.Constant) and item.value == "")]
    return [item for item in value if not _is_text_statement(item)]


def _is_text_statement(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
