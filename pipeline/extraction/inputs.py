"""What a stage's rows are made from, as a state that tells without reading whether it changed: files, upstream rows, an import."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline.cache.index import Entry, Index
from pipeline.cache.publishing import Finished, finished
from pipeline.cache.stage import Stage, published
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import Stat, States, token_and_size
from pipeline.errors import UserError


class Rows(Mapping[str, Entry]):
    """The finished row of each clip of a manifest that has one, by its id; `numbers` are those of the rows, -1 where there is none."""

    def __init__(self, table: Manifest, rows: Index, numbers: NDArray[np.int64]) -> None:
        self.table, self.rows, self.numbers = table, rows, numbers

    def __getitem__(self, clip: str) -> Entry:
        number = int(self.numbers[self.table.places[clip]])
        if number < 0:
            raise KeyError(clip)
        return self.rows.entry(number)

    def __iter__(self) -> Iterator[str]:
        return (self.table.ids[place] for place in np.flatnonzero(self.numbers >= 0).tolist())

    def __len__(self) -> int:
        return int(np.count_nonzero(self.numbers >= 0))


def inputs_of(home: Home, table: Manifest, stage: Stage) -> States:
    """The state of what a stage reads of each clip; not of derived stages. Raises UserError where no clip has any."""
    return _imported(home, table, stage) if stage.is_imported else _media_states(table, stage)


def _media_states(table: Manifest, stage: Stage) -> States:
    source, root = stage.extractor.source, f"{table.binding.root}/"
    tokens, sizes, there = array("Q"), array("q"), bytearray()
    seen = dict[str, tuple[list[bytes], int]]()
    for sample in table.samples:
        parts = sample.media.get(source, ())
        token, size = token_and_size([root + part for part in parts], seen)
        tokens.append(token)
        sizes.append(size)
        there.append(bool(parts))
    if table.samples and not any(there) and source not in table.may_lack:
        has = sorted({modality for s in table.samples for modality in s.media})
        raise UserError(f"stage {stage.name!r} reads {source!r} media, and no clip of {table.name!r} has any; it has: {', '.join(has)}")
    return States(np.array(tokens), np.array(sizes), np.frombuffer(there, np.bool_))


def _imported(home: Home, table: Manifest, stage: Stage) -> States:
    if published(home, stage.dataset, stage.name) is None:
        raise UserError(
            f"nothing is imported as {stage.name!r} yet; run: signcache import {stage.dataset} {stage.name} SRC --format FORMAT"
        )
    return imported_states(table, finished(stage, home))


def imported_states(table: Manifest, done: Finished) -> States:
    """Imported rows are their own input, always as they were; of two of one clip, that of the later marker."""
    places = done.places(table)
    rows = np.flatnonzero(places >= 0)
    states = _none_of(len(table.samples))
    states.tokens[places[rows]] = done.rows.columns["stat"][rows]
    states.sizes[places[rows]] = done.rows.columns["size"][rows]
    states.there[places[rows]] = True
    return states


def _none_of(clips: int) -> States:
    return States(np.zeros(clips, np.uint64), np.zeros(clips, np.int64), np.zeros(clips, np.bool_))


def derived_content(upstream: Stage, entry: Entry) -> str:
    """In place of the content hash of a derived row's input: the upstream row's key."""
    return f"{_key(_prefix(upstream), entry.row.content.encode()):032x}"


def derived_stat(upstream: Stage, entry: Entry) -> Stat:
    """As `stat_of` for files."""
    return Stat(_key(_prefix(upstream), entry.row.content.encode()) >> 64, entry.row.length)


def derived_states(upstream: Stage, rows: Index, numbers: NDArray[np.int64]) -> States:
    """`derived_stat` of the upstream row of every clip; `numbers` are those of the rows, -1 where there is none."""
    states = _none_of(len(numbers))
    states.there[:] = numbers >= 0
    contents = rows.columns["content"][numbers[states.there]].tolist()
    prefix = _prefix(upstream)
    states.tokens[states.there] = np.fromiter((_key(prefix, content) >> 64 for content in contents), np.uint64, len(contents))
    states.sizes[states.there] = rows.columns["length"][numbers[states.there]]
    return states


def _prefix(upstream: Stage) -> bytes:
    return f"{upstream.fingerprint.digest}:".encode()


def _key(prefix: bytes, content: bytes) -> int:
    return xxhash.xxh3_128_intdigest(prefix + content)
