"""Is every finished shard what its marker says? Files against their checksums, rows against theirs, the index against the markers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from pipeline.atomic import digest_of, file_sum
from pipeline.cache import index, shards
from pipeline.cache.index import Index
from pipeline.cache.shards import MARKER_SUFFIX, Record
from pipeline.cache.stage import Published, of_published
from pipeline.cache.upkeep._verified import Verified
from pipeline.cache.upkeep.places import PUBLISHED, identities
from pipeline.corpus.manifest import Home
from pipeline.errors import NewerFormat, UserError
from pipeline.machine import cores

NEWER = "newer"
Say = Callable[[str, int, int], None]
"""Told of a stage's `dataset/stage`, shards looked at, and how many there are."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged file: `kind` is shard, marker, index, published or newer; `clips` are those whose features it costs."""

    dataset: str
    stage: str
    digest: str
    kind: str
    name: str
    reason: str
    clips: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = {"shard": f"shard {self.name}", "marker": f"marker {self.name}{MARKER_SUFFIX}", "index": f"row index {self.name}"}
        clips = f"; clips: {', '.join(map(repr, self.clips))}" if self.clips else ""
        return f"{self.dataset}/{self.stage}/{self.digest}: {what.get(self.kind, self.name)}: {self.reason}{clips}"


@dataclass
class Report:
    """What was looked at and what is damaged; `before` are shards that an interrupted verification had found whole."""

    shards: int = 0
    before: int = 0
    clips: int = 0
    size: int = 0
    damages: list[Damage] = field(default_factory=list)


@dataclass(frozen=True)
class _Identity:
    """One digest's folder; `listed` are the (id, start, length, checksum) that the published index gives to each of its shards."""

    dataset: str
    stage: str
    folder: Path
    listed: Mapping[str, Sequence[tuple[str, int, int, str]]] = field(default_factory=dict)

    def damage(self, kind: str, name: str, reason: str, clips: Sequence[str] | None = None) -> Damage:
        known = tuple(row[0] for row in self.listed.get(name, ()) if row[0])
        return Damage(self.dataset, self.stage, self.folder.name, kind, name, reason, known if clips is None else tuple(clips))


def verify(home: Home, dataset: str, stage: str, *, again: bool, say: Say, report: Report) -> None:
    """Add to `report` every finished shard of a stage, of the published identity and of others.

    What an interrupted verification found whole is not read again, unless `again`.
    """
    found: list[Damage] = []
    with Verified(home.cache / dataset / stage, again=again) as known, ThreadPoolExecutor(cores()) as pool:
        work, damages = _to_check(home, dataset, stage)
        todo = [job for job in work if not known.holds(job[0].folder, job[1])]
        report.before += len(work) - len(todo)
        looked = set[tuple[Path, str]]()
        while todo:
            try:
                for number, (place, name, (clips, size, own)) in enumerate(pool.map(_checked, todo), 1):
                    report.shards, report.clips, report.size = report.shards + 1, report.clips + clips, report.size + size
                    found += own
                    looked.add((place.folder, name))
                    if not own:
                        known.add(place.folder, name)
                    say(f"{dataset}/{stage}", number, len(todo))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
            work, damages = _to_check(home, dataset, stage)  # what was extracted or packed meanwhile, too
            todo = [(place, name) for place, name in work if (place.folder, name) not in looked and not known.holds(place.folder, name)]
        report.damages += [*damages, *found]
        known.complete()


_Job: TypeAlias = tuple[_Identity, str]
"""A shard to check, by its name."""


def _to_check(home: Home, dataset: str, stage: str) -> tuple[list[_Job], list[Damage]]:
    """Every finished shard, and what is damaged of `published.json`, of the row index, and of the shards that it lists."""
    try:
        return of_published(home, dataset, stage, lambda said: _listed_shards(home, dataset, stage, said))
    except UserError as error:
        jobs, _ = _listed_shards(home, dataset, stage, None)
        return jobs, [Damage(dataset, stage, "", _kind("published", error), PUBLISHED, str(error))]


def _listed_shards(home: Home, dataset: str, stage: str, said: Published | None) -> tuple[list[_Job], list[Damage]]:
    table, damages = _index_of(home, dataset, stage, said)
    folder = home.cache / dataset / stage
    places = [_Identity(dataset, stage, folder / digest, _listed(said, table, digest)) for digest in identities(home, dataset, stage)]
    jobs = [(place, name) for place in places for name in shards.marker_names(place.folder)]
    return jobs, [*damages, *(damage for place in places for damage in _lost(place))]


