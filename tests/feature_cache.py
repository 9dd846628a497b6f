"""Small corpora of files with published features, made in a moment: no video is decoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.cache import publishing, shards
from pipeline.cache.shards import Failure, Marker, Row
from pipeline.cache.stage import Stage, configure
from pipeline.corpus import manifest, media
from pipeline.corpus.manifest import Home, Manifest
from pipeline.extraction.inputs import inputs_of
from pipeline.learning.recipe import Training
from pipeline.testing.models import Rows
from pipeline.types import Array


def corpus(root: Path, clips: Mapping[str, tuple[str, str]], *, name: str = "signs") -> tuple[Home, Manifest]:
    """A folder corpus whose clip `class/name` has the given (split, signer); every file holds its own id."""
    files = root / "data"
    for clip in clips:
        path = files / f"{clip}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(clip)
    lines = [f"{clip}.mp4,{split},{signer}" for clip, (split, signer) in clips.items()]
    (files / "split.csv").write_text("\n".join(["file,split,signer", *lines]) + "\n")
    home = Home(root / "cache", root / "manifests")
    return home, manifest.bind(home, name, corpus="folder", root=files)


def balanced(classes: int = 3, train: int = 6, held: int = 2) -> dict[str, tuple[str, str]]:
    """Clips of every class in every split, each split with signers of its own."""
    clips = {}
    for label in range(classes):
        for split, count in (("train", train), ("val", held), ("test", held)):
            for number in range(count):
                clips[f"sign{label}/{split}{number}"] = (split, f"{split}-signer{number % 2}")
    return clips


def signals(table: Manifest, width: int = 2048, seed: int = 0) -> dict[str, Array]:
    """Rows that tell the class of their clip: noise around a vector of each class, 2 to 7 rows long."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(len(table.classes), width)).astype(np.float32)
    found = {}
    for sample in table.samples:
        noise = random.normal(size=(random.integers(2, 8), width)).astype(np.float32)
        found[sample.id] = centres[table.class_index[str(sample.label)]] + noise
    return found


def publish(
    home: Home,
    table: Manifest,
    rows: Mapping[str, Array],
    *,
    stage: str | Stage = "resnet50",
    failed: Mapping[str, str] | None = None,
    shard_clips: int = 5,
) -> Stage:
    """Write shards with these rows and failures, and publish them as today's features of the stage."""
    configured = configure(home, table, stage) if isinstance(stage, str) else stage
    shape, dtype = configured.extractor.row_shape, configured.extractor.dtype
    paths = {s.id: table.paths(s, configured.extractor.source) for s in table.samples}
    stats = {clip: media.stat_of(files) for clip, files in paths.items()}

    def failure(clip: str, why: str) -> Failure:
        return Failure(clip, why, "decord", 1, media.content_of(paths[clip]), stats[clip].token, stats[clip].size)

    failures = [failure(clip, why) for clip, why in (failed or {}).items()]
    clips = list(rows)
    for order, group in enumerate(clips[first : first + shard_clips] for first in range(0, len(clips), shard_clips)):
        made, start = [], 0
        for clip in group:
            length, stat = len(rows[clip]), stats[clip]
            sums = (media.content_of(paths[clip]), stat.token, stat.size, "decord", (length,), shards.checksum(rows[clip]))
            made.append(Row(clip, start, length, length, 25.0, *sums))
            start += length
        name = shards.new_name(order)
        marker = Marker(name, f"{name}.zarr", "zarr", dtype, shape, tuple(made), tuple(failures) if not order else ())
        values = shards.joined([rows[clip] for clip in group], shape, dtype)
        shards.write_shard(configured.folder(home), marker, values, {})
    done = publishing.finished(configured, home)
    numbers = done.current(done.places(table), inputs_of(home, table, configured))
    bound = {clip: number for clip, number in zip(table.ids, numbers.tolist(), strict=True) if number >= 0 and clip in rows}
    publishing.publish(home, configured, done, done.rows.taken(np.array([*bound.values()], np.int64), list(bound)), failures)
    return configured


def table_of(lengths: Sequence[int], width: int = 3, *, classes: int = 2, seed: int = 0, stages: Sequence[str] = ("a",)) -> Training:
    """A table in memory: clip i has `lengths[i]` rows of unmistakable values in every stage."""
    ids = tuple(f"clip{i}" for i in range(len(lengths)))
    opened = {}
    for place, stage in enumerate(stages):
        rows = {
            clip: (1 + place + np.arange(length * width, dtype=np.float32).reshape(length, width) + 1000 * i)
            for i, (clip, length) in enumerate(zip(ids, lengths, strict=True))
        }
        opened[stage] = Rows(rows, (width,))
    labels = np.arange(len(lengths), dtype=np.int64) % classes
    return Training(ids, labels, tuple(f"class{i}" for i in range(classes)), opened, seed)  # type: ignore[arg-type]


__all__ = ["balanced", "corpus", "publish", "signals", "table_of"]
