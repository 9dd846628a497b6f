"""Recipes of torch modules: how one is fitted, and what a trained one predicts, saves and loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline import atomic
from pipeline.data.batch import Batch, check_vectors
from pipeline.errors import UserError
from pipeline.learning.fitting import Fitting
from pipeline.learning.learner import Learner
from pipeline.learning.recipe import Training
from pipeline.machine import use_float32
from pipeline.types import Array

WEIGHTS = "weights.safetensors"


class NetworkPredictor:
    """A trained module on a device."""

    def __init__(self, module: nn.Module, device: str) -> None:
        use_float32()
        self.module, self.device = module.to(device).eval(), device

    @property
    def own(self) -> nn.Module:
        """What `weights.safetensors` holds: all of it, where no part lies elsewhere."""
        return self.module

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 scores."""
        with torch.inference_mode():
            scores: Tensor = self.module(batch.to(self.device))
            return scores.float().cpu().numpy()

    def network(self) -> nn.Module:
        """The module itself."""
        return self.module

    @property
    def parameters(self) -> int:
        """Values of its weights, frozen ones too."""
        return sum(values.numel() for values in self.module.parameters())

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors, in one step."""
        from safetensors.torch import save

        weights = {name: value.detach().cpu().contiguous() for name, value in self.own.state_dict().items()}
        atomic.replace(folder / WEIGHTS, save(weights))

    def load(self, folder: Path) -> None:
        """Take the weights of a finished run; raises UserError where they are not this module's."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.own.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"the weights {folder / WEIGHTS} do not fit today's model ({reason}); train it anew") from error


class Network(Learner):
    """A recipe whose `build` gives a torch module."""

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> NetworkPredictor:
        """An untrained one, to `load` weights into."""
        return self.scoring(self.build(dims, n_classes), device)

    def scoring(self, module: nn.Module, device: str) -> NetworkPredictor:
        """What scores clips by a module."""
        return NetworkPredictor(module, device)

    def fit(self, train: Training, val: Training, device: str) -> NetworkPredictor:
        """The module with its best weights on `val`; goes on from the checkpoint in `train.folder` where there is one."""
        train = train.joined(val) if self.learn == "all" else train
        if not self.takes_maps:
            for stage, shape in train.row_shapes.items():
                check_vectors(stage, shape)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            torch.manual_seed(train.seed)
            return self.scoring(Fitting(self, train, val, device).run(), device)
