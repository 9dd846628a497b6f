"""Finds stages, models, corpora, stores and formats by name: the word you type is the file that is opened, or a package's."""

from __future__ import annotations

import importlib
import pkgutil
import typing
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from pipeline.errors import UserError, did_you_mean

Kind = Literal["stage", "model", "dataset", "store", "format", "segmenter"]
PACKAGES: Mapping[Kind, str] = {
    "stage": "stages",
    "model": "models",
    "dataset": "pipeline.datasets",
    "store": "pipeline.cache.stores",
    "format": "pipeline.formats",
    "segmenter": "pipeline.spotting.segmenters",
}


def names(kind: Kind) -> list[str]:
    """Every name of a kind, sorted: one a file of its folder, where `_name.py` is a part of others, and those that installed packages add.

    Raises UserError where a name stands twice.
    """
    package = importlib.import_module(PACKAGES[kind])
    files = {module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")}
    points = _installed(kind)
    for name in files & points.keys():
        raise _twice(kind, name, _file(kind, name), points[name])
    return sorted(files | points.keys())


_entry_points = cache(entry_points)


@cache
def _installed(kind: Kind) -> Mapping[str, str]:
    """`{name: "package.module" or "package.module:object"}` of packages with an entry point in the group `signcache.stages`, say."""
    found: dict[str, str] = {}
    for point in _entry_points().select(group=f"signcache.{kind}s"):
        if point.name in found:
            raise _twice(kind, point.name, found[point.name], point.value)
        found[point.name] = point.value
    return found


def _twice(kind: Kind, name: str, one: str, other: str) -> UserError:
    return UserError(f"two {kind}s are called {name!r}: {one} and {other}; rename one, or uninstall its package")


def _file(kind: Kind, name: str) -> str:
    return f"{PACKAGES[kind].replace('.', '/')}/{name}.py"


def place(kind: Kind, name: str) -> str:
    """Where a name is registered: `stages/resnet50.py`, or the entry point of a package."""
    return _installed(kind).get(name) or _file(kind, name)


def find(kind: Kind, name: str) -> Any:
    """What the last line of the file registers: a class of stages and models, an object of corpora, stores and formats."""
    known = names(kind)
    where = place(kind, name)
    if name not in known:
        raise UserError(f"no {kind} called {name!r}{did_you_mean(name, known)} Known: {', '.join(known)}. A new one is one file: {where}")
    path, _, attribute = (where if name in _installed(kind) else f"{PACKAGES[kind]}.{name}").partition(":")
    try:
        module = importlib.import_module(path)
    except Exception as error:  # a file that somebody is editing may raise anything
        line = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{where} cannot be imported: {type(error).__name__}{line}: {error}; mend it, then run this again") from error
    if not hasattr(module, attribute or kind):
        raise UserError(f"{module.__file__} registers no {attribute or kind}; its last line is to be `{attribute or kind} = ...`")
    return getattr(module, attribute or kind)


def create(kind: Kind, name: str, fields: Mapping[str, Any] | None = None) -> Any:
    """The stage or model with these fields (text is read as the field's type), or the corpus or store itself."""
    found = find(kind, name)
    if not isinstance(found, type):
        return found
    fields = dict(fields or {})
    model: type[BaseModel] = found
    known = list(model.model_fields)
    for field in fields:
        if field not in known:
            raise UserError(f"{kind} {name!r} has no field {field!r}{did_you_mean(field, known)} Fields: {', '.join(known)}")
    try:
        return found(**{field: _typed(found, field, value) for field, value in fields.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "fields"
        raise UserError(f"{kind} {name!r}: {where}={first['input']!r}: {first['msg']}") from error


def _typed(model: type[BaseModel], field: str, value: Any) -> Any:
    """Text from a command line as its field takes it: `a,b` for a sequence, `none` where None is allowed, one of the literal values."""
    if not isinstance(value, str):
        return value
    annotation = model.model_fields[field].annotation
    parts = {annotation, *typing.get_args(annotation)}
    if value.lower() == "none" and type(None) in parts:
        return None
    if any(typing.get_origin(part) in (tuple, list) for part in parts):
        return [word.strip() for word in value.split(",") if word.strip()]
    literals = [option for part in parts if typing.get_origin(part) is Literal for option in typing.get_args(part)]
    return next((option for option in literals if str(option) == value), value)
