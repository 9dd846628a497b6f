"""Averages of weights while they train, which validate and are kept in place of the last ones (`torch.optim.swa_utils`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Averaged(Protocol):
    """The fields of a recipe that say how weights are averaged."""

    @property
    def ema(self) -> float: ...
    @property
    def swa_from(self) -> int: ...


class Average:
    """The exponential average over the steps, the mean over the ends of late epochs, or none; buffers are the module's own."""

    def __init__(self, recipe: Averaged, module: nn.Module) -> None:
        self.recipe, self.module = recipe, module
        self.model: AveragedModel | None = None
        if recipe.ema:
            self.model = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))  # type: ignore[no-untyped-call]
        elif recipe.swa_from:
            self.model = AveragedModel(module)

    def after_step(self) -> None:
        if self.model is not None and self.recipe.ema:
            self.model.update_parameters(self.module)

    def after_epoch(self, number: int) -> None:
        """`number` counts from 1."""
        if self.model is not None and not self.recipe.ema and number >= self.recipe.swa_from:
            self.model.update_parameters(self.module)

    @contextmanager
    def in_place(self) -> Iterator[bool]:
        """Inside, the module has the average of its weights, where there is one yet; afterwards its own, and its own buffers."""
        if self.model is None or not self.model.n_averaged:
            yield False
            return
        own = {name: values.detach().clone() for name, values in self.module.state_dict().items()}
        with torch.no_grad():
            for values, average in zip(self.module.parameters(), self.model.module.parameters(), strict=True):
                values.copy_(average)
        try:
            yield True
        finally:
            self.module.load_state_dict(own)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.model is None else self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.model is not None:
            self.model.load_state_dict(state)
