"""The nouns: a sample of a corpus, the stage that turns it into rows, the store that keeps them, the recipe that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pipeline.batch import Batch
    from pipeline.data import Table
    from pipeline.layouts import Layout

Split: TypeAlias = Literal["train", "val", "test", "unassigned"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
Array: TypeAlias = NDArray[Any]
Frame: TypeAlias = tuple[Array, ...]
"""One instant of a clip, an array a track: `(H, W, 3)` uint8 of a video, `(C,)` of a sensor.

Most clips have one track: `for (image,) in frames`.
"""
Forward: TypeAlias = "Callable[[Tensor], Tensor]"
Stale: TypeAlias = Literal["refuse", "allow"]
"""What is done about features that are not those of today's stage."""
STAGE_PREFIX = "stage:"
IMPORT_PREFIX = "import:"


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip of a corpus: an id that stays, files relative to the corpus root, and what is known of it.

    `split` is "unassigned" where the corpus has no official list; `label` is None where it is withheld.
    """

    id: str
    media: Mapping[str, tuple[str, ...]]
    label: str | None
    split: Split
    signer: str | None


class Extractor(BaseModel):
    """One cache stage: fields are configuration, command-line options and identity at once.

    A subclass in `stages/NAME.py` says which frames it wants, what a decode process prepares from them, and
    what the device makes of the prepared items. Device, batch size and threads are no fields: they never change rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    version: ClassVar[int] = 1
    libraries: ClassVar[tuple[str, ...]] = ()
    checkpoints: ClassVar[Mapping[str, str]] = {}
    """Named weights of the field `weights` -> the hash that their publisher guarantees."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row, without the time axis."""
        raise NotImplementedError

    @property
    def dtype(self) -> str:
        """numpy name of the rows' type."""
        return "float32"

    @property
    def row_layout(self) -> Layout | None:
        """What the values of a row are: its parts, the points in them, left and right, what tells that a part is missing.

        None: plain numbers that are never missing. No part of the identity, for it changes no rows; reading it is cheap.
        """
        return None

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        """`(n,)` indices of the wanted source frames, ascending, repeats allowed; all by default."""
        return np.arange(length, dtype=np.int64)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        """Small items of one shape and type from the selected frames, in a decode process."""
        raise NotImplementedError

    def rows(self, items: int) -> Sequence[slice]:
        """The items of each row, one by default. A slice of one gives the item itself, a longer one a window axis first."""
        return [slice(i, i + 1) for i in range(items)]

    def load(self, device: str) -> Forward | None:
        """`(B, *item_shape)` tensor on `device` -> `(B, *row_shape)`, normalisation inside; None where items are rows already."""
        return None


def evenly(length: int, most: int) -> NDArray[np.int64]:
    """`(min(length, most),)` indices: all where they fit, else `linspace(0, length - 1, most)` truncated (the LIS system's rule)."""
    if length <= most:
        return np.arange(length, dtype=np.int64)
    return np.linspace(0, length - 1, most).astype(np.int64)


class Store(Protocol):
    """A file format of shards. What it writes opens with the format's own plain library."""

    suffix: str

    def write(self, path: Path, values: Array) -> None:
        """Write `(rows, *row_shape)` to `path`, which does not exist, and sync it to disk."""

    def open(self, path: Path) -> Array:
        """`(rows, *row_shape)`: a read-only memory map where the bytes lie in one run, else decoded."""


Grouping: TypeAlias = "Callable[[Sequence[Sample]], Mapping[str, str]]"
"""The samples of a corpus -> `{id: group}`: clips that a split must not part."""


Submission: TypeAlias = "Callable[[Mapping[str, str]], Iterator[Sequence[object]]]"
"""`{clip: predicted label}` -> the rows of the file that the corpus' publisher scores, its header first."""


class Dataset(Protocol):
    """A corpus. `stages` and `training` are settings that suit it: `{stage: {field: value}}`, `{model: {field: value}}`.

    A corpus may also have `groupings`, `{name: Grouping}`: each is a word for `--split`, and what the split names, else the first,
    is what folds and cuts keep together where signers are unknown; `second_names`, `{name: stage}`:
    names in `stages` for another stage, as by `--as`; `endings`, `{modality: (ending, ...)}`: what follows a clip's own name in
    those of its files, a track each (`/` where the clip is a folder of frames), for `predict`; and `submission`, a Submission.
    """

    layout: str
    """One line: what is expected under the root."""
    stages: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Mapping[str, Any]]

    def samples(self, root: Path) -> Iterator[Sample]:
        """Every clip below `root`, whatever its state; raises UserError where the layout is not there."""

    def classes(self, labels: set[str]) -> list[str]:
        """Labels in class order: the position is the class index."""


class Predictor(Protocol):
    """A trained model."""

    @property
    def parameters(self) -> int:
        """Values of the weights that predicting needs, frozen ones too; of one made of others, all of theirs. Trees are none."""

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 scores, higher is likelier."""

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


Space: TypeAlias = Mapping[str, Choice | Between]


class Recipe(BaseModel):
    """A model with its training settings; every hyperparameter is a field."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: ClassVar[Space] = {}
    """The fields that `signcache tune` searches, and where. No part of a run's identity."""

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

    def fit(self, train: Table, val: Table, device: str) -> Predictor:
        """Train on one table, stop and select on the other; neither is ever the scored one."""
        raise NotImplementedError
