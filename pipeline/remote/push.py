"""Finished shards of a stage's identity brought to a remote, those that it has not."""

from __future__ import annotations

import getpass
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline import __version__
from pipeline.atomic import file_sum, sha256
from pipeline.cache import shards
from pipeline.cache.shards import MARKER_SUFFIX, Record
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.objects import ObjectStore
from pipeline.remote import catalogue
from pipeline.remote.catalogue import FORMAT, ROOT, Holding, at_once, file_place
from pipeline.remote.signing import Key


@dataclass
class Pushed:
    """What was brought: shards, clips and bytes; `known` shards whose rows were there already."""

    shards: int = 0
    clips: int = 0
    size: int = 0
    known: int = 0


def push(home: Home, stage: Stage, remote: ObjectStore, key: Key) -> Pushed:
    """Bring every finished shard of a stage, as it is today, that holds rows of content that the remote lacks.

    A shard is there when its marker is, which goes last: interrupted, the same line goes on with the next. Raises UserError
    where nothing is extracted, where a shard here is damaged, and where the remote refuses.
    """
    where = f"{stage.dataset}/{stage.name}"
    if stage.is_imported:
        raise UserError(f"the rows of {where} came from another program, so no clip tells theirs; hand them over with: signcache export")
    folder, digest = stage.folder(home), stage.fingerprint.digest
    names = shards.marker_names(folder)
    if not names:
        raise UserError(f"nothing of {where} is extracted as it is today; run: signcache extract {stage.dataset} {stage.name}")
    if not catalogue.check_format(remote):
        remote.write(ROOT, f'{{"format": {FORMAT}}}'.encode(), only_new=True)
    there = catalogue.read(remote, digest, home.cache)
    known = {row.content for held in there.holdings.values() for row in held.record.marker.rows}
    pushed = Pushed()
    for name in names:
        try:
            record = shards.read_record(folder / (name + MARKER_SUFFIX))
            new = {row.content for row in record.marker.rows} - known
            if new:
                held = _sent(folder, record, stage, remote)
        except FileNotFoundError:
            continue  # compacted meanwhile
        if not new:
            pushed.known += bool(record.marker.rows)
            continue
        catalogue.put(remote, key, digest, held)
        known |= new
        pushed.shards, pushed.clips, pushed.size = pushed.shards + 1, pushed.clips + len(new), pushed.size + held.size
    return pushed


def _sent(folder: Path, record: Record, stage: Stage, remote: ObjectStore) -> Holding:
    """A shard whose files are in the remote, and whose marker is not yet."""
    digest = stage.fingerprint.digest

    def send(file: str) -> tuple[str, tuple[str, int]]:
        found, size = file_sum(folder / file)
        if found != record.checksums[file]:
            raise UserError(f"{folder / file} differs from its checksum and stays here; run: {shards.mending(folder)}, then extract again")
        remote.send(folder / file, file_place(digest, file))
        return file, (sha256(folder / file), size)

    files: dict[str, tuple[str, int]] = dict(at_once(send, sorted(record.checksums)))
    marker = replace(record.marker, failures=())
    by = f"{getpass.getuser()}@{socket.gethostname()}"
    pushed = {"by": by, "at": time.time(), "dataset": stage.dataset, "signcache": __version__}
    return Holding(Record(marker, record.checksums, record.made), files, pushed, "")
