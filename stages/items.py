"""What another stage prepares for its network, kept: what `signcache finetune` trains that network on, decoded once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from pipeline import registry
from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Frame, has_network


class Items(Extractor):
    """`(T, H, W, 3)` uint8 frames, say -> `(items, *item_shape)` of the type that the stage `stage` prepares, mostly uint8.

    `fields` are those of that stage that decide its items; those of its network, its weights among them, are refused.
    Windows that overlap are cut when a batch is made of them, so every frame lies here once.
    """

    source: str = "rgb"
    stage: str = "resnet50"
    fields: Mapping[str, Any] = {}

    @model_validator(mode="after")
    def _has_network(self) -> Items:
        if not has_network(self.wrapped):
            raise UserError(f"stage {self.stage!r} has no network that could be trained; write its `network`, as stages/resnet50.py does")
        if late := set(self.wrapped.after_items) & set(self.fields):
            raise UserError(f"stage 'items': {', '.join(sorted(late))} of {self.stage!r} change none of its items; leave them out")
        return self

    @property
    def wrapped(self) -> Extractor:
        found: Extractor = registry.create("stage", self.stage, {**self.fields, "source": self.source})
        return found

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.wrapped.item_shape

    @property
    def dtype(self) -> str:
        return self.wrapped.item_dtype

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return self.wrapped.select(length, rate_hz)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        wrapped = self.wrapped
        for item in wrapped.prepare(frames):
            if item.dtype != wrapped.item_dtype:
                raise TypeError(f"stage {self.stage!r} prepares {item.dtype} items and says item_dtype {wrapped.item_dtype}")
            yield item


stage: type[Extractor] = Items
