"""The nouns: a sample of a corpus, the stage that turns it into rows, the store that keeps them, the recipe that learns from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import Tensor, nn

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

    A medium that is an interval of a file is written `talk.mp4#t=12.5,14` or `talk.mp4#frames=300,420` (`pipeline.corpus.intervals`).
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
    after_items: ClassVar[tuple[str, ...]] = ("weights",)
    """Fields that change what a network makes of prepared items, and not the items."""
    item_axes: ClassVar[str] = ""
    """What the axes of an item are: `HWC` of an image, `CHW` of several of one channel, side by side; empty: no images."""

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

    @property
    def like(self) -> str:
        """The stage that makes rows of the same values from other media, as from a video; none by default. No part of the identity."""
        return ""

    @property
    def wrapped(self) -> Extractor | None:
        """The stage that this one leaves its frames and items to, whose code is then its own."""
        return None

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one prepared item, of a stage with a network."""
        raise NotImplementedError

    @property
    def item_dtype(self) -> str:
        """numpy name of the items' type."""
        return "uint8"

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        """`(n,)` indices of the wanted source frames, ascending, repeats allowed; all by default."""
        return np.arange(length, dtype=np.int64)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        """Small items of one shape and type from the selected frames, in a decode process."""
        raise NotImplementedError

    def rows(self, items: int) -> Sequence[slice]:
        """The items of each row, one by default. A slice of one gives the item itself, a longer one a window axis first."""
        return [slice(i, i + 1) for i in range(items)]

    def network(self) -> nn.Module:
        """The network that makes the rows, with its weights: `(B, *item_shape)` items, of windows `(B, items, *item_shape)`, ->
        `(B, *row_shape)` float32, normalisation inside. A stage that has one can be finetuned.

        Its `state_dict` is what `weights=FILE` takes. Its blocks are its children in their order, or what it says in `blocks`.
        """
        raise NotImplementedError

    def load(self, device: str) -> Forward | None:
        """`(B, *item_shape)` tensor on `device` -> `(B, *row_shape)`, normalisation inside; None where items are rows already."""
        return None


def has_network(stage: Extractor) -> bool:
    """Whether a stage has a network that makes its rows, so that it can be finetuned."""
    return type(stage).network is not Extractor.network


def has_forward(stage: Extractor) -> bool:
    """Whether a stage computes its rows on the device."""
    return type(stage).load is not Extractor.load


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


SplitRule: TypeAlias = "Callable[[Sample], Split]"
"""The split of a clip by another list than the corpus' own."""


Submission: TypeAlias = "Callable[[Mapping[str, str]], Iterator[Sequence[object]]]"
"""`{clip: predicted label}` -> the rows of the file that the corpus' publisher scores, its header first."""


class Dataset(Protocol):
    """A corpus. `stages` and `training` are settings that suit it: `{stage: {field: value}}`, `{model: {field: value}}`.

    A corpus may have those that its source published, for `--set settings=published`: `published`, beside `training`, and
    `published_stages`, all that these read, beside `stages`: a name that stands in both has the same settings. It may have `without`,
    `{modality: {model: settings}}`, in place of those in `training` where no clip has such media, their `stages` among them;
    `stages_without`, `{modality: {stage: settings}}`, in place of those in `stages` and `published_stages`, or beside them, likewise;
    `groupings`, `{name: Grouping}`: each is a word for `--split`, and what the split names, else the first, is what folds and cuts keep
    together where signers are unknown; `protocols`, `{name: SplitRule}`: further words for `--split`; `second_names`,
    `{name: stage}`: names of these for another stage, as by `--as`; `endings`, `{modality: (ending, ...)}`: what follows a clip's own
    name in those of its files, a track each (`/` where the clip is a folder of frames), for `predict`; `may_lack`,
    `(modality, ...)`: what a clip may be without and is no failure for it, as `--may-lack` says of a name; and `submission`, a Submission.
    """

    layout: str
    """One line: what is expected under the root."""
    stages: Mapping[str, Mapping[str, Any]]
    training: Mapping[str, Mapping[str, Any]]

    def samples(self, root: Path) -> Iterator[Sample]:
        """Every clip below `root`, whatever its state; raises UserError where the layout is not there."""

    def classes(self, labels: set[str]) -> list[str]:
        """Labels in class order: the position is the class index."""
