"""Weights of a stage that a run has trained: how they are kept, found again by `weights=run:RUN`, and tell what they learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import atomic
from pipeline.cache.weights import describe
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

RUN = "run:"
BACKBONE = "backbone.safetensors"
"""In a run's folder: the weights of the stage that it trained, as that stage's `weights=FILE` takes them."""
LEARNED = ".learned"
"""Beside the rows that weights made: their story, which stays where the weights do not."""
STORY = "signcache"
"""The field of a safetensors header that tells what made the weights."""


@dataclass(frozen=True)
class Trained:
    """The weights of a run: `said` finds them again wherever the cache lies, `file` is where they are now."""

    said: str
    file: Path


def write(file: Path, state: Mapping[str, Tensor], story: Mapping[str, Any]) -> None:
    """Keep the tensors of a network and what they learned from as one safetensors file, in one step."""
    from safetensors.torch import save

    tensors = {name: values.detach().cpu().contiguous() for name, values in state.items()}
    atomic.replace(file, save(tensors, metadata={STORY: json.dumps(story, sort_keys=True)}))


def story_of(file: Path | str) -> Mapping[str, Any] | None:
    """What the weights in a file say of themselves: stage, corpus, and every clip that they learned from; None where they say nothing.

    `{"run", "stage", "fields", "start", "began", "dataset", "corpus", "seed", "part", "before", "clips": [{"id", "content", "split",
    "signer", "group"}]}`: `clips` of train and of val alike, `part` the fold, `before` the story of the weights that the training
    began with, `began` their name.
    """
    if not str(file).endswith(".safetensors"):
        return None
    try:
        with open(file, "rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        told = header.get("__metadata__", {}).get(STORY)
        return json.loads(told) if told else None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"weights={str(file)!r} cannot be read ({error}); name another file, or train it anew") from error


def keep_story(folder: Path, weights: str, sha256: str | None) -> None:
    """Write beside rows what the weights in a file, of these bytes, say of themselves; nothing where they say nothing or are others."""
    if (folder / LEARNED).exists() or sha256 is None or not Path(weights).is_file():
        return
    story = story_of(weights)
    if story and describe(weights, {}).get("sha256") == sha256:
        atomic.replace(folder / LEARNED, json.dumps(story, sort_keys=True).encode())


def fold_name(stage: str, number: int) -> str:
    """The name of a stage with the weights of one fold, from 1."""
    return f"{stage}.fold{number}"


def weights_by_fold(home: Home, asked: str) -> list[str]:
    """`run:RUN` of each fold of a run of folds, in their order; none where `asked` names anything else."""
    if not asked.startswith(RUN):
        return []
    try:
        record = json.loads((_folder(home, asked) / "run.json").read_bytes())
    except (OSError, ValueError):  # `trained_weights` says what is wrong with it
        return []
    folder = _folder(home, asked).parent
    return [f"{RUN}{folder / fold}" for fold in record.get("folds", ())]


def trained_weights(home: Home, kind: str, asked: str) -> Trained:
    """The weights that `run:RUN` names, RUN being the folder of a run or the id of one of this cache.

    Raises UserError where there is no such run, it is unfinished, has trained no stage, or another one than `kind`.
    """
    folder = _folder(home, asked)
    file = folder / BACKBONE
    if not file.is_file():
        raise UserError(f"weights={asked!r}: {_lack(folder)}")
    story = story_of(file)
    if story is None or story["stage"] != kind:
        other = story["stage"] if story else "no stage that it names"
        raise UserError(f"weights={asked!r} are those of {other}, not of {kind}; train them: signcache finetune NAME {kind}")
    within = folder.is_relative_to(home.cache.absolute())
    return Trained(f"{RUN}{folder.name if within else folder}", file)


def _folder(home: Home, asked: str) -> Path:
    """The folder of a run that is named by a path or by its id."""
    name = asked.removeprefix(RUN)
    folder = Path(name).expanduser().absolute()
    found = [] if "/" in name else sorted(home.cache.absolute().glob(f"runs/*/*/{name}")) if name else []
    if not found and name and (folder / "run.json").is_file():
        found = [folder]
    if not found:
        raise UserError(f"weights={asked!r}: there is no such run; give the id or the folder of one that `signcache finetune` made")
    return found[0]


def _lack(folder: Path) -> str:
    """Why the folder of a run holds no weights of a stage."""
    try:
        record = json.loads((folder / "run.json").read_bytes())
    except (OSError, ValueError) as error:
        return f"{folder / 'run.json'} cannot be read ({error}); train it anew"
    if folds := record.get("folds"):
        return f"{folder} is a run of folds, with weights each; name one: {', '.join(RUN + fold for fold in folds)}"
    if (folder / "result.json").exists():
        return f"{folder} trained {record.get('model')!r} on features and no stage; use a run of: signcache finetune"
    return f"the run {folder} is unfinished; start its training again to go on: {record.get('command')}"
