"""Where features lie and who uses them: names, stages, identities, runs, and the lock that every writer of a stage takes."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError, did_you_mean

DIGEST = re.compile(r"[0-9a-f]{16}")
RUNS, PUBLISHED, ASIDE = "runs", "published.json", "damaged"


def datasets(home: Home) -> list[str]:
    """Every name that has a folder of features."""
    return [name for name in _folders(home.cache) if name != RUNS and stages(home, name)]


def stages(home: Home, dataset: str) -> list[str]:
    """Every stage of a name of which anything lies in the cache."""
    folder = home.cache / dataset
    return [name for name in _folders(folder) if (folder / name / PUBLISHED).exists() or identities(home, dataset, name)]


def identities(home: Home, dataset: str, stage: str) -> list[str]:
    """The digests of a stage that have a folder."""
    return [name for name in _folders(home.cache / dataset / stage) if DIGEST.fullmatch(name)]


def _folders(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and not entry.name.startswith("."))


def chosen(home: Home, dataset: str | None, stage: str | None) -> list[tuple[str, str]]:
    """The (name, stage) pairs that a command is about; raises UserError where there is none."""
    known = datasets(home)
    if dataset is None:
        return [(name, each) for name in known for each in stages(home, name)]
    if dataset not in known:
        listed = ", ".join(known) or "none"
        raise UserError(f"no features of {dataset!r} lie in {home.cache}{did_you_mean(dataset, known)} Known: {listed}")
    found = stages(home, dataset)
    if stage is None:
        return [(dataset, each) for each in found]
    if stage not in found:
        raise UserError(f"no features of {dataset}/{stage} lie in {home.cache}{did_you_mean(stage, found)} Known: {', '.join(found)}")
    return [(dataset, stage)]


def size_of(path: Path) -> int:
    """Bytes in a file, or in all the files below a folder."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


@dataclass
class Uses:
    """Which runs read an identity; of names in `unknown` a damaged run folder leaves it open."""

    by_digest: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unknown: dict[str, Path] = field(default_factory=dict)

    def of(self, dataset: str, digest: str) -> list[str]:
        """The runs, as `lstm_late/4be1...`."""
        return self.by_digest.get((dataset, digest), [])


def uses(home: Home) -> Uses:
    """What every run folder says that it was trained on."""
    found, root = Uses(), home.cache / RUNS
    for path in sorted(root.rglob("run.json")):
        dataset, *rest = path.parent.relative_to(root).parts
        try:
            stages_read = json.loads(path.read_bytes())["stages"]
            digests = {str(said["digest"]) for said in stages_read.values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            found.unknown.setdefault(dataset, path)
            continue
        for digest in digests:
            found.by_digest.setdefault((dataset, digest), []).append("/".join(rest))
    return found
