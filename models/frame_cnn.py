"""A convolution on ResNet50's last maps, frame by frame: the head of freimisi/micro-gesture-classification (top-1 > 70 %, top-5 > 97 %)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._rows import real
from models._varied import VariedMaps
from pipeline.data.batch import Batch, is_traced
from pipeline.errors import UserError
from pipeline.learning import losses
from pipeline.learning.learner import Positive
from pipeline.learning.recipe import Between, Choice, Recipe, Space


class FrameCnn(VariedMaps):
    """`(B, T, 2048, 7, 7)` maps -> 3x3 convolution to 1024, BN, ReLU, mean of the map -> `(B, T, 32)`; 18,910,240 parameters.

    The source's head, its figures of training: Adam 1e-3, batches of 32, cross entropy, 20 epochs, the lowest validation loss kept, an
    end after 3 epochs without a lower one. The source trains all of ResNet50 with it, by the same rate; here the maps are cached, so
    ResNet50 stays as it was: another system, which learns the head alone. Its figures are also for single frames of iMiGUE split at
    random, so that frames of one clip lie on both sides; here a clip is scored whole, by the mean of its real frames' logits
    (`score=probabilities`: of their softmax). It trains on frames, so a batch of 32 clips steps on all their frames, each clip counting
    the same. For rare classes: `class_weights=balanced`, `focal_gamma=2`. Clips may be varied in time, maps mirrored and moved. Padded
    frames are cut out before the convolution, so they enter no statistics of the batch norm either. A clip without frames scores 0
    everywhere. The maps are `extract NAME resnet50 --as resnet50_map --set output=map`.
    """

    takes_maps: ClassVar[bool] = True

    space: ClassVar[Space] = {
        "channels": Choice((256, 512, 1024)),
        "lr": Between(1e-4, 3e-3, log=True),
        "batch_size": Choice((16, 32)),
        "class_weights": Choice(("none", "balanced")),
        "focal_gamma": Choice((0.0, 1.0, 2.0)),
    }

    stages: tuple[str, ...] = ("resnet50_map",)
    lr: Positive = 1e-3
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 20
    patience: NonNegativeInt = 3
    best_by: Literal["top1", "loss", "last"] = "loss"
    channels: PositiveInt = 1024
    grid: tuple[PositiveInt, PositiveInt] = (7, 7)
    """Height and width of a map."""
    score: Literal["logits", "probabilities"] = "logits"

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if len(self.stages) != 1:
            raise UserError(f"model 'frame_cnn' reads one stage of maps, not {','.join(self.stages)}; use --set stages=resnet50_map")
        places = self.grid[0] * self.grid[1]
        if dims[self.stages[0]] % places:
            raise UserError(
                f"the rows of stage {self.stages[0]!r} are no maps of {self.grid[0]}x{self.grid[1]}: extract resnet50 with "
                "--as resnet50_map --set output=map, or give the maps' height and width: --set grid=H,W"
            )
        return MapHead(self, dims[self.stages[0]] // places, n_classes)

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        """`(B,)`: the mean loss of each clip's `(B, T, C)` frames in training, that of its `(B, C)` score else."""
        if logits.ndim == 2:
            return super().losses(logits, batch)
        lengths = batch.lengths[self.stages[0]]
        labels = batch.labels[:, None].expand(logits.shape[:2])
        each = losses.each(logits.flatten(0, 1), labels.flatten(), smoothing=self.label_smoothing, gamma=self.focal_gamma)
        own = real(lengths, logits.shape[1])
        return (each.view_as(own) * own).sum(1) / lengths.clamp(min=1)


class MapHead(nn.Module):
    """Maps of a batch -> `(B, n_classes)` logits; while training `(B, T, n_classes)`, those of every frame, padding 0."""

    def __init__(self, recipe: FrameCnn, inward: int, n_classes: int) -> None:
        super().__init__()
        self.stage, self.score = recipe.stages[0], recipe.score
        self.conv = nn.Conv2d(inward, recipe.channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(recipe.channels)
        self.head = nn.Linear(recipe.channels, n_classes)

    def forward(self, batch: Batch) -> Tensor:
        maps, lengths = batch.features[self.stage], batch.lengths[self.stage]
        if maps.ndim != 5:
            raise UserError(f"the rows of stage {self.stage!r} are no maps; extract resnet50 with --as resnet50_map --set output=map")
        own = real(lengths, maps.shape[1])
        if is_traced():
            found = self._frames(maps.flatten(0, 1)).view(*maps.shape[:2], -1).where(own[:, :, None], 0)
            return self._scored(found, own, lengths)
        found = self.head.bias.new_zeros(*maps.shape[:2], self.head.out_features)
        if own.any():
            found[own] = self._frames(maps[own]).to(found.dtype)
        return found if self.training else self._scored(found, own, lengths)

    def _frames(self, maps: Tensor) -> Tensor:
        """`(N, C, H, W)` -> `(N, n_classes)`."""
        found: Tensor = self.head(self.norm(self.conv(maps.to(self.conv.weight.dtype))).relu().mean((2, 3)))
        return found

    def _scored(self, found: Tensor, own: Tensor, lengths: Tensor) -> Tensor:
        """Logits of frames, padding 0, -> `(B, n_classes)`."""
        if self.score == "logits":
            return found.sum(1) / lengths.clamp(min=1)[:, None]
        shares = (found.softmax(2) * own[:, :, None]).sum(1) / lengths.clamp(min=1)[:, None]
        return torch.where(lengths[:, None] > 0, shares, 1.0).log()


model: type[Recipe] = FrameCnn
