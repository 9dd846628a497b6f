"""Readers of the rivals' own environment: webdataset, HF datasets, litdata. Each in the setting in which it is fast here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.types import Array
from tests.bench.clips import Clips
from tests.bench.readers import Items, Padded, Reader, padded

SHARD = 256
"""Clips of a tar file."""


class WebDataset(Reader):
    """Tar files of `.npy` members, shuffled by file and in a buffer."""

    stream = True

    def write(self) -> None:
        import webdataset

        self.folder.mkdir(parents=True)
        with webdataset.ShardWriter(str(self.folder / "clips-%04d.tar"), maxcount=SHARD, verbose=0) as out:
            for number, rows in enumerate(self.clips.rows()):
                content = io.BytesIO()
                np.save(content, rows)
                out.write({"__key__": f"clip{number}", "npy": content.getvalue()})

    def open(self) -> None:
        self.files = sorted(map(str, self.folder.glob("*.tar")))

    def batches(self, epoch: int) -> Iterable[Padded]:
        import webdataset

        found = webdataset.WebDataset(self.files, shardshuffle=len(self.files), seed=epoch, empty_check=False)
        found = found.shuffle(1000).decode().to_tuple("__key__", "npy").batched(self.clips.batch, collation_fn=_padded)
        return found  # type: ignore[no-any-return]


def _padded(items: Sequence[tuple[Any, Array]]) -> Padded:
    return padded([(clip, torch.from_numpy(np.asarray(rows))) for clip, rows in items])


class HuggingFace(Items):
    """An Arrow table, a clip a row, read a batch at a time in numpy's form."""

    def write(self) -> None:
        import datasets

        def clips() -> Iterator[dict[str, object]]:
            for rows in self.clips.rows():
                yield {"rows": rows.reshape(-1)}

        features = datasets.Features({"rows": datasets.Sequence(datasets.Value(self.clips.dtype))})
        datasets.disable_progress_bars()
        cache = str(self.folder / "cache")
        datasets.Dataset.from_generator(clips, features=features, cache_dir=cache).save_to_disk(str(self.folder / "table"))

    def open(self) -> None:
        import datasets

        self.table = datasets.load_from_disk(str(self.folder / "table")).with_format("numpy")

    def __getitems__(self, numbers: list[int]) -> list[tuple[int, torch.Tensor]]:
        found = self.table[numbers]["rows"]
        return [(i, torch.from_numpy(np.asarray(rows).reshape(-1, self.clips.width))) for i, rows in zip(numbers, found, strict=True)]


class LitData(Reader):
    """Chunks of 64 MB, shuffled by chunk and within."""

    stream = True

    def write(self) -> None:
        from litdata.streaming import Cache

        self.folder.mkdir(parents=True)
        cache = Cache(str(self.folder), chunk_bytes="64MB")
        for number, rows in enumerate(self.clips.rows()):
            cache[number] = {"number": number, "rows": rows}
        cache.done()
        cache.merge()

    def open(self) -> None:
        from litdata import StreamingDataset

        self.found = StreamingDataset(str(self.folder), shuffle=True, drop_last=False, batch_decode=0)

    def batches(self, epoch: int) -> Iterable[Padded]:
        self.found.set_epoch(epoch + 1)
        return DataLoader(self.found, self.clips.batch, collate_fn=_of_numbers)


def _of_numbers(items: Sequence[dict[str, Any]]) -> Padded:
    return _padded([(item["number"], item["rows"]) for item in items])


STREAMS: dict[str, Callable[[Path, Clips], Reader]] = {"webdataset": WebDataset, "hugging_face": HuggingFace, "litdata": LitData}
