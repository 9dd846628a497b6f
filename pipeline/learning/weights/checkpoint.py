"""What a killed training goes on from: everything that its next epoch depends on, in one file that is replaced as a whole."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline import atomic
from pipeline.learning import devices
from pipeline.learning.epochs import Epoch


@dataclass
class State:
    """What a checkpoint holds besides the parts of a training; the learning rate follows from the figures."""

    figures: list[Epoch] = field(default_factory=list)
    best: tuple[float, float] = (-float("inf"), -float("inf"))
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


class Part(Protocol):
    """A module, its optimiser, or whatever else goes on where it was."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> Any: ...


def write(path: Path, parts: Mapping[str, Part], state: State, device: str) -> None:
    """One file of the state of all parts and of the generators."""
    content: dict[str, Any] = {
        **{name: part.state_dict() for name, part in parts.items()},
        **devices.noise(device),
        "figures": [asdict(figures) for figures in state.figures],
        "best": list(state.best),
        "best_epoch": state.best_epoch,
        "best_weights": state.best_weights,
    }
    out = io.BytesIO()
    torch.save(content, out)
    atomic.replace(path, out.getvalue())


def restore(path: Path, parts: Mapping[str, Part]) -> State:
    """The state that was written; parts and generators are as they were then."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(content[name])
    devices.make_noise(content)
    figures = [Epoch(**values) for values in content["figures"]]
    return State(figures, (content["best"][0], content["best"][1]), content["best_epoch"], content["best_weights"])
