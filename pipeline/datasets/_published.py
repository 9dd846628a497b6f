"""Settings of a source that several corpora share: a part of theirs, no corpus of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE: Mapping[str, Any] = {
    **{"depth": "all", "head_epochs": 0, "backbone_rate": 1.0, "batch_norm": "moving"},
    **{"lr": 1e-3, "crop": 0.0, "jitter": 0.0},
}
"""Of `finetuned`: all of the network from the first step on, by Adam at one rate, on images as they are."""
SELF_LEARNING: Mapping[str, Mapping[str, Any]] = {
    "finetuned": {"stages": ("i3d",), **WHOLE, "batch_size": 16, "epochs": 100, "frames": 1, "dropout": 0.4},
    "inception_time": {},
    "self_learning_fusion": {},
    "self_learning_feature_fusion": {},
}
"""Of ngoctuhan's self-learning fusion, whose I3D is trained on each corpus: `signcache finetune NAME i3d`."""
