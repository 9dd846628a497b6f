"""The code of a stage or model as what Python runs of it: comments, docstrings, layout and places in `pipeline` do not count."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pipeline.atomic import digest_of
from pipeline.errors import UserError

STAGES, INIT = "stages", "__init__.py"
WATCHED = (STAGES, "models")
_sources: dict[Path, bytes] = {}
"""What this process has loaded of `stages` and `models`, by file."""


def code_hashes(
    file: str | Path, own_class: str = "", left_out: Container[str] = (), *, read: Callable[[Path], bytes] = Path.read_bytes
) -> dict[str, str]:
    """`{"stages/resnet50.py": hash}` of a file and of those of its outermost package and of `stages` that it imports, at any depth.

    The methods and values of attributes `left_out` of the class `own_class` in `file` do not count. Raises UserError for what is no Python.
    """
    first = Path(file).resolve()
    packages = _packages(first)
    top, own = _package_of(first, packages)
    found: dict[str, str] = {}
    waiting = [first, *_on_the_way(own, first.relative_to(own).parent.parts)]
    while waiting:
        path = waiting.pop(0)
        top, folder = _package_of(path, packages)
        name = Path(top, path.relative_to(folder)).as_posix()
        if name in found:
            continue
        tree = _parsed(path, name, read)
        for node in tree.body if path == first else ():
            if isinstance(node, ast.ClassDef) and node.name == own_class:
                node.body = [part for part in (_without_value(part, left_out) for part in node.body) if part]
        found[name] = digest_of(canonical(tree))
        waiting += _imported(tree, path, packages)
    asked = next(iter(found))
    return {name: digest for name, digest in sorted(found.items()) if digest != NOTHING or name == asked}


def _packages(file: Path) -> dict[str, Path]:
    """Folders by the names of packages: `stages`, and the outermost one that a file lies in; "" where it lies in none."""
    folder = file.parent
    while (folder.parent / INIT).is_file():
        folder = folder.parent
    is_package = folder not in {Path(place).resolve() for place in sys.path}
    stages = {STAGES: Path(sys.modules[STAGES].__path__[0]).resolve()} if STAGES in sys.modules else {}
    return {**stages, folder.name if is_package else "": folder}


def _package_of(file: Path, packages: Mapping[str, Path]) -> tuple[str, Path]:
    return next((name, folder) for name, folder in packages.items() if folder in file.parents)


def _parsed(path: Path, name: str, read: Callable[[Path], bytes]) -> ast.Module:
    try:
        return ast.parse(read(path))
    except (SyntaxError, ValueError, OSError) as error:
        where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise UserError(f"{name} cannot be read: {type(error).__name__}{where}: {error}; mend it, then run this again") from error


def _without_value(part: ast.stmt, names: Container[str]) -> ast.stmt | None:
    """A statement of a class body, without the value that it gives to one of `names`."""
    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name) and part.target.id in names:
        is_field = part.target.id not in ("version", "libraries", "after_items", "item_axes")
        return ast.AnnAssign(part.target, part.annotation, None, part.simple) if is_field else None
    if isinstance(part, ast.FunctionDef) and part.name in names:
        return None
    if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and part.targets[0].id in names:
        return None
    return part


def _imported(tree: ast.Module, file: Path, packages: Mapping[str, Path]) -> Iterator[Path]:
    """Files of these packages that run when what a file in one of them imports is imported."""
    own, folder = _package_of(file, packages)
    here = [own, *file.relative_to(folder).parent.parts]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) + 1 - node.level] if node.level else []
            base = [*base, *(node.module or "").split(".")] if node.module else base
            modules = [base, *([*base, alias.name] for alias in node.names)]
        else:
            continue
        for top, *rest in filter(None, modules):
            if top in packages:
                yield from _on_the_way(packages[top], rest)


def _on_the_way(package: Path, parts: Sequence[str]) -> Iterator[Path]:
    """The files that run when the module `parts` of `package` is imported: its own, and those of the packages that it lies in."""
    for depth in range(len(parts) + 1):
        folder = package.joinpath(*parts[:depth])
        yield from (file for file in (folder / INIT, folder.with_name(f"{folder.name}.py")) if file.is_file() and package in file.parents)


def canonical(node: Any) -> Any:
    """A syntax tree as JSON values without what does not count: comments, docstrings, layout, empty fields, places in `pipeline`.

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
    """A field's value without bare strings (docstrings) and without the empty constants that some versions keep in f-strings.

    Of statements, the names that imports from `pipeline` bring come first, wherever these imports stand.
    """
    if not isinstance(value, list):
        return value
    if isinstance(parent, ast.JoinedStr):
        return [item for item in value if not (isinstance(item, ast.Constant) and item.value == "")]
    brought = sorted(name for item in value for name in _brought(item))
    rest = [item for item in value if not _is_text_statement(item) and not _brought(item)]
    return [["pipeline", *brought], *rest] if brought else rest


def _brought(node: Any) -> list[list[str]]:
    """`[name, what it is called here]` of what an import from `pipeline` brings; the module that it comes from may move."""
    if isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").partition(".")[0] == "pipeline":
        return [[alias.name, alias.asname or alias.name] for alias in node.names]
    if isinstance(node, ast.Import) and all(alias.name.partition(".")[0] == "pipeline" for alias in node.names):
        return [["", alias.asname or "pipeline"] for alias in node.names]
    return []


def _is_text_statement(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


NOTHING = digest_of(canonical(ast.parse("")))
"""Of a file without code, as most `__init__.py` are."""


def loaded(file: Path) -> bytes:
    """The source of a file of `stages` or `models` as this process has loaded it; of others, and where it has not yet, as it is now."""
    return _sources.get(file) or file.read_bytes()


def loads() -> int:
    """How many files of `stages` and `models` this process has loaded."""
    return len(_sources)


class _Loader(SourceFileLoader):
    """Runs the source of a file, never a compiled copy, which may be of an older one, and remembers it."""

    def get_code(self, fullname: str) -> CodeType:
        source = _sources[Path(self.path).resolve()] = self.get_data(self.path)
        code: CodeType = self.source_to_code(source, self.path)
        return code


class _Finder:
    """Finds `stages` and `models` and what lies in them, for that loader."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name.partition(".")[0] in WATCHED else None
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
