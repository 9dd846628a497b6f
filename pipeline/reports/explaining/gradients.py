"""Integrated gradients (Sundararajan et al., ICML 2017; captum): what every value of a clip's rows adds to a label's log odds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.learner import Learner
from pipeline.learning.network import NetworkPredictor
from pipeline.reports.explaining.hiding import WHOLE, log_odds, neutral
from pipeline.types import Array

STEPS = 32


@dataclass(frozen=True)
class Added:
    """`rows[stage]`: `(T, *row_shape)` of what each value adds, against `neutral` rows; together they add up to all but `gap`."""

    rows: Mapping[str, Array]
    whole: float
    gap: float

    def frames(self, stage: str) -> Array:
        """`(T,)`."""
        values = self.rows[stage]
        return np.asarray(values.reshape(len(values), -1).sum(1))

    def parts(self, stage: str, layout: Layout | None) -> dict[str, Array]:
        """`{part: (T,)}`."""
        columns = layout.columns if layout else {WHOLE: slice(None)}
        values = self.rows[stage]
        return {part: values[:, place].reshape(len(values), -1).sum(1) for part, place in columns.items()}


def integrated(recipe: Learner, module: nn.Module, batch: Batch, label: int) -> Added:
    """Of one clip; raises UserError where captum is not installed."""
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise UserError("integrated gradients need captum, which is not installed; run: make setup, or: pip install captum") from error
    stages = [stage for stage, own in batch.lengths.items() if int(own[0])]
    given = tuple(batch.features[stage].float() for stage in stages)

    def said(*rows: Tensor) -> Tensor:
        return log_odds(recipe.scores(module(_repeated(batch, dict(zip(stages, rows, strict=True))))), label)

    nothing = neutral(NetworkPredictor(module, "cpu"), batch)
    begin = tuple(nothing[stage].expand_as(rows).contiguous() for stage, rows in zip(stages, given, strict=True))
    found, gap = IntegratedGradients(said).attribute(given, begin, n_steps=STEPS, internal_batch_size=8, return_convergence_delta=True)
    rows = {stage: np.asarray(values[0, : int(batch.lengths[stage][0])]) for stage, values in zip(stages, found, strict=True)}
    return Added(rows, sum(float(values.sum()) for values in rows.values()), float(gap[0]))


def slopes(recipe: Learner, module: nn.Module, batch: Batch, label: int) -> dict[str, Tensor]:
    """`{stage: (T, *row_shape)}`: how fast the label's log odds rise with every value of a clip's rows."""
    rows = {stage: values.float().clone().requires_grad_() for stage, values in batch.features.items()}
    said = log_odds(recipe.scores(module(_repeated(batch, rows))), label).sum()
    found = torch.autograd.grad(said, list(rows.values()), allow_unused=True)
    return {
        stage: (torch.zeros_like(values) if slope is None else slope)[0, : int(batch.lengths[stage][0])].detach()
        for (stage, values), slope in zip(rows.items(), found, strict=True)
    }


def _repeated(batch: Batch, rows: Mapping[str, Tensor]) -> Batch:
    """The clip as often as there are rows of it; stages of which none are given stay as they are."""
    count = len(next(iter(rows.values())))
    lengths = {stage: own.expand(count) for stage, own in batch.lengths.items()}
    features = {stage: values.expand(count, *values.shape[1:]) for stage, values in batch.features.items()}
    return Batch(batch.ids * count, {**features, **rows}, lengths, batch.labels.expand(count))
