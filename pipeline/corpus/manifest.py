"""Sample manifests: which clips a name stands for, with their labels, splits and signers, bound to a root and a seed."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.atomic import digest_of
from pipeline.corpus import _binding, clip_table
from pipeline.corpus._binding import CHECKOUT as CHECKOUT
from pipeline.corpus._binding import PREDICTED as PREDICTED
from pipeline.corpus._binding import Binding as Binding
from pipeline.corpus._binding import Bound
from pipeline.corpus._listing import checked as checked
from pipeline.corpus._listing import listed, with_media
from pipeline.corpus._listing import without_lacked as without_lacked
from pipeline.corpus.intervals import parted
from pipeline.corpus.media import exists
from pipeline.corpus.splits import Words, assign, declared, describe
from pipeline.errors import UserError
from pipeline.types import Dataset, Grouping, Sample

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Home:
    """Where tables and features live: the checkout's folders, wherever the command is started."""

    cache: Path = CHECKOUT / "cache"
    manifests: Path = CHECKOUT / "manifests"

    @classmethod
    def at(cls, cache: Path | str | None, manifests: Path | str | None) -> Home:
        """These folders; in place of none, the checkout's."""
        default = cls()
        return cls(Path(cache or default.cache), Path(manifests or default.manifests))


@dataclass(frozen=True)
class Manifest:
    """The clips of a name, in a stable order; `classes[i]` is the label of class index `i`.

    `away` are those that were listed before and are not there now, each with the split that it keeps, without files.
    """

    name: str
    binding: Binding
    classes: tuple[str, ...]
    samples: tuple[Sample, ...]
    away: tuple[Sample, ...] = ()
    listed: tuple[str, ...] = field(default=(), compare=False)

    @property
    def dataset(self) -> Dataset:
        """The corpus, as its file registers it."""
        dataset: Dataset = registry.create("dataset", self.binding.corpus)
        return dataset

    @property
    def may_lack(self) -> frozenset[str]:
        """The modalities that a clip may be without, as the corpus declares or the name was told."""
        return frozenset({*getattr(self.dataset, "may_lack", ()), *self.binding.may_lack})

    def lacking(self, modality: str) -> frozenset[str]:
        """The clips without media of a modality that clips may lack."""
        return frozenset(s.id for s in self.samples if modality not in s.media) if modality in self.may_lack else frozenset()

    @cached_property
    def digest(self) -> str:
        """Changes with any clip, label, split, signer or class."""
        rows = [[s.id, s.label, s.split, s.signer, [[m, *paths] for m, paths in sorted(s.media.items())]] for s in self.samples]
        return digest_of([self.classes, rows])

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """What clips have media of, each or some, as far as it is known where they were not read."""
        return tuple(sorted({modality for sample in self.samples for modality in sample.media})) or self.listed

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

    `asked` may hold corpus, root, split, seed and may_lack; what is None stays as bound, or is the corpus' default.
    Raises UserError where they contradict the binding, or where the root does not hold the corpus.
    """
    file = _file(home, name)
    old = _binding.read(file)
    now = _binding.rebound(name, old.binding, asked) if old else _binding.first(name, asked)
    dataset: Dataset = registry.create("dataset", now.corpus)
    before, known = (chain(_binding.samples(file, old, files=False), old.away), old.classes) if old else ((), ())
    may_lack = {*getattr(dataset, "may_lack", ()), *now.may_lack}
    there = without_lacked(with_media(dataset.samples(now.root), now.root, asked.get("may_lack") or ()), now.root, may_lack)
    clips = listed(there, now.root, before, known)
    if not clips.found:
        raise UserError(f"no clips of corpus {now.corpus!r} below {now.root}; expected there: {dataset.layout}")
    split, samples = assign(clips.found, now.split, now.seed, clips.known, Words.of(dataset), away=clips.away)
    classes = _classes(dataset, {sample.label for sample in samples if sample.label is not None}, known)
    manifest = Manifest(name, replace(now, split=split), classes, tuple(samples), clips.away)
    write(home, manifest)
    return manifest


def write(home: Home, manifest: Manifest) -> None:
    """Bring the manifest to the disk where it differs from what lies there."""
    file = _file(home, manifest.name)
    bound = Bound(manifest.binding, manifest.classes, manifest.away, clip_table.digest(manifest.samples), manifest.modalities)
    if not _binding.is_written(file, bound):
        _binding.write(file, bound, manifest.samples)


def _classes(dataset: Dataset, labels: set[str], before: Sequence[str]) -> tuple[str, ...]:
    """Labels in class order, those that no clip has any more among them; of two names of one class the one that clips have."""
    with suppress(UserError):
        return tuple(dataset.classes(labels | set(before)))
    fitting = set(labels)
    for label in before:
        with suppress(UserError):
            dataset.classes({*labels, label})
            fitting.add(label)
    return tuple(dataset.classes(fitting))


def groupings(dataset: Dataset) -> Mapping[str, Grouping]:
    """What a corpus declares that belongs together, by its word for `--split`."""
    return Words.of(dataset).groupings


def missing_files(manifest: Manifest) -> list[str]:
    """Expected files that are not there, in the order of the clips, each once."""
    parts = (part for sample in manifest.samples for paths in sample.media.values() for part in paths)
    return list(dict.fromkeys(parted(part)[0] for part in parts if not exists(manifest.binding.root / part)))


def summary(manifest: Manifest) -> str:
    """`90 clips, 9 classes, train 72, val 9, test 9 (stratified), rgb 90`."""
    media: dict[str, int] = {}
    for sample in manifest.samples:
        for modality in sample.media:
            media[modality] = media.get(modality, 0) + 1
    counts = ", ".join(f"{modality} {count}" for modality, count in media.items())
    parts = f"{describe(manifest.samples)} ({manifest.binding.split})"
    return f"{len(manifest.samples)} clips, {len(manifest.classes)} classes, {parts}, {counts}"


def _file(home: Home, name: str) -> Path:
    return home.manifests / f"{checked_name(name)}.json"


def is_bound(home: Home, name: str) -> bool:
    """Whether the name stands for a corpus already."""
    return _binding.read(_file(home, name)) is not None


@_without_collection()
def read(home: Home, name: str, *, clips: bool = True) -> Manifest:
    """The manifest as last written, or only what it is bound to, without `clips`.

    Raises UserError where the name is not bound or its tables are damaged.
    """
    file = _file(home, name)
    bound = _binding.read(file)
    while bound:
        try:
            samples = tuple(checked(_binding.samples(file, bound), bound.binding.root)) if clips else ()
            return Manifest(name, bound.binding, bound.classes, samples, bound.away, bound.modalities)
        except UserError:
            before, bound = bound, _binding.read(file)
            if bound == before:  # it was not written anew meanwhile
                raise
    raise UserError(f"{name!r} is not bound yet; run: signcache manifest {name}")
