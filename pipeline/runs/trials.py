"""What a search for settings found: its trials, the best of them, and the line that trains with its settings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.corpus.manifest import Home

PLAIN = re.compile(r"[A-Za-z0-9_.,:/+=-]+")
"""A word that neither make nor a shell reads otherwise."""


@dataclass(frozen=True)
class Tried:
    """A trial that counts: its settings, what validation said of its weights, or why it was ended before."""

    number: int
    settings: Mapping[str, Any]
    top1: float | None
    loss: float | None
    ended: str = ""

    def line(self, of: int) -> str:
        """`trial 3/20: top-1 81.2 %, loss 0.5123  layers=4 lr=0.00034`."""
        figures = self.ended if self.top1 is None else f"top-1 {self.top1:.1%}, loss {self.loss:.4f}"
        return f"trial {self.number}/{of}: {figures}  {' '.join(words(self.settings))}"


@dataclass(frozen=True)
class Found:
    """A search as far as it went."""

    study: str
    place: Path
    trials: tuple[Tried, ...]

    @property
    def best(self) -> Tried | None:
        """The most clips of validation right, of equals the lowest loss."""
        whole = [(tried.top1, -(tried.loss or 0.0), -tried.number, tried) for tried in self.trials if tried.top1 is not None]
        return max(whole, key=lambda row: row[:3])[3] if whole else None


def words(settings: Mapping[str, Any]) -> list[str]:
    """`["layers=4", "lr=0.00034"]`."""
    return [f"{key}={value}" for key, value in settings.items()]


def training_line(home: Home, dataset: str, model: str, settings: Mapping[str, Any], seed: int) -> str:
    """The training with these settings as a line to type: `make train ...`, or signcache's own where make cannot say it."""
    said = words(settings)
    if home == Home() and all(PLAIN.fullmatch(word) for word in said):
        return f'make train DATASET={dataset} MODEL={model} SET="{" ".join(said)}"' + (f" SEED={seed}" if seed else "")
    places = [] if home == Home() else ["--cache", str(home.cache), "--manifests", str(home.manifests)]
    options = [part for word in said for part in ("--set", word)]
    return shlex.join(["signcache", *places, "train", dataset, model, *options, *(["--seed", str(seed)] if seed else [])])
