"""A corpus whose clips are tiny images, prepared already for the network of `radar_cnn`, and what finetuning it there gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file
from torch import Tensor

from pipeline.cache.stage import configure
from pipeline.cache.trained import BACKBONE
from pipeline.corpus.manifest import Home, Manifest
from pipeline.runs.finetuning import finetune, items_of
from pipeline.runs.run_folder import Run
from pipeline.types import Array
from tests.feature_cache import balanced, corpus, publish

SIDE = 12
STAGE = {"source": "rgb", "receivers": "1", "resize": f"{SIDE},{SIDE}"}
SETTINGS = {**STAGE, "epochs": "3", "head_epochs": "1", "lr": "0.01", "frames": "3", "batch_size": "6", "best_by": "last"}


def images(table: Manifest) -> dict[str, Array]:
    """`(4, 1, SIDE, SIDE)` uint8 a clip: stripes whose distance is that of its class, under noise."""
    random = np.random.default_rng(0)
    found = {}
    for sample in table.samples:
        stripes = np.indices((SIDE, SIDE)).sum(0) % (2 + table.class_index[str(sample.label)]) == 0
        noise = random.integers(0, 100, (4, 1, SIDE, SIDE))
        found[sample.id] = (150 * stripes + noise).astype(np.uint8)
    return found


def prepared(root: Path, clips: Mapping[str, tuple[str, str]] | None = None) -> tuple[Home, Manifest]:
    """The corpus with its published items."""
    home, table = corpus(root, balanced() if clips is None else clips)
    publish(home, table, images(table), stage=items_of(home, table, configure(home, table, "radar_cnn", now=STAGE)))
    return home, table


def finetuned(home: Home, table: Manifest, settings: Mapping[str, str] | None = None, **options: Any) -> Run:
    return finetune(home, table, "radar_cnn", {**SETTINGS, **(settings or {})}, seed=options.pop("seed", 1), device="cpu", **options)


def backbone(run: Run) -> dict[str, Tensor]:
    """The weights of the network that a run has trained."""
    return load_file(run.folder / BACKBONE)