def _index_of(home: Home, dataset: str, stage: str, said: Published | None) -> tuple[Index | None, list[Damage]]:
    """The row index that is published, or what is damaged of it."""
    if said is None:
        return None, []
    place = _Identity(dataset, stage, home.cache / dataset / stage / said.digest)
    if digest_of(said.identity) != said.digest:
        return None, [place.damage("published", PUBLISHED, f"{PUBLISHED} names the digest of another identity")]
    try:
        return index.read(place.folder / said.index), []
    except FileNotFoundError:
        return None, [place.damage("index", said.index, "it is missing")]
    except UserError as error:
        return None, [place.damage(_kind("index", error), said.index, str(error))]


def _kind(kind: str, error: Exception) -> str:
    """What a newer signcache wrote is not to be mended by this one."""
    return NEWER if isinstance(error, NewerFormat) else kind


def _listed(said: Published | None, index_of: Index | None, digest: str) -> dict[str, list[tuple[str, int, int, str]]]:
    """Shard name -> what the published index says of its rows, where it is this digest's."""
    if said is None or index_of is None or said.digest != digest:
        return {}
    found: dict[str, list[tuple[str, int, int, str]]] = {shard.name: [] for shard in index_of.shards}
    starts, lengths, sums = (index_of.columns[name].tolist() for name in ("start", "length", "checksum"))
    for clip, start, length, checksum, shard in zip(index_of.ids, starts, lengths, sums, index_of.shard_of.tolist(), strict=True):
        found[index_of.shards[shard].name].append((clip, start, length, checksum.decode()))
    return found


def _lost(place: _Identity) -> list[Damage]:
    """Shards that are published and have no marker."""
    names = set(shards.marker_names(place.folder))
    return [place.damage("marker", name, "it is missing") for name in place.listed if name not in names]


def _checked(job: _Job) -> tuple[_Identity, str, tuple[int, int, list[Damage]]]:
    place, name = job
    clips, size, damages = check_shard(place, name)
    is_there = (place.folder / (name + MARKER_SUFFIX)).exists()
    return place, name, (clips, size, damages if is_there else [])  # set aside or packed meanwhile: no marker, no shard


def check_shard(place: _Identity, name: str) -> tuple[int, int, list[Damage]]:
    """Clips and bytes of a shard that were read, and what is damaged of it."""
    path = place.folder / (name + MARKER_SUFFIX)
    try:
        record = shards.read_record(path)
    except (UserError, OSError) as error:
        return 0, 0, [place.damage(_kind("marker", error), name, str(error))]
    if record.marker.name != name:
        return 0, 0, [place.damage("marker", name, f"it names the shard {record.marker.name!r}")]
    rows = {(row.start, row.length, row.checksum) for row in record.marker.rows}
    damages = []
    if any(row[1:] not in rows for row in place.listed.get(name, ())):
        damages.append(place.damage("index", "of " + name, "the published row index lists rows that the marker does not"))
    size, wrong = _wrong_files(place.folder, record)
    clips = _wrong_clips(place.folder, record)
    if wrong or clips:
        reason = "; ".join(wrong) or "rows differ from their checksums"
        current = {row[1:]: row[0] for row in place.listed.get(name, ()) if row[0]}
        named = [current.get((row.start, row.length, row.checksum), row.id) for row in record.marker.rows if row.id in clips]
        damages.append(place.damage("shard", name, reason, named))
    return len(record.marker.rows), size, damages


def _wrong_files(folder: Path, record: Record) -> tuple[int, list[str]]:
    """Bytes read, and a phrase for each file that is not the one that was written."""
    size, wrong = 0, []
    for part, expected in record.checksums.items():
        try:
            found, length = file_sum(folder / part)
        except OSError as error:
            wrong.append(f"{part} is missing" if isinstance(error, FileNotFoundError) else f"{part} cannot be read ({error.strerror})")
            continue
        size += length
        if found != expected:
            wrong.append(f"{part} differs from its checksum")
    return size, wrong


def _wrong_clips(folder: Path, record: Record) -> list[str]:
    """The clips whose rows are not those that were written; all of them where the shard does not open."""
    marker = record.marker
    if marker.shard is None:
        return []
    try:
        values = shards.open_shard(folder, marker.store, marker.shard)
    except UserError:
        return [row.id for row in marker.rows]
    if (values.dtype.name, tuple(values.shape[1:])) != (marker.dtype, marker.row_shape):
        return [row.id for row in marker.rows]
    return [row.id for row in marker.rows if shards.checksum(values[row.start : row.start + row.length]) != row.checksum]
