"""Published shards given to today's identity: the same bytes in its folder, markers that say on which evidence."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.atomic import sync
from pipeline.cache import index, publishing, shards
from pipeline.cache.index import Entry
from pipeline.cache.publishing import Features, finished
from pipeline.cache.shards import MARKER_SUFFIX, Marker, Record
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home


def restamp(home: Home, stage: Stage, features: Features, rows: Mapping[str, Entry], evidence: Mapping[str, Any]) -> None:
    """Link every published shard into the folder of today's identity, let its marker land, then publish `rows`.

    Killed anywhere, what was published stays so, and every marker that landed is true; the next adoption goes on.
    """
    current = {_key(features.index.entry(features.index.position[clip])): entry.row for clip, entry in rows.items()}

    def restated(marker: Marker) -> Marker:
        rows = tuple(current.get(_key(entry), entry.row) for entry in index.of_marker(marker))
        return replace(marker, rows=rows, failures=marker.failures if stage.upstream is None else ())

    relabel(home, stage, features, restated, evidence)
    failures = [] if stage.upstream else list(features.index.failures.values())
    publishing.publish(home, stage, finished(stage, home), index.build(list(rows.values())), failures)


def relabel(home: Home, stage: Stage, features: Features, restated: Callable[[Marker], Marker], evidence: Mapping[str, Any]) -> None:
    """Link every shard of these features into the folder of today's identity, and let its marker land, as `restated`, with the evidence."""
    folder = stage.folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    for shard in features.index.shards:
        record = shards.read_record(features.folder / (shard.name + MARKER_SUFFIX))
        if shard.file is not None:
            _link(features.folder / shard.file, folder / shard.file)
            sync(folder)
        before = record.made.get("adopted")
        earlier = [before["from"], *before.get("earlier", ())] if before else []
        shards.write_marker(
            folder, Record(restated(record.marker), record.checksums, {**record.made, "adopted": {**evidence, "earlier": earlier}})
        )


def _key(entry: Entry) -> tuple[str, int, str]:
    """Which row it is; one without length begins where the next does."""
    return entry.shard.name, entry.row.start, entry.row.content


def _link(source: Path, target: Path) -> None:
    """The same file or folder under another name; a copy where the file system has no hard links. What is there already is whole."""
    if source.is_dir():
        target.mkdir(exist_ok=True)
        for part in sorted(source.iterdir()):
            _link(part, target / part.name)
        sync(target)
        return
    if target.exists():
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.link(source, temporary)
    except OSError:
        shutil.copy2(source, temporary)
        sync(temporary)
    os.replace(temporary, target)
