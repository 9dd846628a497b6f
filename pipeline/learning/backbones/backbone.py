"""The network of a stage inside a training: which of its blocks learn, how it takes the items of a batch, in how much memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError
from pipeline.types import Extractor, evenly

Depth: TypeAlias = PositiveInt | Literal["head", "all"]
AT_ONCE = 64
"""Rows of a pass that keeps nothing for a backward pass."""


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """What `--depth` counts, the last ones first to learn: what the network says in `blocks`, else its children that have weights.

    One that has no children is a block itself.
    """
    blocks = getattr(network, "blocks", None)
    return [block for block in (network.children() if blocks is None else blocks) if any(True for _ in block.parameters())] or [network]


class Backbone(nn.Module):
    """Items of clips -> `(R, *row_shape)` float32 rows; the last `depth` blocks of the network learn, or all of it, or none.

    Batch norm of blocks that do not learn keeps its statistics; with `keeps_statistics`, that of the others too.
    """

    def __init__(self, extractor: Extractor, depth: Depth, *, keeps_statistics: bool) -> None:
        super().__init__()
        self.network, self.extractor = extractor.network(), extractor
        blocks = blocks_of(self.network)
        if isinstance(depth, int) and depth > len(blocks):
            raise UserError(f"--depth {depth}: the network of {type(extractor).__name__} has {len(blocks)} blocks; use --depth all")
        count = {"head": 0, "all": len(blocks)}.get(str(depth), depth)
        self.frozen: Sequence[nn.Module] = blocks[: len(blocks) - int(count)]
        self.keeps_statistics = keeps_statistics
        self.rests = not count
        """Whether nothing of it learns for now."""
        self.at_once: int | None = None
        """Rows that are computed together where a backward pass follows; None: all of a batch."""
        self.network.requires_grad_(False)
        for block in blocks[len(self.frozen) :]:
            block.requires_grad_(True)
        if not self.frozen and not hasattr(self.network, "blocks"):
            self.network.requires_grad_(True)  # what lies in no child too
        self.last = 0
        self.budget: int | None = None
        """Most bytes that rows computed together may keep for the backward pass."""

    def train(self, mode: bool = True) -> Backbone:
        super().train(mode)
        for block in [self.network] if self.rests else self.frozen:
            block.eval()
        for part in self.network.modules():
            if self.keeps_statistics and isinstance(part, _BatchNorm):
                part.eval()
        return self

    def forward(self, items: Tensor) -> Tensor:
        keeps = self.training and not self.rests and torch.is_grad_enabled()
        self.last = len(items) if keeps else 0
        if keeps and self.budget and self.at_once is None and self.keeps_statistics:
            self.at_once = max(1, self.budget // max(1, self._kept_bytes(items[:1])))
        size = (self.at_once or len(items)) if keeps else AT_ONCE
        parts = torch.split(items, max(size, 1))
        with torch.set_grad_enabled(keeps):
            if not keeps or len(parts) == 1:
                return torch.cat([self.network(part) for part in parts])
            return torch.cat([checkpoint(self.network, part, use_reentrant=False) for part in parts])

    def _kept_bytes(self, item: Tensor) -> int:
        """What the network keeps of one row for the backward pass, but for its weights."""
        own = {values.untyped_storage().data_ptr() for values in self.network.parameters()}
        kept: dict[int, int] = {}

        def note(values: Tensor) -> Tensor:
            storage = values.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
            return values

        with torch.autograd.graph.saved_tensors_hooks(note, lambda values: values):
            self.network(item)
        return sum(kept.values())

    def eases(self) -> bool:
        """Whether it computes half as many rows together from now on, each part again in the backward pass: the same up to rounding."""
        now = self.at_once or self.last
        if now < 2 or not self.keeps_statistics:
            return False
        self.at_once = now // 2
        return True


def windows_of(extractor: Extractor, items: int) -> NDArray[np.int64]:
    """`(rows, items of a row)`: the items of each row of a clip."""
    windows = extractor.rows(items)
    wide = {window.stop - window.start for window in windows}
    if len(wide) > 1:
        name = type(extractor).__name__
        raise UserError(f"{name} makes rows of {min(wide)} and of {max(wide)} items, and only rows alike can be trained on")
    starts = np.array([window.start for window in windows], np.int64)
    found: NDArray[np.int64] = starts[:, None] + np.arange(next(iter(wide), 1))
    return found


def glimpsed(extractor: Extractor, items: int, most: int, random: Generator) -> NDArray[np.int64]:
    """The items of at most `most` rows of a clip, ascending: any rows, or of windows, those that follow one another."""
    windows = windows_of(extractor, items)
    if len(windows) <= most:
        return np.arange(items)
    if windows.shape[1] == 1:
        chosen: NDArray[np.int64] = windows[np.sort(random.choice(len(windows), most, replace=False)), 0]
        return chosen
    first = int(random.integers(len(windows) - most + 1))
    return np.arange(windows[first, 0], windows[first + most - 1, -1] + 1)


def spread(extractor: Extractor, items: int, most: int) -> NDArray[np.int64]:
    """`(rows, items of a row)` of at most `most` rows of a clip, spread over it."""
    windows = windows_of(extractor, items)
    found: NDArray[np.int64] = windows[evenly(len(windows), most)]
    return found
