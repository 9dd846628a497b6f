"""The nouns of learning: a recipe, what it trains on, the trained model, and where a search looks for better settings."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict

from pipeline.data.batch import Batch
from pipeline.data.table import Table
from pipeline.layouts import Layout
from pipeline.learning.epochs import Epoch
from pipeline.types import Array

if TYPE_CHECKING:
    from torch import nn

Journal: TypeAlias = Callable[[Path, Sequence[Epoch]], AbstractContextManager[Callable[[Epoch], None]]]
"""Of a folder and its figures so far: takes those of every later epoch."""


class Predictor(Protocol):
    """A trained model. One that learned over others may have `plain`, a predictor: their mean, which its scores are set beside."""

    @property
    def parameters(self) -> int:
        """Values of the weights that predicting needs, frozen ones too; of one made of others, all of theirs. Trees are none."""

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 scores, higher is likelier."""

    def network(self) -> nn.Module:
        """A module that maps a Batch to the same logits, for other programs; raises UserError where it cannot be one."""

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


class Trainer(Protocol):
    """Trains other recipes on the clips of a training, or finds them trained: what recipes made of recipes are given."""

    def whole(self, model: str, recipe: Recipe, seed: int) -> Predictor:
        """One trained on all training clips."""

    def fold(self, model: str, recipe: Recipe, seed: int, held: Collection[str]) -> Predictor:
        """One trained on all training clips but these ids."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search may set a field to: one of these."""

    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """What a search may set a field to: any number from `low` to `high`; with `log`, every order of magnitude as often."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class SourceCheckpoint:
    """What the programs of a model's source leave of a training: its classes, and tensors by their names of the module's parts.

    `names` are how these begin, with the beginnings of ours; the rows that it reads are those of `stage` with these `fields`.
    """

    names: Mapping[str, str]
    stage: str
    fields: Mapping[str, Any]


Space: TypeAlias = Mapping[str, Choice | Between]


@dataclass
class Training(Table):
    """Clips that train or validate: a table, and what training on it takes. Randomness comes from `seed`."""

    seed: int = 0
    folder: Path | None = None
    """Where checkpoints and figures go, which survive a kill."""
    groups: tuple[str, ...] = ()
    """What a fold keeps together, a name a clip; empty: each clip alone."""
    trainer: Trainer | None = None
    """Trains other recipes on the same clips."""
    hears: Callable[[Epoch], None] | None = None
    """Is told the figures of every epoch of a network that trains on just this table, and may end the training by raising."""
    journal: Journal | None = None
    """Keeps the figures that go to `folder` for other programs."""
    memory: int | None = None
    """Most bytes that it may take of its device."""
    story: Mapping[str, Any] = field(default_factory=dict)
    """What weights that are trained on this are to say of themselves: the run, its corpus and the clips that they learned from."""

    def part(self, ids: Collection[str] | None = None, stages: Sequence[str] | None = None, *, folder: Path | None = None) -> Training:
        """Some of the clips, in their order, and some of the stages; with a folder of its own, which is made."""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        found, group = super().part(ids, stages), dict(zip(self.ids, self.groups, strict=False))
        return replace(found, folder=folder, groups=tuple(group[clip] for clip in found.ids) if group else (), hears=None)

    def joined(self, other: Training) -> Training:
        """These clips and then those of another split of the same corpus."""
        labels = np.concatenate([self.labels, other.labels])
        return replace(self, ids=self.ids + other.ids, labels=labels, groups=self.groups + other.groups)


class Recipe(BaseModel):
    """A model with its training settings; every hyperparameter is a field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: ClassVar[Space] = {}
    """The fields that `signcache tune` searches, and where. No part of a run's identity."""

    checkpoint: ClassVar[SourceCheckpoint | None] = None
    """The checkpoints of the model's source that `signcache import-run` takes, where it takes any."""
    does_without: ClassVar[bool] = False
    """Whether a clip that lacks some of the stages, as its corpus says it may, is read without them."""

    stages: tuple[str, ...]

    @property
    def aids(self) -> tuple[str, ...]:
        """Stages read in training only; a clip may lack them."""
        return ()

    @property
    def parts(self) -> tuple[Recipe, ...]:
        """The recipes that this one is made of."""
        return ()

    @property
    def learns_validation(self) -> bool:
        """Whether validation clips train it, or a recipe that it is made of."""
        return getattr(self, "learn", "train") == "all" or any(part.learns_validation for part in self.parts)

    def searched(self, given: Mapping[str, str]) -> Space:
        """What `signcache tune` searches, but for the settings that are given."""
        return {field: where for field, where in self.space.items() if not given.get(field)}

    def setting(self, name: str) -> Any:
        """The value of a field that is searched."""
        return getattr(self, name)

    def varied(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """All settings as plain values, with those that a search found in their places."""
        return {**self.model_dump(mode="json"), **found}

    def said(self, found: Mapping[str, Any], training: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Settings that a search found as `--set` takes them, for a corpus with these settings of models."""
        return dict(found)

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """This recipe for a corpus with these settings of models: one made of other recipes takes theirs from there."""
        return self

    def check(self, layouts: Mapping[str, Layout | None]) -> None:
        """Raise UserError for settings that rows of these layouts, by stage, cannot take: before anything is trained."""
        for part in self.parts:
            part.check({stage: layouts[stage] for stage in (*part.stages, *part.aids)})

    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        """A module that maps a Batch to `(B, n_classes)` logits; `dims` are the values a row of each stage."""
        raise NotImplementedError

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        """An untrained one, to `load` a run's weights into."""
        raise NotImplementedError

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        """Train on the clips of one side, stop and select on those of the other; neither is ever the scored one."""
        raise NotImplementedError
