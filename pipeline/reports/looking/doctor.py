"""What this machine has and lacks: Python, libraries, devices, decoders, weights, room and rights; each lack with how to mend it."""

from __future__ import annotations

import importlib
import os
import platform
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pipeline import registry
from pipeline.cache.features import Features
from pipeline.cache.provenance import given, origins_of, tale
from pipeline.cache.stage import Published, published
from pipeline.corpus.manifest import CHECKOUT, Home
from pipeline.errors import UserError
from pipeline.machine import cores, free_bytes, shown_size

State = Literal["ok", "note", "missing"]
LEAST_FREE = 1 << 30
PYTHONS = ((3, 11), (3, 12))
INSTALL = "make setup"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: `missing` is needed, `note` is not; `remedy` says how to get it."""

    state: State
    what: str
    detail: str
    remedy: str = ""


def examine(home: Home) -> list[Finding]:
    """Everything, in the order in which it matters."""
    return [*_python(), *_libraries(), *_devices(), *_decoders(), *_stages(), *_weights(), *_features(home), *_places(home)]


def _python() -> Iterator[Finding]:
    found = platform.python_version()
    fits = sys.version_info[:2] in PYTHONS
    yield Finding("ok" if fits else "missing", "python", f"{found} at {sys.executable}", "" if fits else "install Python 3.11 or 3.12")


def requirements(file: Path = CHECKOUT / "pyproject.toml") -> list[str]:
    """What the project asks of its environment, as its `pyproject.toml` says it."""
    project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
    return [str(line) for line in project["dependencies"]]


def _libraries() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    for line in requirements():
        asked = Requirement(line)
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            found = version(asked.name)
        except PackageNotFoundError:
            yield Finding("missing", asked.name, f"not installed; wanted: {asked}", INSTALL)
            continue
        fits = asked.specifier.contains(found, prereleases=True)
        yield Finding("ok" if fits else "missing", asked.name, found if fits else f"{found}; wanted: {asked}", "" if fits else INSTALL)


def _devices() -> Iterator[Finding]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    yield Finding("ok", "cpu", f"{cores()} cores, {shown_size(memory)} memory")
    try:
        import torch

        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    except Exception as error:  # a broken installation may raise anything
        yield Finding("missing", "torch", f"cannot be imported: {error}", INSTALL)
        return
    if names:
        yield Finding("ok", "cuda", ", ".join(names))
    else:
        yield Finding("note", "cuda", "no device: everything runs on the CPU")


def _decoders() -> Iterator[Finding]:
    for name, state, remedy in (("av", "missing", INSTALL), ("decord", "note", "PyAV decodes everything where decord has no wheel")):
        try:
            importlib.import_module(name)
            yield Finding("ok", f"decoder {name}", "can be imported")
        except Exception as error:  # as above
            yield Finding("missing" if state == "missing" else "note", f"decoder {name}", f"cannot be imported: {error}", remedy)


def _stages() -> Iterator[Finding]:
    for kind in ("stage", "model", "dataset", "store", "format"):
        broken = {}
        names = registry.names(kind)
        for name in names:
            try:
                registry.find(kind, name)
            except Exception as error:  # a file that somebody is writing may raise anything
                broken[name] = error
        yield Finding("ok", f"{kind}s", ", ".join(name for name in names if name not in broken))
        for name, why in broken.items():
            yield Finding("note", f"{kind} {name}", f"{type(why).__name__}: {why}", f"mend or remove {registry.place(kind, name)}")


def hub_folder() -> Path:
    """Where torch keeps downloaded checkpoints."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return Path(os.environ.get("TORCH_HOME", cache / "torch")).expanduser() / "hub" / "checkpoints"


def _weights() -> Iterator[Finding]:
    """Of each stage whose default weights are a published checkpoint: whether the file is there."""
    folder = hub_folder()
    files = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    for name in registry.names("stage"):
        try:
            found = registry.find("stage", name)
        except Exception:  # noqa: S112  # said by _stages
            continue
        field = found.model_fields.get("weights")
        wanted = found.checkpoints.get(field.default) if field else None
        if wanted is None:
            continue
        file = next((each for each in files if str(wanted)[:8] in each), None)
        if file:
            yield Finding("ok", f"weights of {name}", f"{field.default}: {folder / file}")
        else:
            yield Finding(
                "note",
                f"weights of {name}",
                f"{field.default} is not in {folder}",
                f"the first extraction downloads it; without network copy the file there, or extract with --set {name}.weights=FILE",
            )


def _features(home: Home) -> Iterator[Finding]:
    """Of everything published whose rows go through weights: who trained these, on what."""
    for place in sorted(home.cache.glob("*/*/published.json")):
        dataset, name = place.parts[-3:-1]
        said = published(home, dataset, name)
        yield from _given(home, dataset, name, said) if said else ()
        for origin in origins_of(home, dataset, name, said.digest, said.identity) if said else ():
            is_known = origin.story is not None or not origin.phrase.endswith("unknown")
            yield Finding(
                "ok" if is_known else "note", f"{dataset}/{name}", f"{origin.stage}: " + "; ".join(map(str.strip, tale(home, origin)))
            )


def _given(home: Home, dataset: str, name: str, said: Published) -> Iterator[Finding]:
    """Of published rows that a colleague pushed, who did."""
    try:
        yield from [Finding("ok", f"{dataset}/{name}", line) for line in given(Features(home, dataset, name, said))]
    except (UserError, FileNotFoundError) as error:
        yield Finding("note", f"{dataset}/{name}", f"its rows cannot be read: {error}", f"see: signcache verify {dataset} {name}")


def _places(home: Home) -> Iterator[Finding]:
    for what, folder in (("cache", home.cache), ("manifests", home.manifests)):
        place = next(each for each in [folder, *folder.parents] if each.exists())
        try:
            with tempfile.NamedTemporaryFile(dir=place):
                pass
        except OSError as error:
            yield Finding(
                "missing", what, f"{place} cannot be written to: {error.strerror}", f"choose another folder: signcache --{what} DIR"
            )
            continue
        free = free_bytes(place)
        full = free < LEAST_FREE
        remedy = f"see: signcache gc, or choose another folder: signcache --{what} DIR" if full else ""
        yield Finding("missing" if full else "ok", what, f"{folder}, {shown_size(free)} free", remedy)
