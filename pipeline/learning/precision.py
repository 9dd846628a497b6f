"""The precision in which a device computes a training."""

from __future__ import annotations

from typing import Any

from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision

from pipeline.errors import UserError
from pipeline.learning import devices
from pipeline.learning.learner import Learner
from pipeline.machine import use_float32


class _Autocast(MixedPrecision):
    """Half precision inside the operations that gain by it; features reach the module as they are."""

    def convert_input(self, data: Any) -> Any:
        return data


def fabric_of(recipe: Learner, device: str) -> Fabric:
    """Fabric in the recipe's precision; raises UserError where the device has none of it."""
    use_float32()
    if recipe.precision == "float32":
        return devices.fabric(device)
    if recipe.precision == "float16" and device == "cpu":
        raise UserError("precision=float16 needs a CUDA device; use --set precision=bfloat16, or float32")
    kind = "bf16-mixed" if recipe.precision == "bfloat16" else "16-mixed"
    return devices.fabric(device, _Autocast(kind, device))  # type: ignore[arg-type]
