"""What lies in a remote: shards of an identity under `shards/`, and, put last, what each of them holds under `markers/`.

signcache.json                                  {"format": 1}
shards/<digest>/<shard>.zarr/...                the files of a shard, as they lie in a cache
markers/<digest>/<shard>.json                   signed: its marker, the SHA-256 and the bytes of each file, who pushed it
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from pipeline import atomic
from pipeline.cache import index
from pipeline.cache.index import Index
from pipeline.cache.shards import Marker, Record, Row
from pipeline.errors import NewerFormat, UserError
from pipeline.objects import ObjectStore
from pipeline.remote import signing
from pipeline.remote.signing import Key

FORMAT = 1
ROOT = "signcache.json"
COPIES = ".remotes"
"""In the cache's folder: what remotes were seen to hold, for it never changes."""
SHARD = re.compile(r"[0-9]{7}-[0-9a-f]{12}")
CONNECTIONS = 8
Item = TypeVar("Item")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Holding:
    """A shard in a remote: its record, of each file the SHA-256 and the bytes, who pushed it when, and who signed that."""

    record: Record
    files: Mapping[str, tuple[str, int]]
    pushed: Mapping[str, Any]
    signer: str

    @property
    def name(self) -> str:
        return self.record.marker.name

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(size for _, size in self.files.values())


@dataclass(frozen=True)
class Catalogue:
    """What a remote holds of an identity; `refused` says why shards there are not believed."""

    holdings: Mapping[str, Holding]
    refused: Mapping[str, str]

    def rows(self, without: Iterable[str] = ()) -> Index:
        """The rows of all shards but these, under no id: who has them knows them by their content."""
        left_out = frozenset(without)
        kept = [held.record.marker for name, held in sorted(self.holdings.items(), reverse=True) if name not in left_out]
        return index.build([entry for marker in kept for entry in index.of_marker(marker)])  # the lowest name is found first


def check_format(remote: ObjectStore) -> bool:
    """Whether anything was pushed to a remote; raises NewerFormat where a newer signcache did."""
    try:
        found = json.loads(remote.read(ROOT))["format"]
    except FileNotFoundError:
        return False
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{remote.place}/{ROOT} is damaged ({error}); name another place, or empty this one and push again") from error
    if found > FORMAT:
        raise NewerFormat(f"{remote.place}/{ROOT}", found, FORMAT)
    return True


def read(remote: ObjectStore, digest: str, copies: Path) -> Catalogue:
    """What a remote holds of an identity; what was read before is taken from the folder `copies`."""
    if not check_format(remote):
        raise UserError(f"{remote.place} holds no features; push some first: signcache push NAME STAGE {remote.place}")
    folder, believed = copies / COPIES / atomic.digest_of(remote.place) / digest, signing.believed()
    holdings, refused = dict[str, Holding](), dict[str, str]()
    names = sorted(shards_in(remote, digest))
    for name, raw in zip(names, at_once(lambda name: _marker(remote, digest, name, folder), names), strict=True):
        try:
            held = _holding(raw, digest, name)
        except NewerFormat:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            refused[name] = f"its marker is damaged ({error})"
            continue
        if believed and held.signer not in believed:
            refused[name] = f"{held.signer[:16]}... signed it, who is not among {signing.SIGNERS}"
        else:
            holdings[name] = held
    return Catalogue(holdings, refused)


def shards_in(remote: ObjectStore, digest: str) -> set[str]:
    """The names of the shards of an identity."""
    found = (name.rpartition("/")[2].removesuffix(".json") for name in remote.names(f"markers/{digest}/"))
    return {name for name in found if SHARD.fullmatch(name)}


def put(remote: ObjectStore, key: Key, digest: str, held: Holding) -> None:
    """Let a shard be there whose files are."""
    marker = {"marker": asdict(held.record.marker), "checksums": dict(held.record.checksums), "made": dict(held.record.made)}
    files = {name: list(said) for name, said in held.files.items()}
    said = {"format": FORMAT, "digest": digest, **marker, "files": files, "pushed": dict(held.pushed)}
    remote.write(f"markers/{digest}/{held.name}.json", key.signed(said))


def file_place(digest: str, file: str) -> str:
    """The object that holds a file of a shard."""
    return f"shards/{digest}/{file}"


def at_once(work: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """What `work` makes of each, in their order, several at a time: a remote answers late, not slowly."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            yield from pool.map(work, items)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _marker(remote: ObjectStore, digest: str, name: str, folder: Path) -> bytes:
    copy = folder / f"{name}.json"
    if copy.exists():
        return copy.read_bytes()
    raw = remote.read(f"markers/{digest}/{name}.json")
    try:
        _holding(raw, digest, name)
    except (ValueError, KeyError, TypeError, AttributeError, UserError):
        return raw  # what is damaged now may be mended there
    atomic.replace(copy, raw)
    return raw


def _holding(raw: bytes, digest: str, name: str) -> Holding:
    """What a marker says. Raises ValueError where it says what cannot be, or another shard's or identity's."""
    content = signing.checked(raw)
    if content["format"] > FORMAT:
        raise NewerFormat(name, content["format"], FORMAT)
    said = content["marker"]
    rows = tuple(Row(**{**row, "tracks": tuple(row["tracks"])}) for row in said["rows"])
    marker = Marker(said["name"], said["shard"], said["store"], said["dtype"], tuple(said["row_shape"]), rows, ())
    files = {str(file): (str(sha256), int(size)) for file, (sha256, size) in content["files"].items()}
    if (content["digest"], marker.name) != (digest, name) or str(marker.shard).partition(".")[0] != name:
        raise ValueError("it is that of another shard")
    for file in files:
        parts = file.split("/")
        if parts[0] != marker.shard or {"", ".", ".."} & set(parts) or "\\" in file:
            raise ValueError(f"it names the file {file!r}, which is none of its shard")
    if set(files) != set(content["checksums"]) or not rows:
        raise ValueError("its files are not those of its marker")
    return Holding(Record(marker, content["checksums"], content["made"]), files, content["pushed"], content["signer"])
