"""One reader in a process of its own: it writes the clips in its format, says what its batches hold, and times epochs.

python -m tests.bench.readers KIND FOLDER CLIPS DTYPE
"""

from __future__ import annotations

import json
import sys
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from pipeline.data._order import order
from pipeline.types import Array
from tests.bench.clips import Clips, forget, number_of
from tests.bench.contest import serve

Padded = tuple[Sequence[object], Tensor, Tensor]
"""Ids or numbers of clips, `(B, T, D)` rows, `(B,)` lengths."""


class Reader:
    """Reads the clips from `folder`, which `write` fills. A `stream` has an order of its own."""

    stream = False

    def __init__(self, folder: Path, clips: Clips) -> None:
        self.folder, self.clips = folder, clips

    @abstractmethod
    def write(self) -> None:
        """Put the clips there."""

    @abstractmethod
    def open(self) -> None:
        """Get ready to read; is not timed."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterable[Padded]:
        """Every clip once."""


class Ours(Reader):
    """Batches of this project, from features that `signcache import` took over."""

    def write(self) -> None:
        from pipeline.corpus.manifest import Home
        from pipeline.formats import import_rows

        npy = Npy(self.folder.parent / f"npy-{self.clips.dtype}", self.clips)
        if not npy.folder.exists():
            npy.write()
        import_rows(Home(self.folder / "cache", self.folder / "manifests"), "lislike", "features", npy.folder, "npy")

    def open(self) -> None:
        from pipeline.cache import open_stage
        from pipeline.data.table import Table

        features = open_stage("lislike", "features", cache=self.folder / "cache", manifests=self.folder / "manifests")
        ids = tuple(map(self.clips.id, range(self.clips.count)))
        self.table = Table(ids, np.zeros(len(ids), np.int64), ("sign",), {"features": features})

    def batches(self, epoch: int) -> Iterable[Padded]:
        for batch in self.table.batches(self.clips.batch, epoch=epoch):
            yield batch.ids, batch.features["features"], batch.lengths["features"]


class Windows(Ours):
    """The same as if it were too much for memory: eight windows of whole shards."""

    stream = True

    def open(self) -> None:
        from pipeline.data import _order

        super().open()
        _order.RESIDENT_BYTES = 0
        _order.WINDOW_BYTES = int(self.clips.lengths.sum()) * self.clips.width * np.dtype(self.clips.dtype).itemsize // 8


class Items(Reader, Dataset[tuple[int, Tensor]]):
    """What a DataLoader reads clip by clip, in the very order of ours."""

    workers = 0

    def __len__(self) -> int:
        return self.clips.count

    def __getitem__(self, number: int) -> tuple[int, Tensor]:
        return number, torch.from_numpy(self.rows(number))

    @abstractmethod
    def rows(self, number: int) -> Array:
        """`(T, D)` of a clip."""

    def __iter__(self) -> Iterator[list[int]]:
        return (batch.tolist() for batch in order(self.clips.lengths, self.clips.batch, epoch=self.epoch))

    def loader(self) -> DataLoader[Any]:
        own = torch.Generator()  # a loader draws from its generator: from torch's own it would change a model's dropout
        stays = self.workers > 0
        return DataLoader(self, batch_sampler=self, collate_fn=padded, num_workers=self.workers, persistent_workers=stays, generator=own)

    def batches(self, epoch: int) -> Iterable[Padded]:
        self.epoch = epoch
        if not hasattr(self, "_loader"):
            self._loader = self.loader()
        return self._loader


def padded(items: Sequence[tuple[int, Tensor]]) -> Padded:
    """As most code puts clips together."""
    rows = [rows for _, rows in items]
    return [number for number, _ in items], pad_sequence(rows, batch_first=True), torch.tensor([len(clip) for clip in rows])


class Npy(Items):
    """A `.npy` a clip, as most code keeps features."""

    def write(self) -> None:
        for path, rows in zip(self.paths(), self.clips.rows(), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows)

    def paths(self) -> list[Path]:
        return [self.folder / "train" / f"{self.clips.id(number)}.npy" for number in range(self.clips.count)]

    def open(self) -> None:
        self.files = self.paths()

    def rows(self, number: int) -> Array:
        return np.load(self.files[number])  # type: ignore[no-any-return]


class NpyWorkers(Npy):
    """The same with two worker processes."""

    workers = 2


class H5py(Items):
    """A HDF5 dataset a clip, as feature files of videos mostly are."""

    def write(self) -> None:
        import h5py

        self.folder.mkdir(parents=True)
        with h5py.File(self.folder / "clips.h5", "x") as file:
            for number, rows in enumerate(self.clips.rows()):
                file.create_dataset(self.clips.id(number), data=rows)

    def open(self) -> None:
        import h5py

        self.file = h5py.File(self.folder / "clips.h5", "r")
        self.names = [self.clips.id(number) for number in range(self.clips.count)]

    def rows(self, number: int) -> Array:
        return self.file[self.names[number]][()]  # type: ignore[no-any-return]


class H5pyRows(Items):
    """One HDF5 dataset of all rows, of which h5py reads a clip at a time."""

    def write(self) -> None:
        import h5py

        self.folder.mkdir(parents=True)
        with h5py.File(self.folder / "rows.h5", "x") as file:
            rows = file.create_dataset("rows", (int(self.clips.lengths.sum()), self.clips.width), self.clips.dtype)
            for end, clip in zip(np.cumsum(self.clips.lengths).tolist(), self.clips.rows(), strict=True):
                rows[end - len(clip) : end] = clip

    def open(self) -> None:
        import h5py

        self.file = h5py.File(self.folder / "rows.h5", "r")["rows"]
        self.ends = np.cumsum(self.clips.lengths).tolist()
        self.lengths = self.clips.lengths.tolist()

    def rows(self, number: int) -> Array:
        return self.file[self.ends[number] - self.lengths[number] : self.ends[number]]  # type: ignore[no-any-return]


class Zarr(Items):
    """One zarr array of all clips, a chunk a clip, compressed as zarr does unless told, of which zarr-python reads `z[i]`."""

    compressors: str | None = "auto"

    def write(self) -> None:
        import zarr

        shape = (self.clips.count, self.clips.longest, self.clips.width)
        chunks, packed = (1, *shape[1:]), self.compressors
        array = zarr.create_array(store=self.folder, shape=shape, dtype=self.clips.dtype, chunks=chunks, compressors=packed)  # type: ignore[arg-type]
        for number, rows in enumerate(self.clips.rows()):
            array[number, : len(rows)] = rows

    def open(self) -> None:
        import zarr

        self.array = zarr.open_array(self.folder, mode="r")
        self.lengths = self.clips.lengths.tolist()

    def rows(self, number: int) -> Array:
        return np.asarray(self.array[number])[: self.lengths[number]]


class ZarrPlain(Zarr):
    """The same, uncompressed."""

    compressors = None


class Copy(Reader):
    """No reader: np.copyto of as many bytes in memory, which is what a machine can do."""

    def open(self) -> None:
        self.rows = np.concatenate(list(self.clips.rows()))
        self.copy = np.empty_like(self.rows)

    def batches(self, epoch: int) -> Iterable[Padded]:
        np.copyto(self.copy, self.rows)
        return [(range(self.clips.count), torch.empty(0), torch.empty(0))]


KINDS: dict[str, Callable[[Path, Clips], Reader]] = {
    "ours": Ours,
    "windows": Windows,
    "npy": Npy,
    "npy_workers": NpyWorkers,
    "h5py": H5py,
    "h5py_rows": H5pyRows,
    "zarr": Zarr,
    "zarr_plain": ZarrPlain,
    "copy": Copy,
}


def digests(batches: Iterable[Padded]) -> dict[str, str]:
    """What the batches hold, as hashes: of the batches in their order, and of the clips whatever theirs."""
    whole, clips = xxhash.xxh3_64(), dict[int, str]()
    for ids, rows, lengths in batches:
        numbers = [number_of(clip) for clip in ids]
        whole.update(json.dumps([numbers, list(rows.shape), lengths.tolist()]).encode())
        whole.update(np.ascontiguousarray(rows.numpy()).data)
        for number, clip, length in zip(numbers, rows.numpy(), lengths.tolist(), strict=True):
            if clip[length:].any() or number in clips:
                raise ValueError(f"clip {number} comes twice, or its padding is not zero")
            clips[number] = xxhash.xxh3_64_hexdigest(np.ascontiguousarray(clip[:length]).data)
    return {"batches": whole.hexdigest(), "clips": xxhash.xxh3_64_hexdigest(json.dumps(sorted(clips.items())).encode())}


def seconds(reader: Reader, epoch: int) -> float:
    """How long an epoch takes; raises where clips are missing."""
    began, clips = time.perf_counter(), 0
    for ids, _, _ in reader.batches(epoch):
        clips += len(ids)
    taken = time.perf_counter() - began
    if clips != reader.clips.count:
        raise ValueError(f"{clips} of {reader.clips.count} clips were read")
    return taken


def main(kind: str, folder: str, count: str, dtype: str) -> None:
    """Answer for one reader."""
    from tests.bench.streams import STREAMS

    torch.set_num_threads(1)
    reader = {**KINDS, **STREAMS}[kind](Path(folder), Clips(int(count), dtype=dtype))
    serve(
        {
            "write": reader.write,
            "open": reader.open,
            "forget": lambda: forget(reader.folder),
            "digests": lambda epoch: {**digests(reader.batches(epoch)), "stream": reader.stream},
            "seconds": lambda epoch: seconds(reader, epoch),
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
