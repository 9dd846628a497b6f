"""Adopts features that another program made as a published stage: checked, with an identity of their own, in shards like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from pipeline import __version__
from pipeline.atomic import digest_of
from pipeline.cache import publishing, shards
from pipeline.cache import stage as configured
from pipeline.cache.locking import locked
from pipeline.cache.shards import SHARD_BYTES, SHARD_CLIPS, Failure, Marker, Row
from pipeline.cache.stage import Stage, configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.corpus.media import Stat, composed
from pipeline.datasets.imported import write_table
from pipeline.errors import UserError
from pipeline.extraction.inputs import imported_states
from pipeline.extraction.plan import NOT_IMPORTED
from pipeline.formats._clips import Incoming
from pipeline.formats._likeness import Asked, Likeness, line
from pipeline.formats._reading import clips_of
from pipeline.types import IMPORT_PREFIX, Array, Sample

KIND = "imported"
KEPT = ("float32", "float16", "uint8", "int8", "int16", "int32", "int64")
"""Types of numbers that stay; others become float32."""


@dataclass
class Adopted:
    """What an import brought: clips, rows, the clips of the manifest that it lacks, and groups of clips with equal rows."""

    digest: str = ""
    clips: int = 0
    rows: int = 0
    row_shape: tuple[int, ...] = ()
    lacking: list[str] = field(default_factory=list)
    twins: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is to be known of the stage that the rows are like."""


@dataclass(frozen=True)
class _Surveyed:
    """A checked clip without its rows; `id` is its name in the manifest."""

    id: str
    sample: Sample
    content: str
    length: int


def import_rows(home: Home, name: str, stage: str, source: Path, form: str, like: Asked | None = None) -> Adopted:
    """Read `source` twice: to check all of it and know what it is, then to write it. Nothing is written where a check fails.

    A name that is not bound gets the clips, labels and splits of the source. Raises UserError, one line, for wrong shapes,
    values that are not finite, missing labels, two clips of one id, clips that the manifest does not have, and rows that are
    not those of the stage that they are said to be `like`.
    """
    manifest.checked_name(name), manifest.checked_name(stage)
    known = manifest.read(home, name) if manifest.is_bound(home, name) else None
    before = configured.published(home, name, stage)
    if before and before.stage != KIND:
        raise UserError(f"{name}/{stage} holds features of {before.stage!r} that were extracted here; choose another name than {stage!r}")
    clips, shape, numbers = _survey(source, form, {composed(s.id): s for s in known.samples} if known else None)
    likeness = _likeness(like, known or _unbound(name, source, clips), shape, source, form, clips) if like else None
    table = known or _bind(home, name, clips)
    said = digest_of([form, shape, numbers, [[clip.id, clip.content, clip.length] for clip in clips]])
    settings = {"source": IMPORT_PREFIX + said, "shape": shape, "numbers": numbers}
    ready = configure(home, table, stage, kind=KIND, now=settings)
    with locked(home, name, [stage]):
        _write(home, ready, clips_of(source, form), clips)
        lacking = _publish(home, table, ready, likeness.said if likeness else None)
    by_content: dict[str, list[str]] = {}
    for clip in clips:
        by_content.setdefault(clip.content, []).append(clip.id)
    twins = [ids for ids in by_content.values() if len(ids) > 1]
    notes = [line(likeness.said), *likeness.doubts] if likeness else []
    return Adopted(ready.fingerprint.digest, len(clips), sum(clip.length for clip in clips), shape, lacking, twins, notes)


def _likeness(asked: Asked, table: Manifest, shape: tuple[int, ...], source: Path, form: str, clips: Sequence[_Surveyed]) -> Likeness:
    """The stage that the rows are like, compared where videos are there."""
    found = Likeness(asked, table, shape, {clip.id: clip.length for clip in clips})
    found.check((clip.id, _kept(incoming.rows)) for clip, incoming in zip(clips, clips_of(source, form), strict=True))
    return found


def _unbound(name: str, source: Path, clips: Sequence[_Surveyed]) -> Manifest:
    """The clips of a name that is not bound yet."""
    return Manifest(name, Binding(KIND, source, "official", 0), (), tuple(clip.sample for clip in clips))


