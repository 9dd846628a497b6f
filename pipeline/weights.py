"""The field `weights` of a stage: `random:SEED`, a named checkpoint, or a file; what it is, and how a network gets it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn

RANDOM = "random:"


def describe(weights: str, checkpoints: Mapping[str, str]) -> dict[str, Any]:
    """The identity of weights: a seed, a published name with its hash, or the SHA-256 of a file's bytes.

    Needs neither torch nor network. Raises UserError where `weights` is none of the three.
    """
    if weights.startswith(RANDOM):
        return {"random": seed_of(weights)}
    if weights in checkpoints:
        return {"name": weights, "hash": checkpoints[weights]}
    if not Path(weights).is_file():
        known = "".join(f"{name}, " for name in checkpoints)
        raise UserError(f"weights={weights!r} is no file; use {known}random:SEED or the path of a checkpoint")
    with open(weights, "rb") as file:
        return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def phrase(description: Mapping[str, Any] | None) -> str:
    """`random:0`, `IMAGENET1K_V2` or `file 9f86d081`."""
    if description is None:
        return "none"
    if "random" in description:
        return f"{RANDOM}{description['random']}"
    return str(description["name"]) if "name" in description else f"file {description['sha256'][:8]}"


def seed_of(weights: str) -> int:
    """The seed in `random:SEED`."""
    text = weights.removeprefix(RANDOM)
    if not text.isdecimal():
        raise UserError(f"weights={weights!r}: the seed is a whole number, as in random:0")
    return int(text)


def initialised(build: Callable[[], nn.Module], weights: str, state: Callable[[], Mapping[str, Tensor]]) -> nn.Module:
    """What `build` makes: after `torch.manual_seed(SEED)` for `random:SEED`, else with `state()` loaded strictly. Evaluation mode."""
    import torch

    with torch.random.fork_rng():
        if weights.startswith(RANDOM):
            torch.manual_seed(seed_of(weights))
        network = build()
    if not weights.startswith(RANDOM):
        try:
            network.load_state_dict(state(), strict=True)
        except RuntimeError as error:
            detail = " ".join(str(error).split())[:300]
            raise UserError(f"weights={weights!r} do not fit {type(network).__name__}: {detail}") from error
    return network.eval().requires_grad_(False)


def read_checkpoint(path: str) -> Mapping[str, Tensor]:
    """The tensors of a `.safetensors` file or of a torch file, read without executing anything in it."""
    import pickle

    import torch
    from safetensors.torch import load_file

    if path.endswith(".safetensors"):
        return load_file(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"weights={path!r} is no checkpoint of plain tensors: {str(error).splitlines()[0]}") from error
    state: Mapping[str, Tensor] = content.get("state_dict", content)
    return state
