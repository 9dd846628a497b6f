"""Settings of a source that several corpora share: a part of theirs, no corpus of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE: Mapping[str, Any] = {
    **{"depth": "all", "head_epochs": 0, "backbone_rate": 1.0, "batch_norm": "moving"},
    **{"lr": 1e-3, "crop": 0.0, "jitter": 0.0, "standardised": False},
}
"""Of `finetuned`: all of the network from the first step on, by Adam at one rate, on images as they are."""
SELF_LEARNING: Mapping[str, Mapping[str, Any]] = {
    "finetuned": {"stages": ("i3d",), **WHOLE, "batch_size": 16, "epochs": 100, "frames": 1, "hidden": 128, "dropout": 0.4},
    "finetuned_generator": {**WHOLE, "lr": 1e-4},
    "inception_time": {},
    "self_learning_fusion": {},
    "self_learning_feature_fusion": {},
    "two_stream": {},
}
"""Of ngoctuhan's self-learning fusion, whose I3D is trained on each corpus: `signcache finetune NAME i3d`."""
SELF_LEARNING_CLIP: Mapping[str, Any] = {"frames": 24, "window": 24, "pool": 3}
"""Of its `i3d`: 24 frames of the whole clip are one window, and its three steps are pooled alike."""


def self_learning_stages(i3d: Mapping[str, Any], inertial: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """With these of a corpus, the stages that its models read: both streams see the same frames, cut alike."""
    seen = {field: i3d[field] for field in ("source", "short_side", "frames") if field in i3d}
    second = {field: i3d[field] for field in ("window", "pool")}
    return {"inertial": inertial, "i3d": i3d, "flow": seen, "i3d_flow": second}
