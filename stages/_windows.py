"""Rows of windows of maps by the I3D network: what I3D on RGB and I3D on optical flow share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from pipeline.cache import weights as checkpoint
from pipeline.errors import UserError
from pipeline.types import Array, Extractor, Forward
from stages._i3d import CLASSES, named, plain

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = "bn_eps"
"""The name under which a finetuned network keeps the epsilon of its batch norm."""
FRAMES_AT_ONCE: Mapping[str, int] = {"cpu": 16, "cuda": 1024}
"""Frames of a forward pass, but at least one window: on a CPU its activations stay near the caches."""


class Windows(Extractor):
    """`(T, side, side, channels)` uint8 items -> `(windows, 1024)` float32, the mean of I3D's average pool, `(pool, 7, 7)`."""

    channels: ClassVar[int]
    after_items: ClassVar[tuple[str, ...]] = ("weights", "stride", "pool", "bn_eps", "precision")

    weights: str = "random:0"
    window: Annotated[int, Field(ge=9)] = 16
    stride: PositiveInt = 8
    pool: PositiveInt = 2
    bn_eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    side: Annotated[int, Field(ge=193)] = 224

    @model_validator(mode="after")
    def _pools_what_there_is(self) -> Windows:
        steps = -(-self.window // 8)
        if self.pool > steps:
            said = f"pool={self.pool} is more than the {steps} steps of window={self.window}"
            raise UserError(f"stage {type(self).__module__.rpartition('.')[2]!r}: {said}; give a larger window")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (1024,)

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.side, self.side, self.channels)

    def rows(self, items: int) -> Sequence[slice]:
        return [slice(start, start + self.window) for start in range(0, items - self.window + 1, self.stride)]

    def filled(self, items: Iterator[Array]) -> Iterator[Array]:
        """The items, and the last again until they are a window."""
        count, item = 0, np.empty(0)
        for item in items:
            count += 1
            yield item
        for _ in range(count, self.window if count else 0):
            yield item

    def network(self) -> nn.ModuleDict:
        import torch

        given = None if self.weights.startswith(checkpoint.RANDOM) else checkpoint.read_checkpoint(self.weights)
        state = named(given or {})
        usual = 1e-5 if given and "conv3d_1a_7x7.conv3d.weight" in given else 1e-3
        eps = self.bn_eps or float(state.get(EPS, usual))
        state.pop(EPS, None)
        has_classifier = given is None or any(name.startswith("logits.") for name in state)
        classes = len(state["logits.conv3d.bias"]) if "logits.conv3d.bias" in state else CLASSES

        def build() -> nn.Module:
            network = plain(classes, eps, self.channels, pool=self.pool, precision=self.precision)
            if not has_classifier:
                del network["logits"]
            return network

        network = checkpoint.initialised(build, self.weights, lambda: state)
        network.register_buffer(EPS, torch.tensor(eps, dtype=torch.float64))
        return cast("nn.ModuleDict", network)

    def load(self, device: str) -> Forward:
        return partial(_in_parts, self._folded(device), self.window)

    def logits(self, device: str) -> Forward:
        """As `load`, but to `(B, classes)` scores of the checkpoint, mean over time, no softmax: to check weights, never cached."""
        network = self._folded(device)
        if "logits" not in network:
            raise UserError(f"weights={self.weights!r} have no classifier (no_top); they give rows, not scores")

        def forward(windows: Tensor) -> Tensor:
            scores: Tensor = network["logits"](_in_parts(network, self.window, windows)[:, :, None, None, None])
            return scores.flatten(1)

        return forward

    def _folded(self, device: str) -> nn.ModuleDict:
        """The network with each batch norm folded into its convolution."""
        import torch

        return cast("nn.ModuleDict", checkpoint.folded(self.network()).to(device).to(memory_format=torch.channels_last_3d))


def _in_parts(network: nn.Module, window: int, windows: Tensor) -> Tensor:
    import torch

    parts = torch.split(windows, max(1, FRAMES_AT_ONCE[windows.device.type] // window))
    return torch.cat([network(part) for part in parts])
