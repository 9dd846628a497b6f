"""The folder of a machine for a cache that lies in a bucket: what is brought here, and what is sent there."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from pipeline import atomic
from pipeline.atomic import digest_of, file_sum
from pipeline.cache.mirror._publishing import swapped
from pipeline.cache.mirror._room import Room, remove, sweep
from pipeline.errors import UserError
from pipeline.objects import opened
from pipeline.objects.bucket import Bucket
from pipeline.objects.store import URL

SAID, STAMP, PUBLISHED = ".store.json", ".stamp", "published.json"
HIDDEN = (".published", ".learned")
"""Of an identity's folder, what goes with its rows where it is there."""
WORK = "SIGNCACHE_WORK"
"""In the environment: the folder in which working folders lie."""
NAME = r"[A-Za-z0-9_][\w.-]*"
MARKERS = re.compile(rf"{NAME}/{NAME}/[0-9a-f]{{16}}/[0-9]{{7}}-[0-9a-f]{{12}}\.json")
PUBLISHEDS = re.compile(rf"{NAME}/{NAME}/published\.json")
INDEX = re.compile(r"[0-9a-f]{16}/rows-[0-9a-f]+\.npz")


def folder_of(place: Path | str | None) -> Path | str | None:
    """The folder to work in for a cache at this place: itself, or of a bucket, a folder here that is like it now."""
    if place is None or not URL.match(str(place)):
        return place
    store = opened(str(place))
    if not isinstance(store, Bucket):
        return store.place
    root = Path(os.environ.get(WORK, "~/.cache/signcache")).expanduser().absolute() / digest_of(store.place)
    atomic.replace(root / SAID, json.dumps({"url": store.place}).encode())
    Mirror(root, store).refresh()
    return root


def of(folder: Path) -> Mirror | None:
    """The mirror that an identity's folder lies in, if any."""
    root = folder.parents[2] if len(folder.parents) > 2 else folder
    try:
        url = str(json.loads((root / SAID).read_bytes())["url"])
    except FileNotFoundError:
        return None
    return _mirror(root, url)


@lru_cache(maxsize=4)
def _mirror(root: Path, url: str) -> Mirror:
    return Mirror(root, Bucket(url))


class Mirror:
    """A working folder and the bucket that it works for."""

    def __init__(self, root: Path, store: Bucket) -> None:
        self.root, self.store, self.room = root, store, Room(root, store)

    def refresh(self) -> None:
        """Bring markers and what is published here, and send what was made here and is not there yet."""
        stamps = self.store.stamps()
        markers = {name for name in stamps if MARKERS.fullmatch(name)}
        lacking = [name for name in sorted(markers) if not (self.root / name).exists()]
        for name, raw in zip(lacking, self.store.read_all(lacking), strict=True):
            atomic.replace(self.root / name, raw)
        for name, stamp in stamps.items():
            if PUBLISHEDS.fullmatch(name) and self._seen((self.root / name).parent) != stamp:
                self._take_published(name)
        sweep(self.root)
        for path in self._markers_here():
            if path.relative_to(self.root).as_posix() not in markers:
                self.send(path.parent, path.name)

    def _take_published(self, name: str) -> None:
        """What is published there, its row index first: the next publication, at any moment, takes that away."""
        folder, before = (self.root / name).parent, ""
        while True:
            raw, stamp = self.store.read_stamped(name)
            said = json.loads(raw)
            identity, index = f"{folder.relative_to(self.root).as_posix()}/{said['digest']}", str(said["index"])
            if not INDEX.fullmatch(f"{said['digest']}/{index}"):
                raise UserError(f"{self.store.place}/{name} is damaged: it names the row index {index!r}; delete it, and extract again")
            try:
                atomic.replace(self.root / identity / index, self.store.read(f"{identity}/{index}"))
                break
            except FileNotFoundError:
                if stamp == before:
                    lack = f"the row index {self.store.place}/{identity}/{index} is missing"
                    raise UserError(f"{lack}; delete {name} there, and extract again") from None
                before = stamp
        for hidden in HIDDEN:
            with suppress(FileNotFoundError):
                atomic.replace(self.root / identity / hidden, self.store.read(f"{identity}/{hidden}"))
        atomic.replace(self.root / name, raw)
        atomic.replace(folder / STAMP, stamp.encode())

    def _seen(self, folder: Path) -> str:
        """The stamp of what is published of a stage as it was seen last; empty where nothing was."""
        try:
            return (folder / STAMP).read_text()
        except FileNotFoundError:
            return ""

    def _markers_here(self) -> Iterator[Path]:
        for path in self.root.glob("*/*/*/*.json"):
            if MARKERS.fullmatch(path.relative_to(self.root).as_posix()):
                yield path

    def send(self, folder: Path, marker: str) -> None:
        """Put a finished shard there: its files, then its marker."""
        raw, place = (folder / marker).read_bytes(), self._place(folder)
        for file in json.loads(raw)["checksums"]:
            self.store.send(folder / file, f"{place}/{file}")
        self.store.write(f"{place}/{marker}", raw)

    def publish(self, folder: Path, index: str, said: bytes) -> None:
        """Put an identity's row index there, then in the one step that counts what names it.

        Raises UserError where another writer has published since that was seen here: nothing is lost by it.
        """
        place, name = self._place(folder), f"{self._place(folder.parent)}/{PUBLISHED}"
        self.store.send(folder / index, f"{place}/{index}")
        self.store.write(f"{place}/{HIDDEN[0]}", said)
        if (folder / HIDDEN[1]).exists():
            self.store.send(folder / HIDDEN[1], f"{place}/{HIDDEN[1]}")
        try:
            stamp = swapped(self.store, name, said, self._seen(folder.parent))
        except FileExistsError:
            self.store.delete(f"{place}/{index}")
            raise UserError(
                f"another writer published {self.store.place}/{name} meanwhile; what was extracted is kept there, run the same line again"
            ) from None
        atomic.replace(folder.parent / STAMP, stamp.encode())
        with suppress(FileNotFoundError):
            before = json.loads((folder.parent / PUBLISHED).read_bytes())  # what it replaced there, by its stamp
            self.store.delete(f"{self._place(folder.parent)}/{before['digest']}/{before['index']}")

    def bring(self, folder: Path, shard: str) -> None:
        """Have the files of a shard here; raises UserError where they are not those of its marker."""
        if (folder / shard).exists():
            os.utime(folder / shard)  # read now: others go first
            return
        fetched, size = folder / f".{shard}.{secrets.token_hex(4)}", 0
        sums = json.loads((folder / (shard.partition(".")[0] + ".json")).read_bytes())["checksums"]
        try:
            for file, expected in sums.items():
                name, target = f"{self._place(folder)}/{file}", fetched / Path(file).relative_to(shard)
                target.parent.mkdir(parents=True, exist_ok=True)
                self.store.fetch(name, target)
                found, length = file_sum(target)
                size += length
                if found != expected:
                    raise UserError(f"{self.store.place}/{name} differs from its checksum; delete its marker there, then extract again")
            os.rename(fetched, folder / shard)
        except FileNotFoundError:
            raise UserError(f"{self.store.place} lacks files of the shard {shard}; delete its marker there, then extract again") from None
        except OSError:
            if not (folder / shard).exists():  # else another process brought it
                raise
        finally:
            remove(fetched)
        self.room.take(size, folder / shard)

    def _place(self, folder: Path) -> str:
        return folder.relative_to(self.root).as_posix()
