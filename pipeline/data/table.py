"""Batches straight from the cache: plain row copies from mapped shards into a few reused buffers, filled by one background thread."""

from __future__ import annotations

import math
import resource
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.cache import mirror
from pipeline.cache.publishing import Features, open_stage
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.data._buffers import Ring, ahead
from pipeline.data._order import Places, asked_for, order
from pipeline.data.batch import Batch, share_of
from pipeline.data.lacking import refuse_missing, without_features
from pipeline.errors import UserError
from pipeline.types import SPLITS, Array, Stale

Change: TypeAlias = Callable[[str, Mapping[str, Array]], Mapping[str, Array]]
SCORING_BATCH = 64
SCORING_BYTES = 128 << 20
"""Most of a batch that is scored, where a single clip is not more: rows of some stages are images."""
UNKNOWN = -1
"""The class index of a clip whose label is withheld."""


@dataclass
class Table:
    """Clips of one split with their opened stages; `labels[i]` indexes `classes`."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    stages: Mapping[str, Features]
    was_read: bool = field(default=False, init=False)
    """Whether an epoch has read all of them; what is not too much for memory is then there."""
    rings: dict[str, Ring] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.rings = {stage: Ring(features.dtype) for stage, features in self.stages.items()}
        _allow_open_files(sum(len(features.index.shards) for features in self.stages.values()))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of a row of each stage."""
        return {stage: features.row_shape for stage, features in self.stages.items()}

    @property
    def dims(self) -> dict[str, int]:
        """Values in a row of each stage."""
        return {stage: math.prod(shape) for stage, shape in self.row_shapes.items()}

    @cached_property
    def lengths(self) -> dict[str, NDArray[np.int64]]:
        """`(N,)` rows of each clip in each stage; raises UserError for a clip without features."""
        return {stage: np.array([f.length(clip) for clip in self.ids], np.int64) for stage, f in self.stages.items()}

    def moments(self, stage: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """`(D,)` mean and `(D,)` standard deviation of the values of all rows; 1 where a value never changes."""
        count, total, squares = 0, np.zeros(self.dims[stage]), np.zeros(self.dims[stage])
        for clip in self.ids:
            rows = self.stages[stage][clip].reshape(-1, len(total)).astype(np.float64)
            count, total, squares = count + len(rows), total + rows.sum(0), squares + (rows**2).sum(0)
        mean = total / max(count, 1)
        deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
        return mean, np.where(deviation > 1e-6, deviation, 1.0)

    def part(self, ids: Collection[str] | None = None, stages: Sequence[str] | None = None) -> Self:
        """Some of the clips, in their order, and some of the stages."""
        kept = np.array([i for i, clip in enumerate(self.ids) if ids is None or clip in ids], np.int64)
        opened = {stage: self.stages[stage] for stage in (self.stages if stages is None else stages)}
        return replace(self, ids=tuple(self.ids[i] for i in kept), labels=self.labels[kept], stages=opened)

    def batches(
        self,
        batch_size: int,
        *,
        epoch: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        change: Change | None = None,
        share: tuple[int, int] = (0, 1),
        alike_from: int | None = None,
    ) -> Iterator[Batch]:
        """Every clip once, in the order of (seed, epoch). Batches are gathered ahead in a thread, which ends with the iterator.

        `change` turns the rows of a clip, `{stage: (T, *row_shape)}`, into those that are read. Of several processes, each reads
        its `share`, (number, of how many), of every batch. Clips of `alike_from` rows or more are bucketed as equally long.
        """
        longest = np.max(list(self.lengths.values()), axis=0) if self.stages else np.zeros(len(self), np.int64)
        bucketed = longest if alike_from is None else np.minimum(longest, alike_from)
        plan = order(bucketed, batch_size, seed=seed, epoch=epoch, shuffle=shuffle, places=self.places)
        return ahead(self._gathered(plan, change, share))

    def each(self, say: Callable[[Batch], Array], axis: int = 0) -> Array:
        """What is said of every batch, as one: the clips, which lie along an axis, in the order of the table."""
        return np.concatenate([say(batch) for batch in self.batches(self.fitting(SCORING_BATCH), shuffle=False)], axis)

    def fitting(self, most: int) -> int:
        """At most so many clips a batch: fewer where those with the most rows would fill more than SCORING_BYTES."""
        return max(1, min(most, SCORING_BYTES // max(1, int(self.places.size.max(initial=1)))))

    @cached_property
    def places(self) -> Places:
        """Where the rows lie, by the shards of the stage that has the most."""
        sizes = {stage: n * self.dims[stage] * np.dtype(self.stages[stage].dtype).itemsize for stage, n in self.lengths.items()}
        if not sizes:
            return Places(np.zeros(len(self), np.int64), np.zeros(len(self), np.int64))
        index = self.stages[max(sizes, key=lambda stage: int(sizes[stage].sum()))].index
        shards = [index.shard_of[index.position[clip]] if clip in index.position else -1 for clip in self.ids]
        return Places(np.array(shards, np.int64), np.sum(list(sizes.values()), axis=0))

    def _gathered(self, plan: list[NDArray[np.int64]], change: Change | None, share: tuple[int, int]) -> Iterator[Batch]:
        """A share of the batches of a plan; the disk is asked ahead for rows that are not in memory yet, or too many to stay there."""
        own = [numbers[share_of(len(numbers), *share)] for numbers in plan]
        batches = own if self.was_read and self.places.is_resident else asked_for(own, self.places, self._expect)
        for numbers, whole in zip(batches, plan, strict=True):
            yield self.gather(numbers, change, whole)
        self.was_read = True

    def _expect(self, numbers: NDArray[np.int64]) -> None:
        ids = [self.ids[i] for i in numbers.tolist()]
        for features in self.stages.values():
            features.expect(ids)

    def gather(self, numbers: NDArray[np.int64], change: Change | None = None, whole: NDArray[np.int64] | None = None) -> Batch:
        """The batch of these clips, padded to the longest of them; they are the share of one process in the `whole`."""
        ids = tuple(self.ids[i] for i in numbers.tolist())
        if change is None:
            rows = {stage: [features[clip] for clip in ids] for stage, features in self.stages.items()}
        else:
            changed = [change(clip, {stage: features[clip] for stage, features in self.stages.items()}) for clip in ids]
            rows = {stage: [clip[stage] for clip in changed] for stage in self.stages}
        lengths = {stage: np.array([len(clip) for clip in clips], np.int64) for stage, clips in rows.items()}
        features = {stage: self._padded(stage, clips, lengths[stage]) for stage, clips in rows.items()}
        labels = torch.from_numpy(self.labels[numbers])
        every = None if whole is None else torch.from_numpy(self.labels[whole])
        return Batch(ids, features, {s: torch.from_numpy(n) for s, n in lengths.items()}, labels, every)

    def _padded(self, stage: str, clips: Sequence[Array], lengths: NDArray[np.int64]) -> Tensor:
        longest, row_shape = int(lengths.max(initial=0)), self.stages[stage].row_shape
        out = self.rings[stage].take(len(clips) * longest * math.prod(row_shape)).reshape(-1, *row_shape)
        zeros = np.broadcast_to(np.zeros((), out.dtype), (longest, *row_shape))
        parts: list[Array] = []
        for clip, length in zip(clips, lengths.tolist(), strict=True):
            parts += (clip, zeros[length:]) if length < longest else (clip,)
        if parts:
            np.concatenate(parts, out=out, casting="unsafe")  # one call for all clips; a change gives float32 whatever the stage's type
        return torch.from_numpy(out.reshape(len(clips), longest, *row_shape))


def _allow_open_files(count: int) -> None:
    """Each mapped shard holds a file handle; 1024 a process, the usual soft limit, are 64 thousand clips."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(max(wanted, soft), hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def batches(
    dataset: str,
    stages: Sequence[str],
    *,
    split: str = "train",
    batch_size: int = 64,
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    stale: Stale = "refuse",
    allow_missing: int = 0,
    cache: Path | str | None = None,
    manifests: Path | str | None = None,
) -> Iterator[Batch]:
    """Batches of a split, every clip once, in an order that comes from (seed, epoch) alone, or that of the manifest.

    A batch may be kept: it never changes. Clips without features of what their files hold now are refused beyond
    `allow_missing`. As in::

        for epoch in range(50):
            for batch in batches("lis", ["resnet50", "radar_cnn"], epoch=epoch):
                x, lengths = fused(batch, ["resnet50", "radar_cnn"])  # (B, T, 2144), (B,)
                loss = cross_entropy(model(x, lengths), batch.labels)
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; use {', '.join(SPLITS)}")
    home = Home.at(mirror.folder_of(cache), manifests)
    files = [home.manifests / f"{dataset}.json", home.manifests / f"{dataset}.csv"]
    files += [home.cache / dataset / stage / "published.json" for stage in stages]
    stamps = tuple((file.stat().st_mtime_ns, file.stat().st_size) if file.exists() else None for file in files)
    table = _opened(home, dataset, tuple(stages), split, stale, allow_missing, stamps)
    return table.batches(batch_size, epoch=epoch, shuffle=shuffle, seed=seed)


@lru_cache(maxsize=2)
def _opened(home: Home, dataset: str, stages: tuple[str, ...], split: str, stale: Stale, allow_missing: int, stamps: object) -> Table:
    """The clips of a split, opened once for many epochs; another manifest or publication has other `stamps`."""
    table = manifest.read(home, dataset)
    opened = {stage: open_stage(dataset, stage, cache=home.cache, manifests=home.manifests, stale=stale) for stage in stages}
    samples = [sample for sample in table.samples if sample.split == split]
    missing = without_features(home, table, opened, samples, stale)
    refuse_missing(table, missing, len(samples), allow_missing, option="allow_missing=")
    if len(samples) == len(missing):
        raise UserError(f"{dataset} has no {split} clips{' with features' * bool(samples)}; see: manifests/{dataset}.csv")
    index = table.class_index
    samples = [sample for sample in samples if sample.id not in missing]
    labels = np.array([UNKNOWN if s.label is None else index[s.label] for s in samples], np.int64)
    return Table(tuple(sample.id for sample in samples), labels, table.classes, opened)
