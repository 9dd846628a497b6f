"""One training in a process of its own: it tells how long an epoch took, and how much of that it waited for batches.

python -m tests.bench.learner KIND MODEL FOLDER CLIPS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from pipeline import registry
from pipeline.data._order import order
from pipeline.data.batch import Batch, fused
from pipeline.learning.fitting import Fitting
from pipeline.learning.network import Network
from pipeline.learning.recipe import Training
from pipeline.machine import chosen_device, cores, threads
from tests.bench.clips import CLASSES, Clips, number_of
from tests.bench.contest import serve
from tests.bench.readers import KINDS, Ours, Padded, Reader

STAGES = ("features",)


class Gru(Network):
    """A GRU over landmarks, 60 a clip, and its last step: a step so short that reading shows."""

    hidden: int = 128
    stages: tuple[str, ...] = STAGES

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return GruModule(sum(dims.values()), self.hidden, n_classes)


class GruModule(nn.Module):
    """Rows -> GRU -> last step -> `(B, n_classes)` logits."""

    def __init__(self, width: int, hidden: int, n_classes: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(width, hidden, batch_first=True), nn.Linear(hidden, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = fused(batch, STAGES)
        _, last = self.gru(pack_padded_sequence(rows, lengths.cpu(), batch_first=True, enforce_sorted=False))
        logits: Tensor = self.head(last[0])
        return logits


def clips_of(model: str, count: int) -> Clips:
    """Clips like those of LIS, or a quarter as many of 60 landmark rows."""
    return Clips(count) if model == "lstm_late" else Clips(count // 4, width=1662, shortest=60, longest=60, batch=32)


def recipe_of(model: str) -> Network:
    """What PERF's steps were measured with: an LSTM of 2 x 256, a GRU of 128."""
    if model == "gru":
        return Gru(batch_size=32)
    found: Network = registry.create("model", model, {"stages": STAGES, "hidden": 256})
    return found


class OnDevice(Reader):
    """No reader: all rows lie on the device from the start, which is the least that an epoch can take."""

    def write(self) -> None:
        """Nothing: they are made as they are opened."""

    def open(self) -> None:
        self.device = chosen_device("auto")
        self.rows = torch.from_numpy(np.concatenate(list(self.clips.rows()))).to(self.device)
        self.lengths = torch.from_numpy(self.clips.lengths).to(self.device)
        self.starts = self.lengths.cumsum(0) - self.lengths

    def batches(self, epoch: int) -> Iterator[Padded]:
        for numbers in order(self.clips.lengths, self.clips.batch, epoch=epoch):
            chosen = torch.from_numpy(numbers).to(self.device)
            lengths = self.lengths[chosen]
            steps = torch.arange(int(self.clips.lengths[numbers].max()), device=self.device)
            padding = (steps >= lengths[:, None])[:, :, None]
            rows = self.rows[(self.starts[chosen][:, None] + steps).clamp_(max=len(self.rows) - 1)]
            yield numbers.tolist(), rows.masked_fill_(padding, 0), lengths


READERS = {**KINDS, "on_device": OnDevice}


class Learner:
    """A training whose batches come from the reader of `kind`."""

    def __init__(self, kind: str, model: str, folder: Path, clips: Clips) -> None:
        torch.set_num_threads(threads(cores()))
        ours = Ours(folder / "ours-float32", clips)
        ours.open()
        table = ours.table
        self.table = Training(table.ids, table.labels, table.classes, table.stages)
        self.table.labels, self.table.classes = np.arange(clips.count) % CLASSES, tuple(map(str, range(CLASSES)))
        self.reader = READERS[kind](folder / f"{kind}-float32", clips)
        self.reader.open()
        self.waited = 0.0
        self.source = self.table.batches if kind == "ours" else self._batches
        self.table.batches = self._waiting  # type: ignore[assignment, method-assign]
        torch.manual_seed(0)  # the first weights
        self.fit = Fitting(recipe_of(model), self.table, self.table.part([self.table.ids[0]]), chosen_device("auto"))

    def _batches(self, _: int, *, epoch: int, **__: Any) -> Iterator[Batch]:
        """The batches of another reader, as a training takes them."""
        found: Padded
        for found in self.reader.batches(epoch):
            ids, rows, lengths = found
            numbers = np.array([number_of(clip) for clip in ids])
            clips = tuple(map(str, ids))
            yield Batch(clips, {STAGES[0]: rows}, {STAGES[0]: lengths}, torch.from_numpy(self.table.labels[numbers]))

    def _waiting(self, size: int, **how: Any) -> Iterator[Batch]:
        batches = self.source(size, **how)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch
            del batch

    def epoch(self, number: int) -> dict[str, float]:
        """The loss, seconds, and how many of them nothing was there to learn from."""
        self.waited, began = 0.0, time.perf_counter()
        loss = self.fit._learn(number)
        return {"loss": loss, "seconds": time.perf_counter() - began, "waited": self.waited}


def main(kind: str, model: str, folder: str, count: str) -> None:
    """Answer for one training."""
    learner = Learner(kind, model, Path(folder), clips_of(model, int(count)))
    serve({"epoch": learner.epoch})


if __name__ == "__main__":
    main(*sys.argv[1:])
