"""One clip of one stage: where it came from, which frames were chosen, where its rows lie and what they look like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cache import shards
from pipeline.cache.index import Entry
from pipeline.cache.provenance import origins
from pipeline.cache.publishing import Features, opened
from pipeline.cache.stage import Published, Stage, as_published, configure, of_published, staleness
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError, did_you_mean
from pipeline.reports.looking._statistics import Sums, by_dimension
from pipeline.types import Array, Extractor, Sample


@dataclass(frozen=True)
class Seen:
    """A clip's published rows of one stage, with what they were made from; `root` is the stage that read the media."""

    sample: Sample
    features: Features
    entry: Entry
    rows: Array
    stale: str
    chosen: NDArray[np.int64]
    """Indices of the source frames, or of the upstream rows of a derived stage."""
    root: str
    modality: str
    files: tuple[Path, ...]
    frames: NDArray[np.int64]
    """Indices of the media's frames, of `length` there."""
    length: int
    pulled: Mapping[str, Any] | None
    """Where the rows came from, if not from here."""
    adopted: Mapping[str, Any] | None
    """On what evidence they were taken over from an earlier identity, if they were."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, with each dimension's figures."""
        row, shard = self.entry
        sums = Sums()
        sums.add(self.rows)
        dimensions = {name: [None if np.isnan(v) else v for v in values.tolist()] for name, values in by_dimension(self.rows).items()}
        return {
            "id": self.sample.id,
            "label": self.sample.label,
            "split": self.sample.split,
            "signer": self.sample.signer,
            "files": [str(path) for path in self.files],
            "digest": self.features.digest,
            "weights": [{"stage": o.stage, "weights": o.phrase, "learned_from": o.story} for o in origins(self.features)],
            "pulled": self.pulled,
            "adopted": self.adopted,
            "stale": self.stale,
            "decoder": row.decoder,
            "source_length": row.source_length,
            "rate_hz": row.rate_hz,
            "tracks": list(row.tracks),
            "chosen": self.chosen.tolist(),
            "shape": list(self.rows.shape),
            "dtype": self.features.dtype,
            "shard": str(self.features.folder / str(shard.file)),
            "store": shard.store,
            "start": row.start,
            "statistics": {**sums.counts(), "dimensions": dimensions},
        }


def look(home: Home, dataset: str, stage: str, clip: str) -> Seen:
    """What is known of a clip; raises UserError where it does not exist, or has no features, with the reason."""
    return of_published(home, dataset, stage, lambda _: _look(home, dataset, stage, clip))


def _look(home: Home, dataset: str, stage: str, clip: str) -> Seen:
    table = manifest.read(home, dataset)
    sample = next((sample for sample in table.samples if sample.id == clip), None)
    if sample is None:
        near = did_you_mean(clip, [sample.id for sample in table.samples])
        raise UserError(f"no clip {clip!r} in {dataset!r}{near} Ids are in {home.manifests / dataset}.csv")
    features, configured = opened(home, dataset, stage), configure(home, table, stage)
    entry = features.index.entry(features.index.position[clip]) if clip in features else None
    rows = features[clip]  # raises, with the reason, where there are none or they are damaged
    assert entry is not None  # noqa: S101
    chosen = _selection(_as_published(features.said, configured), entry)
    root, frames, length = stage, chosen, entry.row.source_length
    while configured.upstream is not None:
        configured = configured.upstream
        upstream = opened(home, dataset, configured.name)
        above = upstream.index.entry(upstream.index.position[clip])
        root, frames, length = configured.name, _selection(_as_published(upstream.said, configured), above), above.row.source_length
    modality = configured.extractor.source
    files = table.paths(sample, modality)
    made = shards.read_record(features.folder / (entry.shard.name + shards.MARKER_SUFFIX)).made
    stale = staleness(configure(home, table, stage), features.said)
    return Seen(
        sample, features, entry, rows, stale, chosen, root, modality, files, frames, length, made.get("pulled"), made.get("adopted")
    )


def _as_published(said: Published, stage: Stage) -> Extractor:
    """The stage as its published rows were made, or where today's code cannot be that, as it is configured."""
    try:
        return as_published(said)
    except UserError:
        return stage.extractor


def _selection(extractor: Extractor, entry: Entry) -> NDArray[np.int64]:
    """The frames, or upstream rows, that a stage takes from a clip of this length."""
    return np.asarray(extractor.select(entry.row.source_length, entry.row.rate_hz), np.int64)
