"""What a stage's rows are made from, as a state that tells without reading whether it changed: files, upstream rows, an import."""

from __future__ import annotations

import xxhash

from pipeline.cache import Finished, finished
from pipeline.configured import Stage, published
from pipeline.errors import UserError
from pipeline.index import Entry
from pipeline.manifest import Home, Manifest
from pipeline.media import Stat, stat_of


def inputs_of(home: Home, table: Manifest, stage: Stage) -> dict[str, Stat]:
    """`{clip: state}` of the clips that have what a stage reads; not of derived stages. Raises UserError where none has."""
    return _imported(home, stage) if stage.is_imported else _media_stats(table, stage)


def _media_stats(table: Manifest, stage: Stage) -> dict[str, Stat]:
    source = stage.extractor.source
    media = {s.id: table.paths(s, source) for s in table.samples}
    if table.samples and not any(media.values()):
        has = sorted({modality for s in table.samples for modality in s.media})
        raise UserError(f"stage {stage.name!r} reads {source!r} media, and no clip of {table.name!r} has any; it has: {', '.join(has)}")
    return {clip: stat_of(paths) for clip, paths in media.items() if paths}


def _imported(home: Home, stage: Stage) -> dict[str, Stat]:
    if published(home, stage.dataset, stage.name) is None:
        raise UserError(
            f"nothing is imported as {stage.name!r} yet; run: signcache import {stage.dataset} {stage.name} SRC --format FORMAT"
        )
    return imported_stats(finished(stage, home))


def imported_stats(done: Finished) -> dict[str, Stat]:
    """Imported rows are their own input, always as they were."""
    columns = done.index.columns
    stats = {clip: Stat(int(columns["stat"][i]), int(columns["size"][i])) for clip, i in done.index.position.items()}
    return stats | {clip: Stat(entries[0].row.stat, entries[0].row.size) for clip, entries in done.later.items()}


def derived_content(upstream: Stage, entry: Entry) -> str:
    """In place of the content hash of a derived row's input: the upstream row's key."""
    return xxhash.xxh3_128_hexdigest(f"{upstream.fingerprint.digest}:{entry.row.content}".encode())


def derived_stat(upstream: Stage, entry: Entry) -> Stat:
    """As `stat_of` for files."""
    return Stat(int(derived_content(upstream, entry)[:16], 16), entry.row.length)
