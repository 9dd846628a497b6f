"""The network of a stage trained with a head on its prepared items: what `signcache finetune NAME STAGE` trains.

So the published systems train their backbones: freimisi/micro-gesture-classification all of ResNet50 (top-1 > 70 %), ngoctuhan's
self-learning fusion an I3D. Which stage, how deep and from which weights is the command's to say; no figure is published of this head.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from models._inputs import real
from pipeline import registry
from pipeline.cache import trained
from pipeline.data.batch import Batch, is_traced
from pipeline.data.table import Change
from pipeline.errors import UserError
from pipeline.learning.augment import generator_of
from pipeline.learning.backbone import Backbone, Depth, glimpsed, spread
from pipeline.learning.learner import Fraction, Positive
from pipeline.learning.network import Network, NetworkPredictor
from pipeline.learning.pixels import Pixels
from pipeline.learning.recipe import Recipe, Training
from pipeline.types import Array, Extractor


class Finetuned(Network, Pixels):
    """`(B, T, *item_shape)` items -> network of the stage `kind` -> mean over time -> dropout -> a layer or two -> `(B, n_classes)`.

    In a step each clip gives `frames` of its rows, drawn from (seed, epoch, id); where it scores, as many, spread over it. First the
    head learns alone for `head_epochs`, then also the last `depth` blocks of the network, at `backbone_rate` of the rate. Rows that
    are maps are averaged over their places. `hidden=128 dropout=0.4` is the end of self-learning fusion's I3D: two layers with nothing
    between. Without a `kind` the rows of the stage are taken as they are: a linear probe.
    """

    takes_maps: ClassVar[bool] = True

    stages: tuple[str, ...] = ("resnet50",)
    kind: str = ""
    """The file in `stages/` whose network learns."""
    fields: Mapping[str, Any] = {}
    """Its settings, the weights that it begins with among them."""
    begins: str = ""
    """The digest of that stage, which says its code and weights."""
    depth: Depth = "all"
    """`head`, so many of the network's last blocks, or `all`."""
    head_epochs: NonNegativeInt = 2
    backbone_rate: Positive = 0.1
    """What of the learning rate the network learns by."""
    batch_norm: Literal["kept", "moving"] = "kept"
    """Whether the statistics of blocks that learn move, as a network needs that begins with random weights."""
    frames: PositiveInt = 8
    dropout: Fraction = 0.0
    hidden: NonNegativeInt = 0
    """Values of a layer before that of the classes, 0 for none."""
    lr: Positive = 1e-3
    batch_size: PositiveInt = 8
    epochs: PositiveInt = 20

    @property
    def alike_from(self) -> int | None:
        return self.frames

    @property
    def extractor(self) -> Extractor | None:
        """The stage whose network learns."""
        found: Extractor | None = registry.create("stage", self.kind, self.fields) if self.kind else None
        return found

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        if len(self.stages) != 1:
            raise UserError(f"model 'finetuned' reads one stage, not {','.join(self.stages)}; use --set stages=NAME")
        return self.glimpses(self.extractor, dims, n_classes)

    def glimpses(self, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> Glimpses:
        """The module, with the network of the stage as it is configured."""
        return Glimpses(self, extractor, dims, n_classes)

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> NetworkPredictor:
        drawn = self.extractor.model_copy(update={"weights": "random:0"}) if self.extractor else None
        return FinetunedPredictor(self.glimpses(drawn, dims, n_classes), device, {})

    def fit(self, train: Training, val: Training, device: str) -> NetworkPredictor:
        module = cast(Glimpses, super().fit(train, val, device).module)
        weights = str(self.fields.get("weights", ""))
        fields = {field: value for field, value in self.fields.items() if field != "weights"}
        began = Path(weights).name if Path(weights).is_file() else weights
        story = {**train.story, "stage": self.kind, "fields": fields, "start": self.begins, "began": began}
        story["before"] = trained.story_of(weights)
        return FinetunedPredictor(module, device, story)

    def begin(self, module: nn.Module, epoch: int) -> None:
        if isinstance(module, Glimpses) and module.backbone:
            module.backbone.rests = self.depth == "head" or epoch < self.head_epochs

    def eases(self, module: nn.Module) -> bool:
        return isinstance(module, Glimpses) and module.backbone is not None and module.backbone.eases()

    def change(self, train: Training, epoch: int) -> Change | None:
        extractor, (stage,) = self.extractor, self.stages
        if extractor is None:
            return None

        def glimpse(clip: str, rows: Mapping[str, Array]) -> dict[str, Array]:
            random = generator_of(train.seed, epoch, clip)
            seen = rows[stage][glimpsed(extractor, len(rows[stage]), self.frames, random)]
            return {**rows, stage: self.altered(seen, extractor.item_axes, random)}

        return glimpse

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        groups: list[dict[str, Any]] = [{"params": list(module.get_submodule("head").parameters())}]
        network = [values for name, values in module.named_parameters() if name.startswith("backbone.") and values.requires_grad]
        groups += [{"params": network, "share": self.backbone_rate}] if network else []
        return kind(groups, lr=self.lr, weight_decay=self.weight_decay)


class Glimpses(nn.Module):
    """Items of a batch -> `(B, n_classes)` logits of the mean of the rows that each clip gives; 0 rows are zeros."""

    def __init__(self, recipe: Finetuned, extractor: Extractor | None, dims: Mapping[str, int], n_classes: int) -> None:
        super().__init__()
        self.stage, self.frames = recipe.stages[0], recipe.frames
        self.backbone = Backbone(extractor, recipe.depth, keeps_statistics=recipe.batch_norm == "kept") if extractor else None
        self.width = extractor.row_shape[0] if extractor else dims[self.stage]
        self.dropout = nn.Dropout(recipe.dropout)
        last = nn.Linear(recipe.hidden or self.width, n_classes)
        self.head = nn.Sequential(nn.Linear(self.width, recipe.hidden), last) if recipe.hidden else last

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.dropout(self.means(batch)))
        return logits

    def means(self, batch: Batch) -> Tensor:
        """`(B, width)`: the mean of the rows that each clip gives."""
        return self._traced(batch) if is_traced() else self._means(batch)

    def _traced(self, batch: Batch) -> Tensor:
        """The same of rows that are made already, for any number of them; FinetunedPredictor refuses others."""
        rows, lengths = batch.features[self.stage].float().flatten(2), batch.lengths[self.stage]
        own = real(lengths, rows.shape[1])[:, :, None]
        return rows.where(own, 0).sum(1) / lengths.clamp(min=1)[:, None]

    def _means(self, batch: Batch) -> Tensor:
        items, lengths = batch.features[self.stage], batch.lengths[self.stage].tolist()
        rows, counts = self._rows(items, lengths)
        shares = items.new_zeros((len(lengths), len(rows)), dtype=torch.float32)
        for clip, (end, count) in enumerate(zip(torch.tensor(counts).cumsum(0).tolist(), counts, strict=True)):
            shares[clip, end - count : end] = 1 / max(count, 1)
        with torch.autocast(rows.device.type, enabled=False):
            return shares @ rows

    def _rows(self, items: Tensor, lengths: list[int]) -> tuple[Tensor, list[int]]:
        """`(R, D)` rows of all clips, one after the other, and how many of each."""
        if self.backbone is None:
            return torch.cat([own[:length].flatten(1) for own, length in zip(items, lengths, strict=True)]).float(), lengths
        most = max(lengths, default=0) if self.training else self.frames
        extractor = self.backbone.extractor
        places = [torch.from_numpy(spread(extractor, length, most)).to(items.device) for length in lengths]
        if not any(map(len, places)):
            return items.new_zeros((0, self.width), dtype=torch.float32), [0] * len(places)
        chosen = torch.cat([own[place] for own, place in zip(items, places, strict=True) if len(place)])
        rows = self.backbone(chosen[:, 0] if chosen.shape[1] == 1 else chosen)
        return rows.flatten(2).mean(2) if rows.ndim > 2 else rows, [len(place) for place in places]


class FinetunedPredictor(NetworkPredictor):
    """The head in `weights.safetensors`, the network beside it as its stage takes it, with what it learned from."""

    def __init__(self, module: Glimpses, device: str, story: Mapping[str, Any]) -> None:
        super().__init__(module, device)
        self.glimpses, self.story = module, story

    @property
    def own(self) -> nn.Module:
        return self.glimpses.head

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
            backbone.network = backbone.extractor.network().to(self.device)
        super().load(folder)


model: type[Recipe] = Finetuned
