"""A small spatial-temporal graph network over joints, after ST-GCN (Yan et al., AAAI 2018; github.com/yysijie/st-gcn)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import pad, relu
from torchvision.ops import StochasticDepth

from models._inputs import BITS, Inputs, Sequences
from models._joints import AXES, Joints, joints_of
from models._masked_norm import OwnNorm
from models._pooling import Kind, Pooling
from models._rows import real
from pipeline.data.batch import Batch
from pipeline.learning.learner import Fraction, NonNegative, Positive
from pipeline.learning.recipe import Between, Choice, Recipe, Space, Training
from pipeline.learning.schedule import Kind as Schedule

NEIGHBOURS = 4
"""What a joint takes of: itself, the joint above, those below, and any by learned weights."""


class GraphModel(Sequences):
    """`(B, T, J x 3)` joints, their bones and their motion -> 4 graph blocks -> mean over joints and real steps -> `(B, C)` logits.

    Which columns are joints, and which joint hangs on which, is what the stages say of their rows: a Kinect's skeleton, MediaPipe's
    hands and body; of other rows every three values are a joint without neighbours. The source has ten blocks of 64 to 256 channels and
    81.5 % on NTU RGB+D by subject; here they are few and narrow, a convolution over time is of each channel by itself, edges of all
    joints with all are learned beside the body's, and bones and motion are inputs beside the joints.
    """

    space: ClassVar[Space] = {
        "width": Choice((32, 48, 64)),
        "layers": Choice((3, 4, 6)),
        "dropout": Between(0.1, 0.6),
        "lr": Between(1e-3, 1e-2, log=True),
        "batch_size": Choice((16, 32)),
    }

    stages: tuple[str, ...] = ("skeleton",)
    frames: NonNegativeInt = 32
    sampling: Literal["points", "means"] = "means"
    motion: NonNegative = 5.0
    optimizer: Literal["adam", "adamw"] = "adamw"
    weight_decay: NonNegative = 0.01
    lr: Positive = 3e-3
    schedule: Schedule = "cosine"
    warmup: NonNegativeInt = 5
    batch_size: PositiveInt = 16
    layers: PositiveInt = 4
    width: PositiveInt = 32
    """Channels of a joint, twice as many from the middle on."""
    kernel: PositiveInt = 9
    """Rows that a block looks at."""
    drop_path: Fraction = 0.1
    dropout: Fraction = 0.3
    """Before the classes."""
    pooling: Kind = "mean"

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        return GraphNet(self, dims, n_classes)

    def prepare(self, module: nn.Module, train: Training) -> None:
        super().prepare(module, train)
        layouts, dims = zip(*((train.stages[stage].layout, train.dims[stage]) for stage in self.stages), strict=True)
        cast(GraphNet, module).lay(joints_of(layouts, dims))


class GraphBlock(nn.Module):
    """`(B, T, J, C)` -> `(B, T, J, outward)`: what neighbours say, then what the rows around say, beside the shortcut."""

    def __init__(self, inward: int, outward: int, kernel: int, drop_path: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.mix, self.mixed = nn.Linear(NEIGHBOURS * inward, outward, bias=False), OwnNorm(outward)
        self.over_time = nn.Conv2d(outward, outward, (kernel, 1), groups=outward, bias=False)
        self.pointwise, self.norm = nn.Linear(outward, outward, bias=False), OwnNorm(outward)
        self.shortcut = nn.Linear(inward, outward) if inward != outward else nn.Identity()
        self.drop = StochasticDepth(drop_path, "row")

    def forward(self, joints: Tensor, edges: Tensor, own: Tensor) -> Tensor:
        near = (edges[:, None, None] @ joints).permute(1, 2, 3, 0, 4).flatten(3)
        found = relu(self.mixed(self.mix(near), own)).where(own[:, :, None, None], 0)
        around = pad(found.permute(0, 3, 1, 2), (0, 0, (self.kernel - 1) // 2, self.kernel // 2))
        found = self.norm(self.pointwise(self.over_time(around).permute(0, 2, 3, 1)), own)
        return relu(self.shortcut(joints) + self.drop(found))


class GraphNet(nn.Module):
    """Fused rows of a batch -> `(B, n_classes)` logits. Joints are laid out before the first step, and by the weights of a run."""

    def __init__(self, recipe: GraphModel, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.inputs = Inputs(recipe, dims)
        self.values = sum(dims[stage] for stage in recipe.stages)
        bits = BITS * recipe.presence
        self.of_values = self.inputs.width - bits
        channels = AXES * (self.of_values // self.values + 1) + bits
        widths = [recipe.width * (1 + (2 * number >= recipe.layers)) for number in range(recipe.layers)]
        self.project, self.norm = nn.Linear(channels, recipe.width), OwnNorm(recipe.width)
        pairs = zip([recipe.width, *widths], widths, strict=False)
        self.blocks = nn.ModuleList(GraphBlock(inward, outward, recipe.kernel, recipe.drop_path) for inward, outward in pairs)
        self.pooling, self.dropout = Pooling(recipe.pooling, widths[-1]), nn.Dropout(recipe.dropout)
        self.head = nn.Linear(widths[-1], n_classes)
        self.lay(joints_of([None] * len(recipe.stages), [dims[stage] for stage in recipe.stages]))

    def lay(self, joints: Joints) -> None:
        """From now on these are the joints; what was learned of the edges of others is forgotten."""
        device = self.head.weight.device
        self.register_buffer("columns", joints.columns.to(device))
        self.register_buffer("parents", joints.parents.to(device))
        self.register_buffer("body", joints.adjacency().to(device), persistent=False)
        self.learned = nn.Parameter(torch.zeros(len(self.blocks), len(joints), len(joints), device=device))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *more: Any) -> None:
        names = [name for name in ("columns", "parents") if prefix + name in state]
        if any(not torch.equal(state[prefix + name].cpu(), self.get_buffer(name).cpu()) for name in names):
            self.lay(Joints(state[prefix + "columns"].cpu(), state[prefix + "parents"].cpu()))
        super()._load_from_state_dict(state, prefix, *more)

    def joints(self, rows: Tensor) -> Tensor:
        """`(B, T, J, channels)`: x, y, z of place, bone, motion and whatever else rows are followed by; presence last, the same for all."""
        columns, parents = self.get_buffer("columns"), self.get_buffer("parents")
        at, is_there = columns.clamp(min=0), columns >= 0
        found = [rows[:, :, first + at].where(is_there, 0) for first in range(0, self.of_values, self.values)]
        seen = (found[0] != 0).any(3, keepdim=True)
        bones = (found[0] - found[0][:, :, parents]).where(seen & seen[:, :, parents], 0)
        bits = rows[:, :, None, self.of_values :].expand(-1, -1, len(parents), -1)
        return torch.cat([found[0], bones, *found[1:], bits], 3)

    def forward(self, batch: Batch) -> Tensor:
        rows, lengths = self.inputs(batch)
        own = real(lengths, rows.shape[1])
        joints = self.norm(self.project(self.joints(rows)), own)
        for block, learned in zip(self.blocks, self.learned, strict=True):
            joints = block(joints, torch.cat([self.get_buffer("body"), learned[None]]), own)
        every = own[:, :, None].expand(-1, -1, joints.shape[2]).flatten(1)
        logits: Tensor = self.head(self.dropout(self.pooling(joints.flatten(1, 2), every)))
        return logits


model: type[Recipe] = GraphModel
