"""Published features as training reads them: rows by clip id, mapped from shards."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import groupby

import numpy as np

from pipeline.cache import index, shards
from pipeline.cache.index import Index
from pipeline.cache.stage import Published, configure, layout_of, of_published
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.types import Array


class Features(Mapping[str, Array]):
    """The published rows of a stage by clip id: `features[id]` is a read-only `(T, *row_shape)` view of its shard."""

    spared: frozenset[str] = frozenset()
    """Clips that may have no rows at all."""

    def __init__(self, home: Home, dataset: str, name: str, said: Published, table: Index | None = None) -> None:
        self.dataset, self.name, self.row_shape, self.dtype, self.digest = dataset, name, said.row_shape, said.dtype, said.digest
        self.home, self.folder = home, home.cache / dataset / name / said.digest
        self.said, self.row_bytes = said, said.row_bytes
        self.index = index.read(self.folder / said.index) if table is None else table
        """Which rows every clip has; where they lie, `compact` may have changed since."""
        self._read: dict[str, Array] = {}
        self._opened: tuple[Index, dict[int, Array]] = self.index, {}

    @cached_property
    def layout(self) -> Layout | None:
        """What the values of a row are, as far as the stage says."""
        return layout_of(self.said)

    def sparing(self, clips: Collection[str]) -> Features:
        """The same features, in which those of these clips that have none read as no rows."""
        found = copy.copy(self)
        found.spared = frozenset(clips)
        return found

    def __getitem__(self, clip: str) -> Array:
        rows = self._read.get(clip)
        return self._first(clip) if rows is None else rows

    def _first(self, clip: str) -> Array:
        """The rows of a clip that was not read yet. Each is compared once: a damaged row never reaches a training."""
        if self.lacks(clip):
            return np.empty((0, *self.row_shape), self.dtype)
        self._number(clip)
        while True:
            table, opened = self._opened
            try:
                rows = self._rows(clip, table, opened)
            except UserError:
                if not self._packed(clip, table):
                    raise
            else:
                self._read[clip] = rows
                return rows

    def _rows(self, clip: str, table: Index, opened: dict[int, Array]) -> Array:
        number = table.position[clip]
        start, length = int(table.columns["start"][number]), int(table.columns["length"][number])
        place = int(table.shard_of[number])
        rows = self._shard(place, table, opened)[start : start + length]
        expected = table.columns["checksum"][number].decode()
        return shards.checked_rows(rows, expected, self.folder, table.shards[place].file, repr(clip))

    def _packed(self, clip: str, before: Index) -> bool:
        """Whether `compact` has put the clip's rows into another shard since this was opened, where they are read from now on.

        Raises UserError where other rows are published by now and those that were opened are gone.
        """
        if self._opened[0] is not before:
            return True
        said, now = of_published(self.home, self.dataset, self.name, self._now)
        if said == self.said:
            return False
        if now is not None and clip in now.position and _made_from(now, clip) == _made_from(self.index, clip):
            self._opened, self.said = (now, {}), said or self.said
            return True
        file = before.shards[before.shard_of[before.position[clip]]].file
        if (self.folder / str(file)).exists():
            return False
        raise UserError(
            f"other features of {self.dataset}/{self.name} were published while these were read, and those of {clip!r} are gone; "
            f"run the same line again"
        )

    def _now(self, said: Published | None) -> tuple[Published | None, Index | None]:
        return said, index.read(self.folder / said.index) if said and said.digest == self.digest else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.index.position)

    def __len__(self) -> int:
        return len(self.index.position)

    def __contains__(self, clip: object) -> bool:
        return clip in self.index.position

    def length(self, clip: str) -> int:
        """Number of rows of a clip, without touching its shard."""
        return 0 if self.lacks(clip) else int(self.index.columns["length"][self._number(clip)])

    def lacks(self, clip: str) -> bool:
        """Whether it is a spared clip without rows."""
        return clip in self.spared and clip not in self.index.position

    def expect(self, clips: Iterable[str]) -> None:
        """Ask the disk for the rows of clips that are read soon, those of a shard in their order; no clip needs to have rows.

        What is wrong with a shard is for those to hear who read it.
        """
        table = self._opened[0]
        numbers = [table.position[clip] for clip in clips if clip in table.position]
        columns = (table.shard_of[numbers], table.columns["start"][numbers], table.columns["length"][numbers])
        places = sorted(zip(*(column.tolist() for column in columns), strict=True))
        for shard, parts in groupby(places, key=lambda place: place[0]):
            file = table.shards[shard].file
            if file is not None:
                with contextlib.suppress(OSError):
                    shards.expect(self.folder / file, self.row_bytes, [(start, length) for _, start, length in parts])

    def adopted_from(self) -> set[str]:
        """The identities whose rows these were until `adopt` took them over, one after the other."""
        return of_published(self.home, self.dataset, self.name, lambda _: self._adopted_from())

    def _adopted_from(self) -> set[str]:
        found = set[str]()
        for name in shards.marker_names(self.folder):
            evidence = shards.read_record(self.folder / (name + shards.MARKER_SUFFIX)).made.get("adopted")
            if evidence:
                found |= {evidence["from"], *evidence.get("earlier", ())}
        return found

    def content(self, clip: str) -> str:
        """Hash of the bytes that the clip's rows were made from."""
        return self.index.entry(self._number(clip)).row.content

    def _number(self, clip: str) -> int:
        number = self.index.position.get(clip)
        if number is None:
            raise UserError(f"clip {clip!r} has no features in {self.dataset}/{self.name}; {self._why_none(clip)}")
        return number

    def _why_none(self, clip: str) -> str:
        """Why a clip has no rows, and what to do."""
        if failure := self.index.failures.get(clip):
            return f"extraction failed: {failure.reason}"
        table = manifest.read(self.home, self.dataset)
        if clip not in table.places:
            return f"{self.dataset} has no such clip; see: manifests/{self.dataset}.csv"
        modality = configure(self.home, table, self.name).modality
        if clip in table.lacking(modality):
            other = ", ".join(sorted(table.samples[table.places[clip]].media))
            return f"it has no {modality} media, which clips of {self.dataset} may lack: leave it out, or read a stage of its {other}"
        return f"run: signcache extract {self.dataset} {self.name}"

    def _shard(self, number: int, table: Index, opened: dict[int, Array]) -> Array:
        if number not in opened:
            shard = table.shards[number]
            if shard.file is None:
                raise UserError(f"the shard {shard.name} of {self.dataset}/{self.name} holds no rows")
            values = shards.open_shard(self.folder, shard.store, shard.file).view(np.ndarray)
            if values.shape[1:] != self.row_shape or values.dtype != np.dtype(self.dtype):
                raise UserError(
                    f"the shard {self.folder / shard.file} holds {values.dtype} {values.shape}, not {self.dtype} {self.row_shape}"
                )
            values.flags.writeable = False
            opened[number] = values
        return opened[number]


def _made_from(table: Index, clip: str) -> tuple[bytes, bytes]:
    """What the rows of a clip are: the hash of what they were made from, and their checksum."""
    number = table.position[clip]
    return table.columns["content"][number], table.columns["checksum"][number]
