"""The network of a stage trained with a head on its prepared items: what `signcache finetune NAME STAGE` trains.

So the published systems train their backbones: freimisi/micro-gesture-classification all of ResNet50 (top-1 > 70 %), ngoctuhan's
self-learning fusion an I3D.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._glimpses import Glimpses, Glimpsing, RowLogits
from pipeline import registry
from pipeline.cache import trained
from pipeline.data.batch import Batch
from pipeline.data.table import Change
from pipeline.errors import UserError
from pipeline.learning import losses
from pipeline.learning.augment import generator_of
from pipeline.learning.backbones.backbone import glimpsed
from pipeline.learning.backbones.pixels import Pixels
from pipeline.learning.learner import Positive
from pipeline.learning.network import NetworkPredictor
from pipeline.learning.recipe import Recipe, Training
from pipeline.types import Array, Extractor

SETTLING = 64
"""Training clips by whose rows the head is told, after an epoch, what is usual."""


class Finetuned(Glimpsing, Pixels):
    """`(B, T, *item_shape)` items -> the network of stage `kind` -> standardised, Linear a row -> their mean -> `(B, n_classes)`.

    In a step each clip gives `frames` of its rows, drawn from (seed, epoch, id); where it scores, as many, spread over it. First the
    head learns alone for `head_epochs`, then also the last `depth` blocks of the network, at `backbone_rate` of the rate. Rows that
    are maps are averaged over their places, with `map_channels` after a 3x3 convolution to so many, batch norm and ReLU, the head of the
    micro-gesture system. `hidden=128 dropout=0.4` is the end of self-learning fusion's I3D: two layers with nothing
    between. Without a `kind` the rows of the stage are taken as they are: a linear probe.
    """

    takes_maps: ClassVar[bool] = True

    stages: tuple[str, ...] = ("resnet50",)
    kind: str = ""
    """The file in `stages/` whose network learns."""
    fields: Mapping[str, Any] = {}
    """Its settings, but for the weights."""
    begins: Mapping[str, Any] = {}
    """What that stage is before: its digest, and its weights as an identity says them."""
    weights: str = Field(default="", exclude=True)
    """Where these weights are; no part of what makes a run."""
    head_epochs: NonNegativeInt = 2
    backbone_rate: Positive = 0.1
    """What of the learning rate the network learns by."""
    lr: Positive = 1e-3
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 20

    @property
    def alike_from(self) -> int | None:
        return self.frames

    def extractor(self, weights: str) -> Extractor | None:
        """The stage whose network learns, with these weights; None where rows are taken as they are."""
        known = registry.find("stage", self.kind).model_fields if self.kind else {}
        given = {"weights": weights} if "weights" in known else {}
        return registry.create("stage", self.kind, {**self.fields, **given}) if self.kind else None

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if len(self.stages) != 1:
            raise UserError(f"model 'finetuned' reads one stage, not {','.join(self.stages)}; use --set stages=NAME")
        if self.kind and not self.weights:
            raise UserError(f"only the command that finetunes {self.kind!r} has the weights that it begins with: signcache finetune")
        return self.glimpses(self.extractor(self.weights), dims, n_classes)

    def glimpses(self, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> Glimpses:
        """The module, with the network of the stage as it is configured."""
        return Glimpses(self, extractor, dims, n_classes)

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> FinetunedPredictor:
        return FinetunedPredictor(self.glimpses(self.extractor("random:0"), dims, n_classes), device, {})

    def fit(self, train: Training, val: Training, device: str) -> NetworkPredictor:
        module = cast(Glimpses, super().fit(train, val, device).module)
        before, began = trained.story_of(self.weights), Path(self.weights).name if Path(self.weights).is_file() else self.weights
        story = {**train.story, "stage": self.kind, "fields": self.fields, "start": self.begins, "began": began, "before": before}
        return FinetunedPredictor(module, device, story)

    def begin(self, module: nn.Module, epoch: int) -> None:
        if isinstance(module, Glimpses) and module.backbone:
            module.backbone.rests = self.depth == "head" or epoch < self.head_epochs

    def settle(self, module: nn.Module, train: Training, device: torch.device) -> None:
        some = np.unique(np.linspace(0, len(train) - 1, min(SETTLING, len(train))).astype(np.int64))
        size = train.fitting(self.batch_size)
        if isinstance(module, Glimpses):
            module.settle(train.gather(some[first : first + size]).to(device) for first in range(0, len(some), size))

    def keep_within(self, module: nn.Module, most: int) -> None:
        if isinstance(module, Glimpses) and module.backbone:
            module.backbone.budget = most

    def eases(self, module: nn.Module) -> bool:
        return isinstance(module, Glimpses) and module.backbone is not None and module.backbone.eases()

    def change(self, train: Training, epoch: int) -> Change | None:
        extractor, (stage,) = self.extractor("random:0"), self.stages
        if extractor is None:
            return None

        def glimpse(clip: str, rows: Mapping[str, Array]) -> dict[str, Array]:
            random = generator_of(train.seed, epoch, clip)
            seen = rows[stage][glimpsed(extractor, len(rows[stage]), self.frames, random)]
            return {**rows, stage: self.altered(seen, extractor.item_axes, random)}

        return glimpse

    def losses(self, logits: Tensor, batch: Batch) -> Tensor:
        found: object = logits
        if not isinstance(found, RowLogits):
            return super().losses(logits, batch)
        each = losses.each(found.rows, found.of_rows(batch.labels), smoothing=self.label_smoothing, gamma=self.focal_gamma)
        return found.shares @ each

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        named = [(name, values) for name, values in module.named_parameters() if values.requires_grad]
        head, network = ([values for name, values in named if name.startswith("backbone.") == is_it] for is_it in (False, True))
        groups: list[dict[str, Any]] = [{"params": head}]
        groups += [{"params": network, "share": self.backbone_rate}] if network else []
        return kind(groups, lr=self.lr, weight_decay=self.weight_decay)


class FinetunedPredictor(NetworkPredictor):
    """The head in `weights.safetensors`, the network beside it as its stage takes it, with what it learned from."""

    def __init__(self, module: Glimpses, device: str, story: Mapping[str, Any]) -> None:
        super().__init__(module, device)
        self.glimpses, self.story = module, story

    @property
    def own(self) -> nn.Module:
        found = self.glimpses
        return nn.ModuleDict({"pooled": found.pooled, "standardised": found.standardised, "head": found.head})

    def network(self) -> nn.Module:
        """That of rows; raises UserError where it has a network of a stage inside."""
        if self.glimpses.backbone is None:
            return self.glimpses
        raise UserError(
            "it reads what its stage prepares, not rows; extract that stage with --set weights=run:RUN, train on its rows, and export that"
        )

    def save(self, folder: Path) -> None:
        if self.glimpses.backbone:
            trained.write(folder / trained.BACKBONE, self.glimpses.backbone.network.state_dict(), self.story)
        super().save(folder)

    def load(self, folder: Path) -> None:
        if self.glimpses.backbone:
            backbone = self.glimpses.backbone
            backbone.extractor = backbone.extractor.model_copy(update={"weights": str(folder / trained.BACKBONE)})
            self.story = trained.story_of(folder / trained.BACKBONE) or {}
            backbone.network = backbone.extractor.network().to(self.device)
        super().load(folder)


model: type[Recipe] = Finetuned
