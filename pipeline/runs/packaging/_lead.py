"""What `package.json` says, and which files a package holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.atomic import sha256, unseal
from pipeline.corpus.manifest import checked_name
from pipeline.errors import NewerFormat, UserError
from pipeline.runs import run_folder
from pipeline.runs.packaging import _archive

FORMAT = 1
PACKAGE, RUNS, STAGES = "package.json", "runs", "stages"


class Identity(BaseModel):
    """That of a stage: see `pipeline.cache.identity`."""

    model_config = ConfigDict(extra="allow")

    fields: dict[str, Any]
    code: dict[str, str]
    libraries: dict[str, str]
    weights: dict[str, Any] | None = None


class PackedStage(BaseModel):
    """A stage that a package's model reads, or that one of these derives from."""

    name: str
    kind: str
    fields: dict[str, Any]
    upstream: str | None
    weights: str = ""
    """Their file, where they are no published ones and no random ones."""
    identity: Identity
    digest: str


class Lead(BaseModel):
    """`package.json`."""

    format: int
    signcache: str
    """The version that made it."""
    run: str
    dataset: str
    model: str
    classes: list[str]
    """Those that it may say."""
    reads: list[str]
    """Names of the stages that the model reads."""
    stages: list[PackedStage]
    """Each after the one that it derives from."""
    endings: dict[str, list[str]]
    licence: str
    files: dict[str, str]
    """SHA-256 of every file that labels depend on."""


def read(folder: Path) -> Lead:
    """Raises UserError where a package is of a newer format, is damaged, or names what is no part of it."""
    path = folder / PACKAGE
    try:
        content = unseal(path.read_bytes())
        if content["format"] > FORMAT:
            raise NewerFormat(path, content["format"], FORMAT)
        lead = Lead.model_validate(content)
        for name in (lead.dataset, lead.run, *lead.reads, *(stage.name for stage in lead.stages)):
            checked_name(name)
        for name, digest in lead.files.items():
            _refuse_other(folder, name, digest)
        if strange := {path.relative_to(folder).as_posix() for path in leading(folder)} ^ lead.files.keys():
            raise ValueError(f"{min(strange)} is not what was packaged")
        if f"{RUNS}/{lead.run}/{run_folder.RECORD}" not in lead.files:
            raise ValueError("it holds no run")
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"the package {folder} is damaged ({reason}); get it anew") from error
    return lead


def leading(folder: Path) -> list[Path]:
    """The files that labels depend on."""
    return sorted(path for part in (RUNS, STAGES) for path in (folder / part).rglob("*") if path.is_file())


def _refuse_other(folder: Path, name: str, digest: str) -> None:
    """Raise where a file of a package lies elsewhere, or is not what was packaged."""
    file = folder / name
    if not _archive.is_below(name) or not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"the package {folder} names {name!r}, which lies outside of it; do not use it")
    if sha256(file) != digest:
        raise ValueError(f"{name} is not what was packaged")
