"""Occlusion: how much surer a model is of a label with a part, a stage or a moment than with nothing in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from pipeline.data.batch import Batch
from pipeline.layouts import Layout
from pipeline.learning.recipe import Predictor
from pipeline.types import Array

AT_ONCE = 8
MOMENTS = 16
"""Most pieces of a clip's time that are hidden one after the other."""
WHOLE = "all of it"


@dataclass(frozen=True)
class Piece:
    """What is hidden together: some columns of a stage's rows, or a moment, from one share of the clip's time to another."""

    stage: str
    part: str
    columns: slice | None = None
    moment: tuple[float, float] | None = None


@dataclass(frozen=True)
class Hidden:
    """What each piece is worth: by how much the log odds of the label fall without it; below 0 it speaks against the label."""

    parts: Mapping[tuple[str, str], float]
    moments: Array
    """`(M,)`, of all stages together."""

    def shares(self) -> dict[tuple[str, str], float]:
        """What of all that speaks for the label, or against it, is each part's; 0 where nothing does."""
        total = sum(abs(worth) for worth in self.parts.values())
        return {piece: abs(worth) / total if total else 0.0 for piece, worth in self.parts.items()}


def neutral(predictor: Predictor, batch: Batch) -> dict[str, Tensor]:
    """`{stage: row_shape}`, which says nothing: the mean of the training rows where the model is normalised by it, else zeros."""
    found = {stage: torch.zeros(rows.shape[2:]) for stage, rows in batch.features.items()}
    for part in getattr(predictor, "module", torch.nn.Identity()).modules():
        mean, stages = getattr(part, "mean", None), getattr(part, "stages", ())
        widths = [found[stage].numel() for stage in stages]
        if isinstance(mean, Tensor) and mean.shape == (sum(widths),):
            means = torch.split(mean.cpu(), widths)
            found |= {stage: own.reshape(found[stage].shape) for stage, own in zip(stages, means, strict=True)}
    return found


def hide(predictor: Predictor, batch: Batch, label: int, layouts: Mapping[str, Layout | None]) -> Hidden:
    """Of one clip: its parts, by the layouts of its stages or each stage as a whole, and its moments."""
    parts, longest = pieces(batch, layouts), max((int(lengths[0]) for lengths in batch.lengths.values()), default=0)
    count = min(MOMENTS, longest)
    moments = [Piece("", "", moment=(number / count, (number + 1) / count)) for number in range(count)]
    nothing = neutral(predictor, batch)
    before, *after = _said(predictor, label, [batch, *(without(batch, piece, nothing) for piece in (*parts, *moments))])
    worth = before - np.array(after)
    found = {(piece.stage, piece.part): float(value) for piece, value in zip(parts, worth, strict=False)}
    return Hidden(found, worth[len(parts) :])


def pieces(batch: Batch, layouts: Mapping[str, Layout | None]) -> list[Piece]:
    """The parts of every stage that the clip has rows of."""
    found = []
    for stage, lengths in batch.lengths.items():
        layout = layouts.get(stage)
        columns = layout.columns if layout else {WHOLE: slice(None)}
        found += [Piece(stage, part, place) for part, place in columns.items()] if int(lengths[0]) else []
    return found


def log_odds(logits: Tensor, label: int) -> Tensor:
    """`(B,)` of `(B, C)` scores: the logarithm of how much likelier the label is than all others together."""
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1)
    return logits[:, label] - others.logsumexp(1)


def _said(predictor: Predictor, label: int, clips: Iterable[Batch]) -> list[float]:
    """The log odds of the label in each of these."""
    found: list[float] = []
    for together in batched(clips, AT_ONCE):
        found += log_odds(torch.from_numpy(predictor.logits(joined(together))).double(), label).tolist()
    return found


def batched(clips: Iterable[Batch], count: int) -> Iterator[list[Batch]]:
    rest = iter(clips)
    while group := list(islice(rest, count)):
        yield group


def without(batch: Batch, piece: Piece, nothing: Mapping[str, Tensor]) -> Batch:
    """One clip with nothing in the place of a piece."""
    own = [piece.stage] if piece.moment is None else list(batch.features)
    features = {stage: _blanked(batch.features[stage], int(batch.lengths[stage][0]), piece, nothing[stage]) for stage in own}
    return replace(batch, features={**batch.features, **features})


def _blanked(rows: Tensor, length: int, piece: Piece, nothing: Tensor) -> Tensor:
    found = rows.clone()
    if piece.moment is None:
        found[:, :length, piece.columns] = nothing[piece.columns].to(found.dtype)
    else:
        first, last = (round(share * length) for share in piece.moment)
        found[:, first:last] = nothing.to(found.dtype)
    return found


def joined(clips: Sequence[Batch]) -> Batch:
    """Clips that are equally long in every stage as one batch."""
    first = clips[0]
    features = {stage: torch.cat([clip.features[stage] for clip in clips]) for stage in first.features}
    lengths = {stage: torch.cat([clip.lengths[stage] for clip in clips]) for stage in first.lengths}
    return Batch(first.ids * len(clips), features, lengths, torch.cat([clip.labels for clip in clips]))
