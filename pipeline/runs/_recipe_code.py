"""The code that makes a run: a recipe's file, those of the models that it imports, and the machinery that trains them.

Each module is read once a process, as it was loaded: what is edited later is of the next process.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType

from pipeline import atomic, corpus, errors, extraction, machine, registry, types
from pipeline import cache as features
from pipeline.atomic import digest_of
from pipeline.cache.code import canonical, loaded
from pipeline.data import lacking
from pipeline.learning import epochs, training_processes
from pipeline.learning.recipe import Recipe
from pipeline.runs import journal, run_folder

PACKAGES = ("models", "pipeline")
OUTSIDE = tuple(
    module.__name__
    for module in (
        *(atomic, corpus, epochs, errors, extraction, features, journal),
        *(lacking, machine, registry, run_folder, training_processes, types),
    )
)
"""Machinery that changes no weights: what it brings (rows, labels, settings) stands in a run's identity by itself."""


def code_of(recipe: Recipe) -> dict[str, str]:
    """`{"models/lstm_late.py": hash, ..., "pipeline": hash}` of a recipe and those that it is made of, whatever in them is imported.

    Comments, docstrings, what a search may set, and in which modules of `pipeline` the machinery lives are no part of it.
    """
    found = {name: _read(name)[0] for name in _modules(recipe)}
    machinery = [name for name in found if name.startswith("pipeline.")]
    models = {f"{name.replace('.', '/')}.py": digest_of(sorted(found[name])) for name in sorted(found) if name not in machinery}
    return {**models, "pipeline": digest_of(sorted({said for name in machinery for said in found[name]}))}


def _modules(recipe: Recipe) -> set[str]:
    """Those of the recipe and its parts, and all from which these take names, at any depth."""
    found, waiting = set[str](), [type(recipe).__module__]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _read(name)[1]
    return found.union(*map(_modules, recipe.parts))


@cache
def _read(name: str) -> tuple[frozenset[str], tuple[str, ...]]:
    """Hashes of the statements of a module, and the modules of this project from which it takes names."""
    module = sys.modules[name]
    tree = _Counting().visit(ast.parse(loaded(Path(str(module.__file__)).resolve())))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    sources = {source for node in imports for source in _sources(node, module)}
    renamed = [[alias.name, alias.asname] for node in imports for alias in node.names if alias.asname]
    statements = [_Placeless().visit(ast.Module([statement], [])) for statement in tree.body]
    return frozenset(digest_of(said) for said in (*map(canonical, statements), *renamed)), tuple(sorted(sources))


def _sources(node: ast.ImportFrom, module: ModuleType) -> Iterator[str]:
    """The modules that count and hold the names which a statement of a module imports, also where a package passes them on."""
    whence = resolve_name("." * node.level + (node.module or ""), module.__package__)
    own = {*PACKAGES, module.__name__.partition(".")[0]}
    for alias in node.names if whence.partition(".")[0] in own else ():
        if not hasattr(importlib.import_module(whence), alias.name):
            importlib.import_module(f"{whence}.{alias.name}")
        brought = getattr(sys.modules[whence], alias.name)
        home = brought.__name__ if isinstance(brought, ModuleType) else str(getattr(brought, "__module__", ""))
        home = home if home.partition(".")[0] in own else whence
        if not any(f"{name}.".startswith(f"{outside}.") for name in (whence, home) for outside in OUTSIDE):
            yield home


class _Counting(ast.NodeTransformer):
    """A module without what is there for type checkers, and without what a search may set."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if isinstance(node.target, ast.Name) and node.target.id == "space" else node


class _Placeless(ast.NodeTransformer):
    """Statements without the lines that say in which modules of this project names live."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if str(node.module).partition(".")[0] in PACKAGES else node
