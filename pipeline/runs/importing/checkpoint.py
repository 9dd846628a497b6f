"""A checkpoint of a model's source: its classes in their order, and its tensors by the names of our module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cache.weights import read_content
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.media import composed
from pipeline.errors import UserError
from pipeline.runs.reading import count, some

if TYPE_CHECKING:
    from torch import Tensor, nn

PREFIX = "module."
"""What `DataParallel` puts before every name."""
FORM = "expected {'classes': [...], 'state_dict': {...}}"


def read(file: Path) -> tuple[tuple[str, ...], dict[str, Tensor]]:
    """The classes and the tensors by name, without what `DataParallel` adds; raises UserError where the file holds anything else."""
    import torch

    if not file.is_file():
        raise UserError(f"no file {file}; name a checkpoint that holds classes and state_dict")
    content: Any = read_content(str(file))
    if not isinstance(content, dict) or not {"classes", "state_dict"} <= content.keys():
        held = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise UserError(f"{file} is no checkpoint with its classes: it holds {held[:200] or 'nothing'}; {FORM}")
    classes, state = content["classes"], content["state_dict"]
    words = isinstance(classes, (list, tuple)) and all(isinstance(label, str) for label in classes)
    if not words or not classes or len({*map(composed, classes)}) < len(classes):
        raise UserError(f"{file}: its classes are no list of different words; {FORM}")
    if not isinstance(state, Mapping) or not all(isinstance(values, torch.Tensor) for values in state.values()):
        raise UserError(f"{file}: its state_dict holds no tensors by name; {FORM}")
    wrapped = all(str(name).startswith(PREFIX) for name in state)
    return tuple(map(composed, classes)), {str(name)[len(PREFIX) * wrapped :]: values for name, values in state.items()}


def in_words_of(file: Path, classes: Sequence[str], table: Manifest) -> tuple[str, ...]:
    """The classes as the corpus writes them, in the file's order; raises UserError where it has no clips of one."""
    known = {composed(label): label for label in table.classes}
    strange = [label for label in classes if label not in known]
    if strange:
        raise UserError(
            f"{file}: {table.name} has no clips of {len(strange)} of its {count(len(classes), 'label')}: {some(strange)}; "
            f"{table.name} has: {some(table.classes)}"
        )
    return tuple(known[label] for label in classes)


def renamed(file: Path, state: Mapping[str, Tensor], names: Mapping[str, str], module: nn.Module) -> dict[str, Tensor]:
    """The tensors by the names of our module; raises UserError where some lack, are strange, of other shapes, or no numbers."""
    own = module.state_dict()
    theirs = {ours: their + ours.removeprefix(begins) for ours in own for their, begins in names.items() if ours.startswith(begins)}
    known = set(theirs.values())
    lacks, more = [name for name in theirs.values() if name not in state], [name for name in state if name not in known]
    if lacks or more:
        said = [f"{what} {some(found)}" for what, found in (("it lacks", lacks), ("it holds besides", more)) if found]
        raise UserError(f"{file} is no checkpoint of the model's source: {'; '.join(said)}")
    for ours, their in theirs.items():
        if state[their].shape != own[ours].shape:
            raise UserError(f"{file}: {their} is {tuple(state[their].shape)}, expected {tuple(own[ours].shape)}")
        if not bool(state[their].isfinite().all()):
            raise UserError(f"{file}: {their} holds NaN or infinity: its training diverged")
    return {ours: state[their] for ours, their in theirs.items()}
