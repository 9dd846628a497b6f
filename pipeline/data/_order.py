"""The clips of each batch, from (seed, epoch) alone: shuffled, bucketed by length, and by windows of neighbours where there are many rows.

Also what the disk is asked for before each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

BUCKETED = 8
"""Batches whose clips are bucketed by length together: enough to save padding, few enough to stay random."""
RESIDENT_BYTES = 4 << 30
"""Rows of more than this are shuffled by windows. A fixed figure: an order that went by this machine's memory would be no other's."""
BLOCK_BYTES = 64 << 20
"""Of clips that follow one another in the table, as they mostly do in shards, which are extracted in its order; read together."""
WINDOW_BYTES = 512 << 20
"""Of the blocks whose clips are shuffled together; as much again is read ahead."""
STRETCH_BYTES = 64 << 20
"""Read ahead of fewer rows, the first time."""


@dataclass(frozen=True)
class Places:
    """Where the rows of each clip lie: `shard` `(N,)` names it, `size` `(N,)` is their bytes."""

    shard: NDArray[np.int64]
    size: NDArray[np.int64]

    @property
    def is_resident(self) -> bool:
        """Whether the rows are few enough to stay in memory, and are shuffled altogether."""
        return int(self.size.sum()) <= RESIDENT_BYTES

    @property
    def stretch(self) -> int:
        """Bytes that are read ahead."""
        return STRETCH_BYTES if self.is_resident else WINDOW_BYTES


def order(
    lengths: NDArray[np.int64], batch_size: int, *, seed: int = 0, epoch: int = 0, shuffle: bool = True, places: Places | None = None
) -> list[NDArray[np.int64]]:
    """Every clip once: shuffled, bucketed by length, then the batches shuffled; as they come without `shuffle`.

    Where `places` are those of many rows, whole blocks are shuffled and then clips within windows of several, so that an epoch
    reads neighbours together. In which shards they lie changes nothing: `compact` may pack them.
    """
    if not shuffle:
        return _cut(np.arange(len(lengths), dtype=np.int64), batch_size)
    random = np.random.default_rng([seed & 0xFFFF_FFFF_FFFF_FFFF, epoch])
    windows = None if places is None or places.is_resident else places
    clips = random.permutation(len(lengths)) if windows is None else by_windows(windows.size, random)
    found = []
    for near in _cut(clips, BUCKETED * batch_size):
        bucketed = _cut(near[np.argsort(lengths[near], kind="stable")], batch_size)
        found += bucketed if windows is None else _shuffled(bucketed, random)
    return _shuffled(found, random) if windows is None else found


def by_windows(size: NDArray[np.int64], random: Generator) -> NDArray[np.int64]:
    """All clips of `(N,)` bytes, those of a window one after the other: whole blocks, shuffled, of WINDOW_BYTES and at most one more."""
    names, block = np.unique((np.cumsum(size) - size) // BLOCK_BYTES, return_inverse=True)
    turns = random.permutation(len(names))
    sizes = np.bincount(block, size, len(names))[turns]
    window = np.empty(len(names), np.int64)
    window[turns] = (np.cumsum(sizes) - sizes) // WINDOW_BYTES
    return np.lexsort((random.permutation(len(block)), window[block]))


def expected(batches: Sequence[NDArray[np.int64]], places: Places) -> Iterator[NDArray[np.int64]]:
    """For each batch the clips to ask the disk for before it: those of a quarter stretch ahead, then of more, soon of a whole one.

    Clips come shard by shard within each stretch, as a disk likes to read them; the first has eight parts, for a batch soon.
    """
    clips = np.concatenate([np.empty(0, np.int64), *batches])
    read = np.cumsum([places.size[batch].sum() for batch in batches])
    wanted = read + np.minimum(places.stretch // 4 + read, places.stretch)
    before = np.cumsum(places.size[clips]) - 1
    stretch = np.where(before < places.stretch, 8 * before // places.stretch - 8, before // places.stretch)
    clips = clips[np.lexsort((clips, places.shard[clips], stretch))]
    ends = np.searchsorted(np.cumsum(places.size[clips]), wanted, side="right")
    return (clips[begin:end] for begin, end in pairwise([0, *ends]))


def asked_for(
    batches: Sequence[NDArray[np.int64]], places: Places, ask: Callable[[NDArray[np.int64]], object]
) -> Iterator[NDArray[np.int64]]:
    """The batches, while a thread asks the disk for what is `expected` with them: asking too waits for a disk that is busy."""
    with ThreadPoolExecutor(1, "signcache-asks") as pool:
        asks = list[Future[object]]()
        try:
            for batch, clips in zip(batches, expected(batches, places), strict=True):
                if len(clips):
                    asks.append(pool.submit(ask, clips))
                yield batch
            for asked in asks:
                asked.result()  # raises what it raised
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _cut(clips: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [clips[begin : begin + size] for begin in range(0, len(clips), size)]


def _shuffled(batches: list[NDArray[np.int64]], random: Generator) -> list[NDArray[np.int64]]:
    return [batches[i] for i in random.permutation(len(batches))]
