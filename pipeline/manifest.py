"""Sample manifests: which clips a name stands for, with their labels, splits and signers, bound to a root and a seed."""

from __future__ import annotations

import csv
import gc
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import atomic, clip_table, registry
from pipeline.errors import UserError, did_you_mean
from pipeline.fingerprint import digest_of
from pipeline.media import exists
from pipeline.splits import assign, declared, describe
from pipeline.types import SPLITS, Dataset, Grouping, Sample, Split

CHECKOUT = Path(__file__).resolve().parents[1]
FORMAT = 1
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Home:
    """Where tables and features live: the checkout's folders, wherever the command is started."""

    cache: Path = CHECKOUT / "cache"
    manifests: Path = CHECKOUT / "manifests"


@dataclass(frozen=True)
class Binding:
    """What a name stands for: corpus, root, how it is split, and the seed of that."""

    corpus: str
    root: Path
    split: str
    seed: int


@dataclass(frozen=True)
class Manifest:
    """The clips of a name, in a stable order; `classes[i]` is the label of class index `i`."""

    name: str
    binding: Binding
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]

    @property
    def dataset(self) -> Dataset:
        """The corpus, as its file registers it."""
        dataset: Dataset = registry.create("dataset", self.binding.corpus)
        return dataset

    @cached_property
    def digest(self) -> str:
        """Changes with any clip, label, split, signer or class."""
        rows = [[s.id, s.label, s.split, s.signer, [[m, *paths] for m, paths in sorted(s.media.items())]] for s in self.samples]
        return digest_of([self.classes, rows])

    @property
    def class_index(self) -> Mapping[str, int]:
        return {label: i for i, label in enumerate(self.classes)}

    @property
    def grouped_by(self) -> str:
        """What a group is, in a word of the corpus; `clip` where it declares none."""
        return declared((), self.binding.split, groupings(self.dataset))[0]

    @cached_property
    def groups(self) -> Mapping[str, str]:
        """`{id: group}`: what the corpus says belongs together, which folds and cuts keep together where signers are unknown."""
        return declared(self.samples, self.binding.split, groupings(self.dataset))[1]

    @cached_property
    def ids(self) -> list[str]:
        return [sample.id for sample in self.samples]

    @cached_property
    def places(self) -> Mapping[str, int]:
        """`{id: place}` in `samples`."""
        return {clip: place for place, clip in enumerate(self.ids)}

    def places_of(self, ids: list[str]) -> NDArray[np.int64]:
        """`(ids,)` the place of each in `samples`, -1 where it is none of them."""
        clips = len(self.ids)
        if ids[:clips] == self.ids and not any(ids[clips:]):  # as the last publication had them; what no clip has comes last
            return np.concatenate([np.arange(clips), np.full(len(ids) - clips, -1)])
        return np.fromiter(map(self.places.get, ids, repeat(-1)), np.int64, len(ids))

    def paths(self, sample: Sample, modality: str) -> tuple[Path, ...]:
        """The files of one modality; empty where the clip has none."""
        return tuple(self.binding.root / part for part in sample.media.get(modality, ()))


def checked_name(name: str) -> str:
    """The name itself; raises UserError where it cannot be a folder's."""
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} cannot name a data set or a stage: use letters, digits, '_', '-' and '.'")
    return name


