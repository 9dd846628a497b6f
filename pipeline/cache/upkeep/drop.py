"""A name's features removed on purpose, with what is known of who used them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.cache.locking import LOCK, locked_wholly
from pipeline.cache.publishing import lengths_path
from pipeline.cache.stage import published, published_names
from pipeline.cache.upkeep.garbage import delete
from pipeline.cache.upkeep.places import PUBLISHED, chosen, identities, size_of, uses
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError


@dataclass(frozen=True, slots=True)
class Dropped:
    """One stage of a name: its bytes, identities, the runs trained on them, and the published stages that derive from it."""

    stage: str
    size: int
    identities: tuple[str, ...]
    runs: tuple[str, ...]
    derived: tuple[str, ...]


def drop(home: Home, dataset: str, stage: str | None, *, yes: bool) -> list[Dropped]:
    """What of a name goes, or with `yes` has gone: features and length manifests; the sample manifest and runs stay.

    Raises UserError while an extraction of any of its stages is running.
    """
    names = [each for _, each in chosen(home, dataset, stage)]
    known = uses(home)
    with locked_wholly(home, dataset):  # a derived stage may be reading
        found = []
        for name in names:
            digests = identities(home, dataset, name)
            runs = sorted({run for digest in digests for run in known.of(dataset, digest)})
            size = size_of(home.cache / dataset / name)
            derived = [each for each in _derived(home, dataset, name) if each not in names]
            found.append(Dropped(name, size, tuple(digests), tuple(runs), tuple(derived)))
        for name in names if yes else ():
            _delete(home.cache / dataset / name)
            lengths_path(home, dataset, name).unlink(missing_ok=True)
    return found


def _derived(home: Home, dataset: str, name: str) -> list[str]:
    """Published stages whose rows were made from this one's."""
    try:
        said = published(home, dataset, name)
        others = {each: published(home, dataset, each) for each in published_names(home, dataset)}
    except UserError:
        return []
    if said is None:
        return []
    return [each for each, other in others.items() if other and other.identity.get("upstream") == said.digest]


def _delete(folder: Path) -> None:
    """Everything but the lock that is held: what is published first, so that a kill in between leaves none of it."""
    (folder / PUBLISHED).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name != LOCK:
            delete(path)
