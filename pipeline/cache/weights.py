"""The field `weights` of a stage: `random:SEED`, a named checkpoint, or a file; what it is, and how a network gets it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

RANDOM = "random:"
_read: dict[str, dict[str, Any]] = {}
"""The identity of every checkpoint that this process has read last from a path."""


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


def loaded(weights: str) -> dict[str, Any] | None:
    """As `describe`, but of the bytes that this process has read from there, whatever lies there now; None where it has not."""
    return _read.get(weights)


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
    if not text.isdecimal() or int(text) >= 1 << 64:
        raise UserError(f"weights={weights!r}: the seed is a whole number below 2**64, as in random:0")
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
    """The tensors of a `.safetensors`, Keras `.h5` or torch file, read without executing anything in it.

    Raises UserError where the file is damaged, holds code, or holds anything but tensors by name (in `state_dict` or itself).
    """
    import torch

    content = read_content(path)
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(name, str) and isinstance(values, torch.Tensor) for name, values in state.items()):
        raise UserError(f"weights={path!r} is no checkpoint of plain tensors: it holds no state_dict")
    return state


def read_content(path: str) -> Any:
    """All that a `.safetensors`, Keras `.h5` or torch file holds, read as by `read_checkpoint`; raises UserError where it cannot be."""
    import torch
    from safetensors.torch import load

    try:
        raw = Path(path).read_bytes()
        _read[path] = {"sha256": hashlib.sha256(raw).hexdigest()}
        if path.endswith((".h5", ".hdf5")):
            return _keras(raw)
        return load(raw) if path.endswith(".safetensors") else torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # what a pickle reader raises on any other file has no common kind
        kind = type(error).__name__
        raise UserError(f"weights={path!r} is no checkpoint of plain tensors: it is damaged, or holds code to run ({kind})") from error


def _keras(raw: bytes) -> dict[str, Tensor]:
    """`{"layer/weight": tensor}` of what Keras' `save_weights` or `save` wrote: a group a layer, weights named `.../kernel:0` in it."""
    import h5py
    import torch

    found: dict[str, Tensor] = {}
    with h5py.File(io.BytesIO(raw), "r") as file:
        layers = file.get("model_weights", file)

        def take(name: str, part: Any) -> None:
            if isinstance(part, h5py.Dataset):
                layer, weight = name.split("/")[0], name.rpartition("/")[2].partition(":")[0]
                found[f"{layer}/{weight}"] = torch.from_numpy(part[()])

        layers.visititems(take)
    return found


def in_precision(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where a stage's `precision` says so; where it does not, whatever is around it."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bfloat16" else nullcontext()


def folded(network: nn.Module) -> nn.Module:
    """The same network, in place, whose every batch norm that directly follows a convolution among its siblings is part of that.

    Only for evaluation, and for networks that run such siblings one after the other, as torchvision's ResNet and I3D do. Values
    differ by rounding, some 1e-6 of the largest.
    """
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for parent in list(network.modules()):
        siblings = list(parent.named_children())
        for (first, convolution), (second, norm) in pairwise(siblings):
            if isinstance(convolution, (nn.Conv2d, nn.Conv3d)) and isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d)):
                setattr(parent, first, fuse_conv_bn_eval(convolution, norm))
                setattr(parent, second, nn.Identity())
    return network
