"""What some frames of each clip say: rows of a stage, of its network or of the cache, through a head to logits: a part of `finetuned`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._rows import real
from pipeline.data.batch import Batch, is_traced
from pipeline.errors import UserError
from pipeline.learning.backbones.backbone import Backbone, Depth, spread
from pipeline.learning.learner import Fraction
from pipeline.learning.network import Network
from pipeline.types import Extractor


class Glimpsing(Network):
    """What of a clip the network is shown, what of the network learns, and what follows it."""

    depth: Depth = "all"
    """`head`, so many of the network's last blocks, or `all`."""
    batch_norm: Literal["kept", "moving"] = "kept"
    """Whether the statistics of blocks that learn move, as a network needs that begins with random weights."""
    frames: PositiveInt = 8
    """Rows of a clip in a step, and where it scores."""
    learns_from: Literal["clips", "frames"] = "clips"
    """Whether the loss of a clip is that of its mean logits, or the mean of the losses of its rows."""
    standardised: bool = True
    """Whether rows are less their mean, by their deviation, before the layers that follow."""
    map_channels: NonNegativeInt = 0
    """Channels of a 3x3 convolution on rows that are maps, with batch norm and ReLU, before their mean; 0: none."""
    dropout: Fraction = 0.0
    hidden: NonNegativeInt = 0
    """Values of a layer before that of the classes, 0 for none."""


class RowLogits(NamedTuple):
    """`(R, n_classes)` logits of all rows of a batch, and `(B, R)` what each row counts for each clip."""

    rows: Tensor
    shares: Tensor

    def of_rows(self, labels: Tensor) -> Tensor:
        """`(R,)` labels of `(B,)` of clips."""
        return labels[self.shares.argmax(0)]


class Glimpses(nn.Module):
    """Items of a batch -> `(B, n_classes)` logits of the mean of the rows that each clip gives; one without rows has zeros for it.

    While it learns from frames, RowLogits in their place.
    """

    def __init__(self, recipe: Glimpsing, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.stage, self.frames, self.learns_from = recipe.stages[0], recipe.frames, recipe.learns_from
        self.backbone = Backbone(extractor, recipe.depth, keeps_statistics=recipe.batch_norm == "kept") if extractor else None
        shape = extractor.row_shape if extractor else (dims[self.stage],)
        if recipe.map_channels and len(shape) != 3:
            raise UserError(f"map_channels={recipe.map_channels} is of rows that are maps, and those of {self.stage!r} are {shape}")
        layers, self.width = list[nn.Module](), recipe.map_channels or shape[0]
        if recipe.map_channels:
            layers = [nn.Conv2d(shape[0], self.width, 3, padding=1), nn.BatchNorm2d(self.width), nn.ReLU()]
        self.pooled = nn.Sequential(*layers, *([nn.Flatten(2), Mean()] if len(shape) > 1 else []))
        self.standardised = Standardised(self.width) if recipe.standardised else nn.Identity()
        self.dropout = nn.Dropout(recipe.dropout)
        last = nn.Linear(recipe.hidden or self.width, n_classes)
        self.head = nn.Sequential(nn.Linear(self.width, recipe.hidden), last) if recipe.hidden else last

    def forward(self, batch: Batch) -> Tensor | RowLogits:
        if self.training and self.learns_from == "frames":
            rows, counts = self._seen(batch)
            return RowLogits(self.head(self.dropout(rows)), _shares(rows, counts))
        logits: Tensor = self.head(self.dropout(self.means(batch)))
        return logits

    def means(self, batch: Batch) -> Tensor:
        """`(B, width)`: the mean of the rows that each clip gives."""
        if is_traced():
            return self._traced(batch)
        rows, counts = self._seen(batch)
        with torch.autocast(rows.device.type, enabled=False):
            found: Tensor = _shares(rows, counts) @ rows.float()
            return found

    def settle(self, batches: Iterable[Batch]) -> None:
        """Tell the head what is usual in the rows of these batches."""
        if isinstance(self.standardised, Standardised):
            rows = [self.pooled(rows) for rows, _ in map(self._rows, batches) if len(rows)]
            if rows:
                self.standardised.show(torch.cat(rows).float())

    def _traced(self, batch: Batch) -> Tensor:
        """The same of rows that are made already, for any number of them; FinetunedPredictor refuses others."""
        rows, lengths = batch.features[self.stage].float().flatten(2), batch.lengths[self.stage]
        own = real(lengths, rows.shape[1])[:, :, None]
        seen: Tensor = self.standardised(rows)
        return seen.where(own, 0).sum(1) / lengths.clamp(min=1)[:, None]

    def _seen(self, batch: Batch) -> tuple[Tensor, list[int]]:
        """`(R, width)` rows of all clips as the head takes them, one after the other, and how many of each."""
        rows, counts = self._rows(batch)
        return (self.standardised(self.pooled(rows)) if len(rows) else rows.new_zeros(0, self.width)), counts

    def _rows(self, batch: Batch) -> tuple[Tensor, list[int]]:
        """`(R, *row_shape)` rows of all clips, and how many of each."""
        items, lengths = batch.features[self.stage], batch.lengths[self.stage].tolist()
        if self.backbone is None:
            return torch.cat([own[:length].flatten(1) for own, length in zip(items, lengths, strict=True)]).float(), lengths
        extractor, most = self.backbone.extractor, max(lengths, default=0) if self.training else self.frames
        places = [torch.from_numpy(spread(extractor, length, most)).to(items.device) for length in lengths]
        if not any(map(len, places)):
            return torch.zeros(0, *extractor.row_shape, device=items.device), [0] * len(places)
        chosen = torch.cat([own[place] for own, place in zip(items, places, strict=True) if len(place)])
        return self.backbone(chosen[:, 0] if chosen.shape[1] == 1 else chosen), [len(place) for place in places]


def _shares(rows: Tensor, counts: list[int]) -> Tensor:
    """`(B, R)`: what each row counts in the mean of each clip."""
    found = torch.zeros(len(counts), len(rows), device=rows.device)
    for clip, (end, count) in enumerate(zip(accumulate(counts), counts, strict=True)):
        found[clip, end - count : end] = 1 / max(count, 1)
    return found


class Standardised(nn.Module):
    """`(R, D)` values less their mean, by their deviation: over the rows of the batch in training, else over those that it was shown.

    Not batch norm: what differs between the rows of an untrained network is far below its epsilon, and its running mean comes too late.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def show(self, rows: Tensor) -> None:
        """From now on go by these rows."""
        self.get_buffer("mean").copy_(rows.mean(0))
        self.get_buffer("deviation").copy_(rows.std(0) if len(rows) > 1 else torch.ones_like(rows[0]))

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        if self.training and len(rows) > 1:
            return (rows - rows.mean(0)) / (rows.std(0) + 1e-6)
        return (rows - self.get_buffer("mean")) / (self.get_buffer("deviation") + 1e-6)


class Mean(nn.Module):
    """`(R, C, places)` -> `(R, C)`."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows.mean(2)
