"""The one training loop of torch recipes: epochs, the best weights on validation, checkpoints that survive a kill."""

from __future__ import annotations

import io
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from rich.console import Console
from torch import Tensor, nn

from pipeline import atomic
from pipeline.data import Batch, Table, check_vectors
from pipeline.epochs import Display, Epoch, write_figures
from pipeline.errors import UserError
from pipeline.types import Array, Recipe

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
WEIGHTS, CHECKPOINT = "weights.safetensors", "checkpoint.pt"
CHECKPOINT_SHARE = 0.1
"""Most of the time that checkpoints may take; where epochs are shorter than that allows, some are skipped."""


class NetworkPredictor:
    """A trained module on a device."""

    def __init__(self, module: nn.Module, device: str) -> None:
        self.module, self.device = module.to(device).eval(), device

    def logits(self, batch: Batch) -> Array:
        """`(B, C)` float32 scores."""
        with torch.inference_mode():
            scores: Tensor = self.module(batch.to(self.device))
            return scores.float().cpu().numpy()

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors, in one step."""
        from safetensors.torch import save

        weights = {name: value.detach().cpu().contiguous() for name, value in self.module.state_dict().items()}
        atomic.replace(folder / WEIGHTS, save(weights))

    def load(self, folder: Path) -> None:
        """Take the weights of a finished run; raises UserError where they are not this module's."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.module.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"the weights {folder / WEIGHTS} do not fit today's model ({reason}); train it anew") from error


class Network(Recipe):
    """A recipe whose `build` gives a torch module; the fields that all of these share, and their training."""

    optimizer: Literal["adam", "adamw"] = "adam"
    lr: Positive = 1e-4
    weight_decay: NonNegative = 0.0
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 100
    patience: NonNegativeInt = 0
    """Epochs without improvement on validation after which training stops; 0 trains them all and keeps the best."""
    best_by: Literal["top1", "loss"] = "top1"
    clip_norm: NonNegative = 0.0
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0

    takes_maps: ClassVar[bool] = False
    """Whether rows may have more than one dimension."""

    @abstractmethod
    def build(self, dims: Mapping[str, int], n_classes: int) -> nn.Module:
        """A module that maps a Batch to `(B, n_classes)` logits."""

    def prepare(self, module: nn.Module, train: Table) -> None:
        """Take what the module needs to know of the training clips, before the first step."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        return nn.functional.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)

    def optimise(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimiser of a module's parameters."""
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        return kind(module.parameters(), lr=self.lr, weight_decay=self.weight_decay)

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> NetworkPredictor:
        """An untrained one, to `load` weights into."""
        return NetworkPredictor(self.build(dims, n_classes), device)

    def fit(self, train: Table, val: Table, device: str) -> NetworkPredictor:
        """The module with its best weights on `val`; goes on from the checkpoint in `train.folder` where there is one."""
        if not self.takes_maps:
            for stage, shape in train.row_shapes.items():
                check_vectors(stage, shape)
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device == "cuda" else []):
            torch.manual_seed(train.seed)
            return _Fitting(self, train, val, device).run()


@dataclass
class _State:
    """What a checkpoint holds besides tensors of the module and its optimiser."""

    figures: list[Epoch] = field(default_factory=list)
    best: tuple[float, float] = (-float("inf"), -float("inf"))
    best_epoch: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)