def _survey(source: Path, form: str, known: Mapping[str, Sample] | None) -> tuple[list[_Surveyed], tuple[int, ...], str]:
    """Every clip of the source, the shape of a row, and the type of its numbers."""
    found: dict[str, _Surveyed] = {}
    shape, numbers, first, strange = tuple[int, ...](), "", "", []
    for clip in clips_of(source, form):
        rows = _kept(clip.rows)
        if not found:
            shape, numbers, first = rows.shape[1:], rows.dtype.name, clip.ids[0]
        if (rows.shape[1:], rows.dtype.name) != (shape, numbers):
            raise UserError(f"{source}: {clip.ids[0]!r} has rows of {rows.dtype} {rows.shape[1:]}, {first!r} of {numbers} {shape}")
        if not shape or 0 in shape:
            raise UserError(f"{source}: {clip.ids[0]!r} is {rows.shape}; expected (rows, values)")
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            row = int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))[0])
            raise UserError(f"{source}: {clip.ids[0]!r} holds NaN or infinity in row {row}; mend or leave out that clip")
        sample = _matched(clip, known)
        if sample is None:
            strange.append(clip.ids[0])
            continue
        if sample.id in found:
            raise UserError(f"{source} holds {sample.id!r} twice; each clip may come once")
        if clip.label is not None and sample.label is not None and clip.label != composed(sample.label):
            raise UserError(f"{source}: {clip.ids[0]!r} has the label {clip.label!r}, the manifest says {sample.label!r}")
        found[sample.id] = _Surveyed(sample.id, sample, xxhash.xxh3_128_hexdigest(rows.tobytes()), len(rows))
    if strange:
        raise UserError(f"{source}: {len(strange)} clips are none of the manifest, first {strange[0]!r}; bind another name for them")
    return list(found.values()), shape, numbers


def _kept(rows: Array) -> Array:
    return np.ascontiguousarray(rows, rows.dtype.name if rows.dtype.name in KEPT else np.float32)


def _matched(clip: Incoming, known: Mapping[str, Sample] | None) -> Sample | None:
    """The clip in the manifest, or a new one where there is no manifest yet."""
    if known is None:
        return Sample(clip.ids[0], {}, clip.label, clip.split, clip.signer)
    return next((known[name] for name in clip.ids if name in known), None)


def _bind(home: Home, name: str, clips: Sequence[_Surveyed]) -> Manifest:
    root = home.manifests / name / KIND
    write_table(root, [clip.sample for clip in clips])
    return manifest.bind(home, name, corpus=KIND, root=root)


def _write(home: Home, stage: Stage, incoming: Iterator[Incoming], surveyed: Sequence[_Surveyed]) -> None:
    """Shards of the clips that this identity lacks, closed as an extraction closes them."""
    done, waiting = publishing.finished(stage, home), list[tuple[_Surveyed, Array, int]]()
    for number, (clip, expected) in enumerate(zip(incoming, surveyed, strict=True)):
        rows = _kept(clip.rows)
        if xxhash.xxh3_128_hexdigest(rows.tobytes()) != expected.content:
            raise UserError(f"{expected.id!r} changed while it was imported; run the same line again")
        if not done.has(expected.id, _stat(expected).token):
            waiting.append((expected, rows, clip.source_length))
        if len(waiting) >= SHARD_CLIPS or sum(part.nbytes for _, part, _ in waiting) >= SHARD_BYTES:
            _shard(home, stage, waiting, number)
            waiting = []
    if waiting:
        _shard(home, stage, waiting, len(surveyed))


def _stat(clip: _Surveyed) -> Stat:
    """In place of the stat of files: what the rows hold."""
    return Stat(int(clip.content[:16], 16), clip.length)


def _shard(home: Home, stage: Stage, clips: Sequence[tuple[_Surveyed, Array, int]], number: int) -> None:
    made, start = [], 0
    for clip, rows, frames in clips:
        stat = _stat(clip)
        said = (clip.content, stat.token, stat.size, "import", (frames,), shards.checksum(rows))
        made.append(Row(clip.id, start, len(rows), frames, 0.0, *said))
        start += len(rows)
    name, extractor = shards.new_name(number), stage.extractor
    marker = Marker(name, f"{name}.zarr", "zarr", extractor.dtype, extractor.row_shape, tuple(made), ())
    values = shards.joined([rows for _, rows, _ in clips], extractor.row_shape, extractor.dtype)
    shards.write_shard(stage.folder(home), marker, values, {"signcache": __version__})


def _publish(home: Home, table: Manifest, stage: Stage, like: Mapping[str, Any] | None) -> list[str]:
    """The clips of the manifest that the import lacks, recorded as its failures."""
    done = publishing.finished(stage, home)
    numbers = done.current(done.places(table), imported_states(table, done))
    has_row = (numbers >= 0).tolist()
    bound = done.rows.taken(numbers[numbers >= 0], list(compress(table.ids, has_row)))
    lacking = [clip for clip, has in zip(table.ids, has_row, strict=True) if not has]
    publishing.publish(home, stage, done, bound, [Failure(clip, NOT_IMPORTED, "", 0, "", 0, 0) for clip in lacking], like)
    return lacking
