"""How many times as fast as a DataLoader over one `.npy` a clip the reader is: same clips, same batches, warm, in turns.

OMP_NUM_THREADS=1 python -m tests.bench.reader [CLIPS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from pipeline.cache import open_stage
from pipeline.data import Table
from tests.feature_cache import corpus, publish

WIDTH, BATCH, ROUNDS = 2048, 64, 7


class Files(Dataset[torch.Tensor]):
    """One `.npy` a clip, as most code keeps features."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> torch.Tensor:
        return torch.from_numpy(np.load(self.files[number]))


def padded(clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips])


def seconds(epoch: Callable[[], None]) -> float:
    began = time.perf_counter()
    epoch()
    return time.perf_counter() - began


def main(clips: int) -> None:
    """Print clips a second of both, medians of interleaved rounds, and their ratio."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home, manifest = corpus(root, {f"sign{i % 8}/clip{i}": ("train" if i % 10 else "val", "") for i in range(clips)})
        rows = {s.id: random.normal(size=(random.integers(12, 31), WIDTH)).astype(np.float32) for s in manifest.samples}
        publish(home, manifest, rows, shard_clips=64)
        files = [root / f"{number}.npy" for number in range(clips)]
        for file, clip in zip(files, rows.values(), strict=True):
            np.save(file, clip)
        features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
        table = Table(tuple(rows), np.zeros(clips, np.int64), manifest.classes, {"resnet50": features})
        loader = DataLoader(Files(files), BATCH, shuffle=True, collate_fn=padded)

        def ours(epoch: int) -> None:
            for _ in table.batches(BATCH, epoch=epoch):
                pass

        def theirs() -> None:
            for _ in loader:
                pass

        flat = np.concatenate(list(rows.values()))
        copy = np.empty_like(flat)
        found: dict[str, list[float]] = {"reader": [], "npy": [], "copyto": []}
        for number in range(ROUNDS + 1):
            taken = {"reader": seconds(partial(ours, number)), "npy": seconds(theirs), "copyto": seconds(partial(np.copyto, copy, flat))}
            for name, value in taken.items():
                if number:  # the first round warms
                    found[name].append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(f"reader {clips / medians['reader']:.0f} clips/s, one .npy a clip with a DataLoader {clips / medians['npy']:.0f} clips/s")
    print(f"ratio {medians['npy'] / medians['reader']:.1f}, share of np.copyto {medians['copyto'] / medians['reader']:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1024)