@contextmanager
def _without_collection() -> Iterator[None]:
    """Millions of samples hold no cycles; looking for some again and again while they are made takes a third of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_without_collection()
def bind(home: Home, name: str, **asked: Any) -> Manifest:
    """List the root of `name` again, write its manifest where it changed, and return it.

    `asked` may hold corpus, root, split and seed; what is None stays as bound, or is the corpus' default.
    Raises UserError where they contradict the binding, or where the root does not hold the corpus.
    """
    old = read(home, name, clips=False) if _table(home, checked_name(name)).exists() else None
    binding = _rebound(name, old.binding, asked) if old else _first_binding(name, asked)
    dataset: Dataset = registry.create("dataset", binding.corpus)
    found = sorted(_checked(dataset.samples(binding.root), binding.root), key=attrgetter("id"))
    if not found:
        raise UserError(f"no clips of corpus {binding.corpus!r} below {binding.root}; expected there: {dataset.layout}")
    labels = {sample.label for sample in found if sample.label is not None}
    known = _splits(home, old) if old else {}
    split, samples = assign(found, binding.split, binding.seed, known, groupings(dataset))
    classes = tuple(dataset.classes(labels | set(old.classes if old else ())))
    manifest = Manifest(name, replace(binding, split=split), classes, tuple(samples))
    if old is None or (old.binding, old.classes) != (manifest.binding, manifest.classes) or not _is_written(home, manifest):
        _write(home, manifest)
    return manifest


def _first_binding(name: str, asked: Mapping[str, Any]) -> Binding:
    corpus = asked.get("corpus") or name
    known = registry.names("dataset")
    if corpus not in known:
        hint = "" if asked.get("corpus") else f"bind it first: signcache manifest {name} --corpus folder --root DIR"
        raise UserError(f"no corpus called {corpus!r}{did_you_mean(corpus, known)} Known: {', '.join(known)}. {hint}".rstrip())
    root = Path(asked.get("root") or CHECKOUT / "data" / name).expanduser().absolute()
    return Binding(corpus, root, asked.get("split") or "", asked.get("seed") or 0)


def _rebound(name: str, old: Binding, asked: Mapping[str, Any]) -> Binding:
    """Another root rebinds; another corpus, split or seed would change what was trained, so it is refused."""
    for key in ("corpus", "split", "seed"):
        if asked.get(key) is not None and asked[key] != getattr(old, key):
            options = {"corpus": old.corpus, "root": asked.get("root") or old.root, key: asked[key]}
            example = " ".join(f"--{option} {value}" for option, value in options.items())
            raise UserError(
                f"{name!r} is bound with {key} {getattr(old, key)!r}, not {asked[key]!r}; use another name, as in: "
                f"signcache manifest {name}2 {example}"
            )
    return replace(old, root=Path(asked["root"]).expanduser().absolute()) if asked.get("root") else old


def _checked(samples: Iterable[Sample], root: Path) -> Iterator[Sample]:
    seen: dict[str, Sample] = {}
    for sample in samples:
        if seen.setdefault(sample.id, sample) is not sample:
            files = [", ".join(part for paths in s.media.values() for part in paths) for s in (seen[sample.id], sample)]
            raise UserError(f"two clips below {root} have the id {sample.id!r}: {files[0]} and {files[1]}; rename one of them")
        for paths in sample.media.values():
            for part in paths:
                if part.startswith("/") or (".." in part and ".." in part.split("/")):
                    raise UserError(f"clip {sample.id!r} names the file {part!r}, which is not below its root {root}")
        yield sample


def groupings(dataset: Dataset) -> Mapping[str, Grouping]:
    """What a corpus declares that belongs together, by its word for `--split`."""
    found: Mapping[str, Grouping] = getattr(dataset, "groupings", {})
    return found


def missing_files(manifest: Manifest) -> list[str]:
    """Expected files that are not there, in the order of the clips."""
    parts = (part for sample in manifest.samples for paths in sample.media.values() for part in paths)
    return [part for part in parts if not exists(manifest.binding.root / part)]


def summary(manifest: Manifest) -> str:
    """`90 clips, 9 classes, train 72, val 9, test 9 (stratified), rgb 90`."""
    media: dict[str, int] = {}
    for sample in manifest.samples:
        for modality in sample.media:
            media[modality] = media.get(modality, 0) + 1
    counts = ", ".join(f"{modality} {count}" for modality, count in media.items())
    parts = f"{describe(manifest.samples)} ({manifest.binding.split})"
    return f"{len(manifest.samples)} clips, {len(manifest.classes)} classes, {parts}, {counts}"


def _table(home: Home, name: str) -> Path:
    return home.manifests / f"{name}.json"


@_without_collection()
def read(home: Home, name: str, *, clips: bool = True) -> Manifest:
    """The manifest as last written, or only what it is bound to, without `clips`.

    Raises UserError where the name is not bound or its tables are damaged.
    """
    path = _table(home, checked_name(name))
    if not path.exists():
        raise UserError(f"{name!r} is not bound yet; run: signcache manifest {name}")
    with _damage(home, name):
        bound = json.loads(path.read_bytes())
        if bound["format"] > FORMAT:
            raise UserError(f"{path} has format {bound['format']}, this signcache reads up to {FORMAT}: install a newer signcache")
        binding = Binding(bound["corpus"], Path(bound["root"]), bound["split"], bound["seed"])
        with clip_table.opened(path.with_suffix(".csv")) as (columns, rows):
            samples = tuple(_checked(clip_table.samples_of(columns, rows), binding.root)) if clips else ()
        return Manifest(name, binding, tuple(bound["classes"]), samples)


@contextmanager
def _damage(home: Home, name: str) -> Iterator[None]:
    """What damaged tables make their readers raise, in one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        path = _table(home, name)
        raise UserError(f"the manifest of {name!r} is damaged ({error}); delete {path} and run: signcache manifest {name}") from error


def _splits(home: Home, old: Manifest) -> dict[str, Split]:
    """`{id: split}` as last written."""
    known: dict[str, Split] = {split: split for split in SPLITS}
    with _damage(home, old.name), clip_table.opened(_table(home, old.name).with_suffix(".csv")) as (columns, rows):
        clip, split = (columns.index(name) for name in ("id", "split"))
        return {row[clip]: known[row[split]] for row in rows}


def _is_written(home: Home, manifest: Manifest) -> bool:
    """Whether the table holds exactly these clips."""
    with open(_table(home, manifest.name).with_suffix(".csv"), "rb") as file:
        return all(file.read(len(block)) == block for block in clip_table.pieces(manifest.samples)) and not file.read(1)


def _write(home: Home, manifest: Manifest) -> None:
    """The table first, then the binding: a name exists when its `.json` does."""
    path = _table(home, manifest.name)
    atomic.replace(path.with_suffix(".csv"), b"".join(clip_table.pieces(manifest.samples)))
    bound = manifest.binding
    content = {"format": FORMAT, "corpus": bound.corpus, "root": str(bound.root), "split": bound.split, "seed": bound.seed}
    atomic.replace(path, json.dumps({**content, "digest": manifest.digest, "classes": manifest.classes}, indent=1).encode())
