"""Published features as files for other programs, in any format that is written."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline import atomic, registry
from pipeline.cache.publishing import Features
from pipeline.corpus.manifest import Manifest
from pipeline.errors import UserError
from pipeline.formats._clips import Format, Outgoing
from pipeline.machine import free_bytes, shown_size


@dataclass(frozen=True)
class Exported:
    """What was written: clips, bytes, and the clips of the manifest that have no features."""

    clips: int
    size: int
    missing: tuple[str, ...]


def export(table: Manifest, features: Features, out: Path, form: str) -> Exported:
    """Write the features of every clip that has some to `out`, which appears when it is complete.

    Raises UserError where `out` exists or the disk has no room.
    """
    found: Format = registry.create("format", form)
    if found.write is None:
        raise UserError(f"{form!r} is read by `signcache import` only; what is written: {', '.join(writable())}")
    samples = [sample for sample in table.samples if sample.id in features]
    missing = tuple(sample.id for sample in table.samples if sample.id not in features)
    source = Outgoing(table, features, samples)
    _room(source, out, form)
    with _appearing(out) as temporary:
        found.write(source, temporary)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    return Exported(len(samples), size, missing)


def writable() -> list[str]:
    """The formats that are written."""
    return [name for name in registry.names("format") if registry.find("format", name).write]


def _room(source: Outgoing, out: Path, form: str) -> None:
    rows = source.shape[0] * source.shape[1] if form in ("zarr", "hdf5") else int(source.lengths.sum())
    needed = 0 if form == "lengths" else rows * source.features.row_bytes
    free = free_bytes(out)
    if needed > free:
        raise UserError(f"{out} needs {shown_size(needed)} and {shown_size(free)} are free there; choose another place")


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A place beside `out` that is renamed to it at the end, or removed."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} exists already; remove it or choose another place")
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if out.is_dir():
            out.rmdir()
        os.replace(temporary, out)
        atomic.sync(out.parent)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        elif temporary.exists():
            temporary.unlink()
