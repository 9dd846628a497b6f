"""The cache: what a stage is for a corpus, which of its rows are finished, what is published, and how features are opened."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from pipeline import atomic
from pipeline.atomic import seal, unseal
from pipeline.cache import index, mirror
from pipeline.cache._finished_rows import DISPUTED as DISPUTED
from pipeline.cache._finished_rows import INDEX_PREFIX as INDEX_PREFIX
from pipeline.cache._finished_rows import Finished as Finished
from pipeline.cache._finished_rows import finished as finished
from pipeline.cache.features import Features as Features
from pipeline.cache.index import Index
from pipeline.cache.shards import Failure
from pipeline.cache.stage import FORMAT, Published, Stage, configure, of_published, published, staleness
from pipeline.cache.trained import keep_story
from pipeline.corpus import clip_table, manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.types import Stale

COPY = ".published"
"""In the folder of an identity: what `published.json` said when it was published last, its settings and its kind among it."""


def publish(
    home: Home, stage: Stage, done: Finished, bound: Index, failures: Sequence[Failure], like: Mapping[str, Any] | None = None
) -> None:
    """Make `bound`, finished rows under the ids of their clips, what training reads, in one step; `failures` are today's.

    Rows that no clip has stay findable by content, failures of before by the state that the clip had. `like` is said of
    imported rows, and stays with them.
    """
    folder = stage.folder(home)
    if like is None and stage.is_imported:
        before = published(home, stage.dataset, stage.name)
        like = before.like if before and before.digest == stage.fingerprint.digest else None
    held = index.build([], failures, [*done.index.shards, *done.later.shards], done.past(failures))
    table = index.joined([held, bound, _orphans(done.rows, bound)])
    content = {
        "format": FORMAT,
        "dataset": stage.dataset,
        "stage": stage.kind,
        "digest": stage.fingerprint.digest,
        "identity": stage.fingerprint.identity,
        "settings": stage.settings,
        "row_shape": stage.extractor.row_shape,
        "dtype": stage.extractor.dtype,
        **({"like": like} if like else {}),
    }
    keep_story(folder, str(getattr(stage.extractor, "weights", "")), stage.fingerprint.identity.get("weights", {}).get("sha256"))
    _put(folder, content, table)
    _write_lengths(home, stage.dataset, stage.name, bound)


def _orphans(rows: Index, bound: Index) -> Index:
    """The rows that no clip has, each once, under no id."""
    number = {shard: i for i, shard in enumerate(dict.fromkeys([*rows.shards, *bound.shards]))}

    def starts(table: Index) -> NDArray[np.int64]:
        """Where a row begins, as one number a row; of what has no length, and begins where the next does, what it was made from."""
        places = np.array([number[shard] for shard in table.shards], np.int64)[table.shard_of] << 32 | table.columns["start"]
        for row in np.flatnonzero(table.columns["length"] == 0).tolist():
            places[row] = ~(xxhash.xxh3_64_intdigest(table.columns["content"][row], int(places[row] >> 32)) >> 1)
        return places

    every, first = np.unique(starts(rows), return_index=True)
    unused = np.sort(first[~np.isin(every, starts(bound))])
    return rows.taken(unused, [index.ORPHAN] * len(unused))


def publish_index(home: Home, dataset: str, name: str, table: Index) -> None:
    """Put another row index in place of the published one, in one step: the same rows in other shards."""
    folder = home.cache / dataset / name
    content = unseal((folder / "published.json").read_bytes())
    _put(folder / content["digest"], content, table)
    _write_lengths(home, dataset, name, table.taken(np.array([*table.position.values()], np.int64)))


def _put(folder: Path, content: Mapping[str, Any], table: Index) -> None:
    """Publish what lies in an identity's folder; the indexes that it had before go last."""
    name = f"{INDEX_PREFIX}{secrets.token_hex(6)}.npz"
    atomic.replace(folder / name, index.to_bytes(table))
    said = seal({**content, "index": name, "shards": [shard.name for shard in table.shards], "at": time.time()}, indent=1)
    if there := mirror.of(folder):
        there.publish(folder, name, said)
    atomic.replace(folder / COPY, said)
    atomic.replace(folder.parent / "published.json", said)
    for old in folder.glob(f"{INDEX_PREFIX}*.npz"):
        if old.name != name:
            old.unlink(missing_ok=True)


def lengths_path(home: Home, dataset: str, name: str) -> Path:
    """The length manifest of a stage."""
    return home.manifests / dataset / f"{name}.csv"


def has_lengths(home: Home, dataset: str, name: str) -> bool:
    """Whether the length manifest is that of what is published: a kill between the two leaves an older one."""
    try:
        written = lengths_path(home, dataset, name).stat().st_mtime_ns
        return written >= (home.cache / dataset / name / "published.json").stat().st_mtime_ns
    except FileNotFoundError:
        return False


def _write_lengths(home: Home, dataset: str, name: str, bound: Index) -> None:
    """The length manifest: a table for people and other programs, never read back."""
    header = ("id", "length", "source_length", "rate_hz", "decoder", "content")
    lengths, source_lengths, rates, contents = (bound.columns[key].tolist() for key in ("length", "source_length", "rate_hz", "content"))
    shown = {rate: f"{rate:g}" for rate in set(rates)}
    parts = (lengths, source_lengths, map(shown.__getitem__, rates), bound.decoders, map(bytes.decode, contents))
    rows = zip(bound.ids, *parts, strict=True)
    atomic.replace(lengths_path(home, dataset, name), b"".join(clip_table.text(chain([header], rows))))


def open_stage(
    dataset: str,
    stage: str,
    *,
    cache: Path | str | None = None,
    manifests: Path | str | None = None,
    stale: Stale = "refuse",
) -> Features:
    """The published features of a stage by clip id, each `(T, *row_shape)`; None means the checkout's folders.

    Raises UserError, one sentence with what is stale and what to run, where they are not those of today's stage.
    """
    home = Home.at(mirror.folder_of(cache), manifests)
    features = opened(home, dataset, stage)
    if stale == "refuse":
        reason = staleness(configure(home, manifest.read(home, dataset, clips=False), stage), features.said)
        if reason:
            raise UserError(
                f"the features of {dataset}/{stage} are stale ({reason}); run: signcache extract {dataset} {stage}, "
                f"or read the old ones with --stale allow"
            )
    return features


def opened(home: Home, dataset: str, stage: str) -> Features:
    """The published features of a stage, whatever it is today; raises UserError where there are none."""

    def look(said: Published | None) -> Features:
        if said is None:
            raise UserError(f"no features of {dataset}/{stage} are published; run: signcache extract {dataset} {stage}")
        return Features(home, dataset, stage, said)

    try:
        return of_published(home, dataset, stage, look)
    except FileNotFoundError:
        raise UserError(f"the row index of {dataset}/{stage} is missing; run: signcache extract {dataset} {stage}") from None
