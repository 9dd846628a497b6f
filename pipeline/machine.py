"""What this machine offers a run: processors and a device."""

from __future__ import annotations

import os

from pipeline.errors import UserError


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen_device(asked: str) -> str:
    """`cpu` or `cuda`; raises UserError where it is not there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {asked}: no such device; use auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked
