"""The one training loop of torch recipes: epochs, the best weights on validation, checkpoints that survive a kill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from pipeline.data.batch import Batch, share_of
from pipeline.errors import Diverged, UserError
from pipeline.learning import devices, losses, schedule
from pipeline.learning.augment import Blend
from pipeline.learning.epochs import Display, Epoch, write_figures
from pipeline.learning.learner import Learner
from pipeline.learning.precision import fabric_of
from pipeline.learning.recipe import Training
from pipeline.learning.weights import checkpoint
from pipeline.learning.weights.averaging import Average
from pipeline.learning.weights.checkpoint import State
from pipeline.learning.weights.perturbing import perturbed

CHECKPOINT = "checkpoint.pt"
EASED = "halve it, and double the batches a step: --set batch_size=N --set accumulate=2, or use --device cpu"
CHECKPOINT_SHARE = 0.1
"""Most of the time that checkpoints may take; where epochs are shorter than that allows, some are skipped."""


class Fitting:
    """One training under way.

    Of several processes each does its share of every batch, so that all step by the gradient of the whole; only the first writes.
    Dropout draws other noise in each, and batch norm goes by the share: with these, another number of processes is another training.
    """

    def __init__(self, recipe: Learner, train: Training, val: Training, device: str) -> None:
        self.recipe, self.train, self.val, self.device = recipe, train, val, device
        self.fabric, self.share = fabric_of(recipe, device), (devices.rank(), devices.count())
        self.module = recipe.build(train.dims, len(train.classes))
        recipe.prepare(self.module, train)
        self.optimizer = recipe.optimise(self.module)
        self.wrapped, self.stepper = self.fabric.setup(self.module, self.optimizer)
        self.average = Average(recipe, self.module)
        is_balanced = recipe.class_weights == "balanced"
        count = len(train.classes)
        self.class_weights = losses.balanced(train.labels, count) if is_balanced else torch.ones(count)
        if train.memory:
            devices.limit(device, train.memory)
            recipe.keep_within(self.module, train.memory)
        self.state = State()
        self.saved_at, self.saving_took = time.monotonic(), 0.0

    def run(self) -> nn.Module:
        """The module with its best weights."""
        self._restore()
        with Display(self.recipe.epochs) as display, self._journal() as log:
            while not self._is_over():
                figures = self._epoch(len(self.state.figures))
                self._keep()
                if log:
                    log(self.state.figures[-1])
                if self.train.hears:
                    self.train.hears(figures)
                display.show(figures)
        self.module.load_state_dict(self.state.best_weights)
        return self.module

    def _journal(self) -> AbstractContextManager[Callable[[Epoch], None] | None]:
        """What keeps the figures for other programs, in the first process."""
        journal, folder = self.train.journal, self.train.folder
        return nullcontext() if self.share[0] or journal is None or folder is None else journal(folder, self.state.figures)

    def _is_over(self) -> bool:
        done, patience = len(self.state.figures), self.recipe.patience
        return done >= self.recipe.epochs or bool(patience and done - self.state.best_epoch >= patience)

    def _epoch(self, number: int) -> Epoch:
        began = time.monotonic()
        lr = schedule.rate(self.recipe, self.state.figures)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1)
        loss = self._learn(number)
        if not loss < float("inf"):
            raise Diverged(f"training diverged in epoch {number + 1}: the loss is {loss}; try a lower rate: --set lr={lr / 10:g}")
        self.average.after_epoch(number + 1)
        with self.average.in_place() as is_average:
            if is_average:
                update_bn(self._varied(number, (0, 1)), self.wrapped, self.fabric.device)
            val_loss, val_top1 = self._validate()
            figures = Epoch(number + 1, loss, val_loss, val_top1, lr, round(time.monotonic() - began, 3))
            self._judge(figures)
        return figures

    def _learn(self, number: int) -> float:
        """One pass over the training clips; its mean loss."""
        self._draw_own_noise(number)
        self.recipe.begin(self.module, number)
        self.wrapped.train()
        if number + 1 < self.recipe.dropout_from:
            for part in self.module.modules():
                if isinstance(part, nn.Dropout | nn.MultiheadAttention):
                    part.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        batches = self._varied(number, (0, 1) if self.recipe.blends else self.share)
        while group := list(islice(batches, self.recipe.accumulate)):
            total += self._step(group)
            self.average.after_step()
        return float(self._summed(total) / self.class_weights[torch.from_numpy(self.train.labels)].sum())

    def _varied(self, number: int, share: tuple[int, int]) -> Iterator[Batch]:
        """A share of the training batches of an epoch."""
        change, size = self.recipe.change(self.train, number), self.recipe.batch_size
        return self.train.batches(size, seed=self.train.seed, epoch=number, change=change, share=share, alike_from=self.recipe.alike_from)

    def _draw_own_noise(self, number: int) -> None:
        """In all processes but the first, whose generators go on from epoch to epoch and into the checkpoint."""
        if self.share[0]:
            torch.manual_seed(np.random.default_rng([self.train.seed & 0xFFFF_FFFF_FFFF_FFFF, number, self.share[0]]).integers(2**63))

    def _summed(self, own: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        summed: Any = self.fabric.all_reduce(own, reduce_op="sum")
        whole: Tensor = summed
        return whole

    def _weights(self, batch: Batch) -> Tensor:
        """`(B,)`: what each clip counts by its class; nothing where it stands in for the share of a process that has none."""
        stands_in = batch.whole is not None and self.share[0] >= len(batch.whole)
        return (self.class_weights[batch.labels] * (not stands_in)).to(self.fabric.device)

    def _step(self, group: Sequence[Batch]) -> Tensor:
        """One step; where the device has too little memory, again by a module that needs less, with the same noise."""
        state = devices.noise(self.device)
        while True:
            try:
                return self._stepped(group)
            except torch.OutOfMemoryError as error:
                if self.share[1] > 1 or not self.recipe.eases(self.module):
                    raise UserError(f"the device has no memory for a batch of {self.recipe.batch_size} clips; {EASED}") from error
            self.stepper.zero_grad()
            torch.cuda.empty_cache()
            devices.make_noise(state)

    def _stepped(self, group: Sequence[Batch]) -> Tensor:
        """One step by the gradient of the mean loss of several batches, as if they were one; the sum of this process' losses."""
        wholes = [batch.labels if batch.whole is None else batch.whole for batch in group]
        whole = float(torch.stack([self.class_weights[labels].sum() for labels in wholes]).sum())
        total = self._gradient(group, whole)
        if self.recipe.awp and len(self.state.figures) + 1 >= self.recipe.awp_from:
            with perturbed(self.module, self.recipe.awp):
                self._gradient(group, whole)
        if self.recipe.clip_norm:
            self.fabric.clip_gradients(self.wrapped, self.stepper, max_norm=self.recipe.clip_norm)
        self.stepper.step()
        return total

    def _gradient(self, group: Sequence[Batch], whole: float) -> Tensor:
        """Leaves the gradient of the mean loss of several batches that weigh so much; the sum of this process' losses."""
        total = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        self.stepper.zero_grad()
        for batch in group:
            with self.fabric.no_backward_sync(self.wrapped, enabled=batch is not group[-1]):
                loss = self._loss(batch) / whole
                self.fabric.backward(loss * self.share[1])  # gradients are averaged over the processes
            total += loss.detach() * whole
        return total

    def _loss(self, batch: Batch) -> Tensor:
        """The sum of what the clips cost that this process does of a batch."""
        blend = self.recipe.blend(batch, self.train, len(self.state.figures))
        if blend and self.share[1] > 1:  # the batch was read whole
            own = share_of(len(batch), *self.share)
            blend = Blend(blend.batch.share(*self.share), blend.labels[own], blend.shares[own])
        return self._losses(blend.batch if blend else batch, blend).sum()

    def _losses(self, batch: Batch, blend: Blend | None) -> Tensor:
        """`(B,)`: what each training clip costs, weighted by its class; one blended with another costs its share of both labels."""
        here = batch.to(self.fabric.device)
        outputs = self.wrapped(here)
        found = self.recipe.losses(outputs, here) * self._weights(batch)
        if blend:
            shares, other = blend.shares.to(self.fabric.device), replace(here, labels=blend.labels.to(self.fabric.device))
            theirs = self.recipe.losses(outputs, other) * self._weights(replace(batch, labels=blend.labels))
            found = shares * found + (1 - shares) * theirs
        return found

    def _validate(self) -> tuple[float, float]:
        """Mean loss, classes weighted as in training, and fraction right on the validation clips."""
        self.wrapped.eval()
        with torch.no_grad():
            self.recipe.settle(self.module, self.train, self.fabric.device)
        loss = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        right = torch.zeros((), dtype=torch.float64, device=self.fabric.device)
        with torch.inference_mode():
            for batch in self.val.batches(self.val.fitting(self.recipe.batch_size), shuffle=False, share=self.share):
                here, weights = batch.to(self.fabric.device), self._weights(batch)
                logits = self.wrapped(here)
                loss += (self.recipe.losses(logits, here) * weights).sum()
                right += ((self.recipe.scores(logits).argmax(1) == here.labels) * (weights > 0)).sum()
        loss, right = self._summed(torch.stack([loss, right]))
        return float(loss / self.class_weights[torch.from_numpy(self.val.labels)].sum()), int(right) / len(self.val)

    def _judge(self, figures: Epoch) -> None:
        """Keep the weights where they are the best yet: by accuracy, the lower loss of equals; by loss; or the last ones."""
        by_loss = self.recipe.best_by == "loss"
        score = (-figures.val_loss if by_loss else figures.val_top1, -figures.val_loss)
        least = self.recipe.min_improvement
        is_better = score[0] > self.state.best[0] + least if least else score > self.state.best
        is_best = is_better or not self.state.best_weights or self.recipe.best_by == "last"
        self.state.figures.append(replace(figures, best=int(is_best)))
        if is_best:
            self.state.best, self.state.best_epoch = score, figures.epoch
            self.state.best_weights = {name: value.detach().cpu().clone() for name, value in self.module.state_dict().items()}

    def _keep(self) -> None:
        """Figures of every epoch, and a checkpoint as often as its share of the time allows."""
        if self.train.folder is None or self.share[0]:
            return
        write_figures(self.train.folder, self.state.figures)
        began = time.monotonic()
        if (began - self.saved_at) * CHECKPOINT_SHARE < self.saving_took:
            return
        checkpoint.write(self.train.folder / CHECKPOINT, self._parts, self.state, self.device)
        self.saved_at = time.monotonic()
        self.saving_took = self.saved_at - began

    @property
    def _parts(self) -> Mapping[str, checkpoint.Part]:
        precision = self.fabric.strategy.precision
        return {"module": self.module, "optimizer": self.optimizer, "average": self.average, "precision": precision}

    def _restore(self) -> None:
        """Go on where the last checkpoint of this training was written."""
        path = self.train.folder / CHECKPOINT if self.train.folder else None
        if path is None or not devices.once(path.exists):
            return
        self.state = checkpoint.restore(path, self._parts)
        Console(stderr=True).print(f"resumed after epoch {len(self.state.figures)}", highlight=False, markup=False)
