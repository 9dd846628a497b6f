"""Shards of a remote taken into this cache for the clips that lack rows: fetched, held against their sums, tried, then marked."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline import atomic, machine, registry
from pipeline.cache import index, shards
from pipeline.cache.index import Entry, Index
from pipeline.cache.locking import pulling, shared
from pipeline.cache.publishing import Finished
from pipeline.cache.shards import MARKER_SUFFIX, Record, Row
from pipeline.cache.stage import Stage
from pipeline.cache.upkeep.garbage import delete
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.media import exists
from pipeline.errors import UserError
from pipeline.extraction.plan import StagePlan, plan
from pipeline.extraction.progress import Progress
from pipeline.extraction.recognition import settle
from pipeline.objects import ObjectStore
from pipeline.remote import catalogue, names
from pipeline.remote._trial import Evidence, tried
from pipeline.remote._trial import Here as Here
from pipeline.remote._trial import Trust as Trust
from pipeline.remote.catalogue import Holding, at_once, file_place


@dataclass
class Pulled:
    """What was taken: clips that have rows by it, shards, bytes, rows extracted again to try them; and why other shards were not."""

    clips: int = 0
    shards: int = 0
    size: int = 0
    tried: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def pull_all(
    home: Home, table: Manifest, stages: Sequence[Stage], remote: ObjectStore, trust: Trust, only: Collection[str] = ()
) -> dict[str, Pulled]:
    """What was taken of each stage, those that others derive from first; of imported ones there is nothing to take."""
    return {stage.name: pull(Here(home, table, stage, Progress()), remote, trust, only) for stage in stages if not stage.is_imported}


def pull(here: Here, remote: ObjectStore, trust: Trust, only: Collection[str] = ()) -> Pulled:
    """Take the rows of a stage's identity for every clip to do whose content the remote has, under whatever name it was pushed.

    Nothing is published by it: the next extraction does that. What was fetched is fetched once, however often this is interrupted.
    Raises UserError where the remote cannot be read, where its format is newer, and where there is no room.
    """
    stage, pulled = here.stage, Pulled()
    with shared(here.home, here.table.name, [stage.name]), pulling(here.home, here.table.name, stage.name):
        wanted = settle(plan(here.home, here.table, [stage])[stage.name], here.table)
        wanted = replace(wanted, todo=[todo for todo in wanted.todo if not only or todo.sample.id in only])
        if not wanted.todo:
            return pulled
        held = catalogue.read(remote, stage.fingerprint.digest, here.home.cache)
        pulled.refused.update(held.refused)
        away = _away(here, remote, wanted)
        while found := _found(wanted, held.rows(pulled.refused), here.table, away):
            holdings = [held.holdings[name] for name in sorted({entry.shard.name for entry in found.values()})]
            whole = _staged(here, remote, holdings, pulled)
            for name, evidence in tried(here, trust, whole, found, away).items():
                if isinstance(evidence, str):
                    pulled.refused[name] = evidence
                    continue
                _land(here, held.holdings[name], found, remote.place, evidence)
                pulled.shards, pulled.size = pulled.shards + 1, pulled.size + held.holdings[name].size
                pulled.tried += len(evidence.sample)
            taken = {clip for clip, entry in found.items() if entry.shard.name not in pulled.refused}
            pulled.clips += len(taken)
            wanted = replace(wanted, todo=[todo for todo in wanted.todo if todo.sample.id not in taken])
        shutil.rmtree(here.staging, ignore_errors=True)
    return pulled


def _found(wanted: StagePlan, rows: Index, table: Manifest, away: Mapping[str, str]) -> Mapping[str, Entry]:
    """The rows that clips to do have in a remote, as if those were renamed ones of this cache; of those `away` by what they held."""
    done = Finished(rows, index.build([]))
    found = settle(replace(wanted, done=done, found={}), table).found
    for todo in wanted.todo:
        entry = done.by_content(away.get(todo.sample.id, ""))
        if entry is not None:  # known by this state while its files are away, by content when they come
            found[todo.sample.id] = Entry(replace(entry.row, id=todo.sample.id, stat=todo.stat.token), entry.shard)
    return found


def _away(here: Here, remote: ObjectStore, wanted: StagePlan) -> Mapping[str, str]:
    """`{clip: content hash}` of clips to do whose files are not here, as far as the remote knows them under the same name."""
    source = here.stage.extractor.source
    gone = [todo.sample for todo in wanted.todo if not any(exists(path) for path in here.table.paths(todo.sample, source))]
    if here.stage.upstream or not gone:
        return {}
    known = names.contents_of(remote, here.table, source)
    return {sample.id: known[sample.id] for sample in gone if sample.id in known}


def _staged(here: Here, remote: ObjectStore, holdings: list[Holding], pulled: Pulled) -> list[str]:
    """The names of those shards that are fetched and whole; the others are refused."""
    staging, stage = here.staging, here.stage
    size = sum(held.size for held in holdings)
    free = machine.free_bytes(staging)
    if size > free:
        shown = f"{machine.shown_size(size)} are to be fetched and {machine.shown_size(free)} are free"
        raise UserError(f"{shown} at {staging}; make room, or use another cache: signcache --cache DIR")
    staging.mkdir(parents=True, exist_ok=True)

    def fetch(held: Holding) -> str:
        try:
            for file, said in held.files.items():
                _fetched(remote, file_place(stage.fingerprint.digest, file), staging / file, said)
            return _wrong(staging, held, stage)
        except FileNotFoundError:
            return "its files are not there"
        except ValueError as error:
            return str(error)

    whole = list[str]()
    for held, reason in zip(holdings, at_once(fetch, holdings), strict=True):
        if reason:
            pulled.refused[held.name] = reason
            shutil.rmtree(staging / str(held.record.marker.shard), ignore_errors=True)
        else:
            whole.append(held.name)
    return whole


def _fetched(remote: ObjectStore, name: str, file: Path, said: tuple[str, int]) -> None:
    """Bring an object here, unless it was by a run that was interrupted; raises ValueError where it is not what was pushed."""
    if file.exists() and _sum(file) == said:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    remote.fetch(name, file)
    if _sum(file) != said:
        raise ValueError(f"{name} differs from its checksum")


def _sum(file: Path) -> tuple[str, int]:
    return atomic.sha256(file), file.stat().st_size


def _wrong(staging: Path, held: Holding, stage: Stage) -> str:
    """Why a shard with the right files is none of this stage, or an empty string."""
    marker = held.record.marker
    try:
        if marker.shard != marker.name + registry.create("store", marker.store).suffix:
            return f"{marker.shard} is no shard of the store {marker.store}"
        values = shards.open_shard(staging, marker.store, str(marker.shard))
    except UserError as error:
        return str(error)
    made, declared = (values.dtype.name, tuple(values.shape[1:])), (stage.extractor.dtype, stage.extractor.row_shape)
    if made != declared:
        return f"it holds {made[0]} {made[1]}, and the stage makes {declared[0]} {declared[1]}"
    for row in marker.rows:
        if shards.checksum(np.asarray(values[row.start : row.start + row.length])) != row.checksum:
            return f"the rows of {row.id!r} differ from their checksum"
    return ""


def _land(here: Here, held: Holding, found: Mapping[str, Entry], place: str, evidence: Evidence) -> None:
    """Put a shard that is believed where those of the stage lie, then its marker: rows under the ids that their clips have here."""
    record, file, folder = held.record, str(held.record.marker.shard), here.stage.folder(here.home)
    ours = {(entry.shard.name, entry.row.start, entry.row.content): entry.row for entry in found.values()}
    rows = tuple(ours.get((held.name, row.start, row.content)) or _nobodys(row) for row in record.marker.rows)
    if (folder / file).exists() and not (folder / (held.name + MARKER_SUFFIX)).exists():  # killed before its marker
        delete(folder / file)
    shards.bring_to_disk(here.staging / file)
    os.replace(here.staging / file, folder / file)
    atomic.sync(folder)
    pushed = {"by": held.pushed["by"], "pushed_at": held.pushed["at"], "signer": held.signer}
    pulled = {"from": place, **pushed, **evidence.as_json(), "at": time.time()}
    made = {**record.made, "stage": here.stage.kind, "settings": dict(here.stage.settings), "pulled": pulled}
    shards.write_marker(folder, Record(replace(record.marker, rows=rows), record.checksums, made))


def _nobodys(row: Row) -> Row:
    """A row of no clip of this corpus; should its clip come, it is found by its content."""
    return replace(row, id=index.ORPHAN, stat=0)
