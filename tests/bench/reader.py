"""Rows of the reader: batches of 64 in random order, warm and cold, beside what people read features with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench import rivals
from tests.bench.contest import Contestant, ContestantFailed, in_turns
from tests.bench.rows import Row, faster

PART = "reader"


@dataclass(frozen=True)
class Size:
    """How many clips, how many times fresh processes, and how many rounds each of them is asked for."""

    clips: int = 4096
    processes: int = 2
    rounds: int = 4
    cold: int = 8


@dataclass(frozen=True)
class Rival:
    """What is read how, and the floor and aim of how many times as fast ours is to be."""

    what: str
    floor: float | None = None
    aim: float | None = None


HERE: Mapping[str, Rival] = {
    "npy": Rival(".npy a clip, DataLoader", 6, 10),
    "npy_workers": Rival(".npy a clip, DataLoader, 2 workers"),
    "h5py": Rival("h5py, a dataset a clip, DataLoader", 5, 8),
    "h5py_rows": Rival("h5py, a clip of one dataset, DataLoader"),
    "zarr": Rival("zarr-python z[i], DataLoader", 40, 70),
    "zarr_plain": Rival("zarr-python z[i], uncompressed, DataLoader"),
    "copy": Rival("np.copyto of as many bytes in memory", 0.6, 0.85),
}
ELSEWHERE: Mapping[str, Rival] = {
    "webdataset": Rival("webdataset", 12, 25),
    "hugging_face": Rival("HF datasets, Arrow, DataLoader"),
    "litdata": Rival("litdata"),
}
COLD: Sequence[tuple[str, str, str, Rival]] = (
    ("ours", "float32", "cold", Rival(".npy a clip, DataLoader", 1.5, 3)),
    ("windows", "float32", "cold, by windows of shards", Rival(".npy a clip, DataLoader", 3, 4)),
    ("ours", "float16", "cold float16", Rival(".npy a clip of float16, DataLoader", 3, 4)),
)
"""Reader of ours, type of the rows, what that is, and its rival, which reads rows of that type too."""


class Unequal(RuntimeError):
    """A rival's batches are not those of ours."""


def rows(size: Size, folder: Path, *, elsewhere: bool = True) -> Iterator[Row]:
    """Every row; the clips are written below `folder` in every format first. `elsewhere`: with rivals that must be installed."""
    python, why = rivals.python() if elsewhere else ("", "not asked for")
    readers = Readers(size, folder, python)
    known = {**HERE, **(ELSEWHERE if python else {})}
    absent = {} if python else dict.fromkeys(ELSEWHERE, why)
    for name in ("npy", "ours"):
        readers.write(name)
    for name in [name for name in known if name not in ("npy", "npy_workers", "copy")]:
        try:
            readers.write(name)
        except ContestantFailed as error:
            absent[name] = f"cannot write the clips: {error}"
    os.sync()
    found = readers.warm([name for name in known if name not in absent])
    for name, rival in {**HERE, **ELSEWHERE}.items():
        if name in absent:
            yield Row(PART, f"warm: {rival.what}", "clips/s", floor=rival.floor, aim=rival.aim, absent=absent[name])
        else:
            yield _row(size, f"warm: {rival.what}", rival, found["ours"], found[name])
    for dtype in ("float32", "float16"):
        yield from readers.cold(dtype)


def _row(size: Size, what: str, rival: Rival, ours: Sequence[float], theirs: Sequence[float]) -> Row:
    return faster(PART, what, ours, theirs, count=size.clips, unit="clips", floor=rival.floor, aim=rival.aim)


@dataclass(frozen=True)
class Readers:
    """The processes of all readers."""

    size: Size
    folder: Path
    python: str

    def start(self, kind: str, dtype: str = "float32") -> Contestant:
        """A reader's process; `python` is that of the rivals."""
        shared = {"npy_workers": "npy", "windows": "ours"}
        python = self.python if kind in ELSEWHERE else sys.executable
        return Contestant(python, "tests.bench.readers", kind, self.folder / f"{shared.get(kind, kind)}-{dtype}", self.size.clips, dtype)

    def write(self, kind: str, dtype: str = "float32") -> None:
        """Have a reader write the clips, in its own process."""
        with self.start(kind, dtype) as reader:
            reader.ask("write")

    def warm(self, kinds: Sequence[str]) -> dict[str, list[float]]:
        """Seconds of each epoch of each reader, in turns; the batches of a first epoch are compared and warm."""
        found: dict[str, list[float]] = {kind: [] for kind in ("ours", *kinds)}
        for generation in range(self.size.processes):
            with ExitStack() as stack:
                readers = {kind: stack.enter_context(self.start(kind)) for kind in found}
                for reader in readers.values():
                    reader.ask("open")
                self._compare(readers)
                first = 1 + generation * self.size.rounds
                for kind, seconds in in_turns(readers, range(first, first + self.size.rounds), "seconds").items():
                    found[kind] += seconds
        return found

    @staticmethod
    def _compare(readers: Mapping[str, Contestant]) -> None:
        """Raise Unequal where a reader's batches are not ours; of one with an order of its own the clips are compared."""
        told = {kind: reader.ask("digests", 0) for kind, reader in readers.items() if kind != "copy"}
        for kind, said in told.items():
            about = "clips" if said["stream"] else "batches"
            if said[about] != told["ours"][about]:
                raise Unequal(f"{kind} reads other {about} than ours")

    def cold(self, dtype: str) -> Iterator[Row]:
        """Rows of files that the kernel has forgotten, each epoch in a process of its own."""
        chosen = [line for line in COLD if line[1] == dtype]
        if dtype != "float32":
            for kind in ("npy", "ours"):
                self.write(kind, dtype)
            os.sync()
        kinds = dict.fromkeys(["npy", *(kind for kind, *_ in chosen)])
        with ExitStack() as stack:
            readers = {kind: stack.enter_context(self.start(kind, dtype)) for kind in kinds}
            for reader in readers.values():
                reader.ask("open")
            self._compare({"ours": readers["ours"], **readers})
        found: dict[str, list[float]] = {kind: [] for kind in kinds}
        for number in range(self.size.cold):
            for kind in list(kinds)[:: -1 if number % 2 else 1]:
                with self.start(kind, dtype) as reader:
                    reader.ask("open")
                    reader.ask("forget")
                    found[kind].append(reader.ask("seconds", number))
        for kind, _, what, rival in chosen:
            yield _row(self.size, f"{what}: {rival.what}", rival, found[kind], found["npy"])