class _Fitting:
    """One training under way."""

    def __init__(self, recipe: Network, train: Table, val: Table, device: str) -> None:
        from lightning_fabric import Fabric

        self.recipe, self.train, self.val, self.device = recipe, train, val, device
        self.fabric = Fabric(accelerator=device, devices=1)
        self.module = recipe.build(train.dims, len(train.classes))
        recipe.prepare(self.module, train)
        self.optimizer = recipe.optimise(self.module)
        self.wrapped, self.stepper = self.fabric.setup(self.module, self.optimizer)
        self.state = _State()
        self.saved_at, self.saving_took = time.monotonic(), 0.0

    def run(self) -> NetworkPredictor:
        self._restore()
        with Display(self.recipe.epochs) as display:
            while not self._is_over():
                figures = self._epoch(len(self.state.figures))
                self._judge(figures)
                self._keep()
                display.show(figures)
        self.module.load_state_dict(self.state.best_weights)
        return NetworkPredictor(self.module, self.device)

    def _is_over(self) -> bool:
        done, patience = len(self.state.figures), self.recipe.patience
        return done >= self.recipe.epochs or bool(patience and done - self.state.best_epoch >= patience)

    def _epoch(self, number: int) -> Epoch:
        began = time.monotonic()
        loss = self._learn(number)
        val_loss, val_top1 = self._validate()
        lr = self.optimizer.param_groups[0]["lr"]
        figures = Epoch(number + 1, loss, val_loss, val_top1, lr, round(time.monotonic() - began, 3))
        if not loss < float("inf"):
            raise UserError(f"training diverged in epoch {figures.epoch}: the loss is {loss}; try a lower rate: --set lr={lr / 10:g}")
        return figures

    def _learn(self, number: int) -> float:
        """One pass over the training clips; its mean loss."""
        self.wrapped.train()
        total = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        for batch in self.train.batches(self.recipe.batch_size, epoch=number):
            here = batch.to(self.fabric.device)
            loss = self.recipe.loss(self.wrapped(here), here)
            self.stepper.zero_grad()
            self.fabric.backward(loss)
            if self.recipe.clip_norm:
                self.fabric.clip_gradients(self.wrapped, self.stepper, max_norm=self.recipe.clip_norm)
            self.stepper.step()
            total += loss.detach() * len(batch)
        return float(total / len(self.train))

    def _validate(self) -> tuple[float, float]:
        """Mean loss and fraction right on the validation clips."""
        self.wrapped.eval()
        loss = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        right = torch.zeros((), dtype=torch.int64, device=self.fabric.device)
        with torch.inference_mode():
            for batch in self.val.batches(self.recipe.batch_size, shuffle=False):
                here = batch.to(self.fabric.device)
                logits = self.wrapped(here)
                loss += self.recipe.loss(logits, here) * len(batch)
                right += (logits.argmax(1) == here.labels).sum()
        return float(loss / len(self.val)), int(right) / len(self.val)

    def _judge(self, figures: Epoch) -> None:
        """Keep the weights where they are the best yet: by accuracy, the lower loss of equals; or by loss."""
        score = (figures.val_top1 if self.recipe.best_by == "top1" else 0.0, -figures.val_loss)
        is_best = score > self.state.best or not self.state.best_weights
        self.state.figures.append(replace(figures, best=int(is_best)))
        if is_best:
            self.state.best, self.state.best_epoch = score, figures.epoch
            self.state.best_weights = {name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()}

    def _keep(self) -> None:
        """Figures of every epoch, and a checkpoint as often as its share of the time allows."""
        if self.train.folder is None:
            return
        write_figures(self.train.folder, self.state.figures)
        began = time.monotonic()
        if (began - self.saved_at) * CHECKPOINT_SHARE < self.saving_took:
            return
        state = self.state
        content: dict[str, Any] = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda_generator": torch.cuda.get_rng_state() if self.device == "cuda" else None,
            "figures": [asdict(figures) for figures in state.figures],
            "best": list(state.best),
            "best_epoch": state.best_epoch,
            "best_weights": state.best_weights,
        }
        out = io.BytesIO()
        torch.save(content, out)
        atomic.replace(self.train.folder / CHECKPOINT, out.getvalue())
        self.saved_at = time.monotonic()
        self.saving_took = self.saved_at - began

    def _restore(self) -> None:
        """Go on where the last checkpoint of this training was written."""
        path = self.train.folder / CHECKPOINT if self.train.folder else None
        if path is None or not path.exists():
            return
        content = torch.load(path, map_location="cpu", weights_only=True)
        self.module.load_state_dict(content["module"])
        self.optimizer.load_state_dict(content["optimizer"])
        figures = [Epoch(**values) for values in content["figures"]]
        self.state = _State(figures, (content["best"][0], content["best"][1]), content["best_epoch"], content["best_weights"])
        torch.set_rng_state(content["generator"])
        if self.device == "cuda" and content["cuda_generator"] is not None:
            torch.cuda.set_rng_state(content["cuda_generator"])
        Console(stderr=True).print(f"resumed after epoch {len(figures)}", highlight=False, markup=False)
