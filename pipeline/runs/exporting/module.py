"""A trained network with plain tensors going in and out, as other programs take it."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from pipeline.data.batch import Batch
from pipeline.types import Array

LOGITS = "logits"
EXAMPLE_ROWS = 5


@dataclass(frozen=True)
class Signature:
    """What goes in, in this order: rows and lengths of each stage."""

    stages: tuple[str, ...]
    row_shapes: tuple[tuple[int, ...], ...]

    @property
    def names(self) -> list[str]:
        return [name for pair in self.pairs for name in pair]

    @property
    def pairs(self) -> list[list[str]]:
        """Rows and lengths, a stage each."""
        return [[f"features_{stage}", f"lengths_{stage}"] for stage in self.stages]

    @property
    def axes(self) -> dict[str, dict[int, str]]:
        """The axes of any length, by name: clips everywhere, and the rows of each stage."""
        rows = {f"features_{stage}": {0: "clips", 1: f"rows_{stage}"} for stage in self.stages}
        return {**rows, **{f"lengths_{stage}": {0: "clips"} for stage in self.stages}, LOGITS: {0: "clips"}}

    def example(self) -> tuple[Tensor, ...]:
        """Rows of two clips of unlike lengths, of no stage as many as of another."""
        random, found = torch.Generator().manual_seed(0), list[Tensor]()
        for place, shape in enumerate(self.row_shapes):
            steps = EXAMPLE_ROWS + place
            found += [torch.randn(2, steps, *shape, generator=random), torch.tensor([steps, steps - 2])]
        return tuple(found)

    def given(self, batch: Batch) -> list[Array]:
        """A batch as what goes in: float32 rows, one at least, and int64 lengths."""
        found = list[Array]()
        for stage, shape in zip(self.stages, self.row_shapes, strict=True):
            rows = batch.features[stage].float()
            rows = rows if rows.shape[1] else rows.new_zeros(len(batch), 1, *shape)
            found += [rows.numpy(), batch.lengths[stage].numpy()]
        return found


class Exported(nn.Module):
    """Rows `(B, T, *row_shape)` and lengths `(B,)` of each stage in turn -> `(B, K)` logits of the classes that may be said.

    Normalisation, thinning and alignment of stages are inside; what rows hold beyond their length does not matter.
    """

    def __init__(self, network: nn.Module, stages: Sequence[str], columns: Sequence[int]) -> None:
        super().__init__()
        self.network, self.stages = network.requires_grad_(False), tuple(stages)
        self.register_buffer("columns", torch.tensor(columns))
        self.eval()  # the whole: the ONNX exporter leaves all parts in the mode of this

    def forward(self, *given: Tensor) -> Tensor:
        features, lengths = (dict(zip(self.stages, part, strict=True)) for part in (given[::2], given[1::2]))
        logits: Tensor = self.network(Batch((), features, lengths, given[1]))
        return logits.float().index_select(1, self.get_buffer("columns"))


class _Halved(nn.Module):
    """Weights that are kept as float16 and computed with as float32."""

    def forward(self, kept: Tensor) -> Tensor:
        return kept.float()

    def right_inverse(self, values: Tensor) -> tuple[Tensor]:
        return (values.half(),)  # a lone tensor may not change its type


def halved(exported: Exported) -> Exported:
    """A copy that keeps its weights as float16; what is computed with them stays float32."""
    copied = deepcopy(exported)
    for part in list(copied.modules()):
        for name, _ in list(part.named_parameters(recurse=False)):
            register_parametrization(part, name, _Halved(), unsafe=True)  # of another type
    return copied.requires_grad_(False).eval()
