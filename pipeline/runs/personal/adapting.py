"""The last layer of a network and how it is adapted to a few clips: a penalised logistic regression that begins at what was learned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from pipeline.data.table import SCORING_BATCH, Table
from pipeline.errors import UserError
from pipeline.learning.network import NetworkPredictor

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What a network makes of N clips: `given` `(N, D)` to its last layer, and `logits` `(N, C)`."""

    given: Numbers
    logits: Numbers

    @property
    def likeness(self) -> Numbers:
        """`(N, N)` products of what is given, with a 1 for the bias, where a clip's with itself is 1 in the mean."""
        wide = np.pad(self.given, ((0, 0), (0, 1)), constant_values=1)
        found: Numbers = wide @ wide.T / (wide**2).sum(1).mean()
        return found


def head_of(module: nn.Module, classes: int) -> nn.Linear:
    """The last linear layer to the classes; raises UserError where there is none."""
    found = [part for part in module.modules() if isinstance(part, nn.Linear) and part.out_features == classes]
    if not found:
        raise UserError("the model has no last linear layer to its classes, which personalise adapts; use a run of another model")
    return found[-1]


def seen_by(predictor: NetworkPredictor, table: Table) -> Seen:
    """What the network makes of the clips of a table; raises UserError where its scores are not what its last layer gives."""
    head, given, logits = head_of(predictor.module, len(table.classes)), list[Tensor](), list[Tensor]()

    def heard(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given.append(inputs[0].double().cpu())
        logits.append(output.double().cpu())

    handle = head.register_forward_hook(heard)
    try:
        with torch.inference_mode():
            scores = [
                predictor.module(batch.to(predictor.device)).double().cpu()
                for batch in table.batches(table.fitting(SCORING_BATCH), shuffle=False)
            ]
    finally:
        handle.remove()
    if len(logits) != len(scores) or not all(torch.equal(one, other) for one, other in zip(logits, scores, strict=True)):
        raise UserError("the model does more with what its last layer gives, so adapting that is no use; use a run of another model")
    return Seen(torch.cat(given).numpy(), torch.cat(logits).numpy())


def changes(seen: Seen, labels: NDArray[np.int64], strength: float, clips: Sequence[int]) -> Numbers:
    """`(N, C)`: what each clip adds to the last layer, that is learned from some `clips`; nothing of the others.

    The least cross entropy of these clips and `strength / 2` times the squared change of the layer, in units in which a clip's own
    input has length 1: about `1 / strength` is the most by which one clip moves its own logits.
    """
    own, shares = np.array(clips), np.eye(seen.logits.shape[1])[labels[clips]]
    likeness = seen.likeness[np.ix_(own, own)]

    def cost(flat: Numbers) -> tuple[float, Numbers]:
        added = flat.reshape(len(own), -1)
        moved = likeness @ added
        said = log_softmax(seen.logits[own] + moved, 1)
        slope = likeness @ (np.exp(said) - shares + strength * added)
        return float(-(said * shares).sum() + strength / 2 * (added * moved).sum()), slope.ravel()

    found: Numbers = np.zeros_like(seen.logits)
    found[own] = minimize(cost, np.zeros(shares.size), jac=True, method="L-BFGS-B").x.reshape(shares.shape)
    return found


def left_out(seen: Seen, labels: NDArray[np.int64], strength: float) -> Numbers:
    """`(N, C)`: the logits of each clip by a layer that learned from all the others."""
    every = range(len(labels))
    likeness = seen.likeness
    return np.stack(
        [seen.logits[i] + likeness[i] @ changes(seen, labels, strength, [other for other in every if other != i]) for i in every]
    )


def adapt(head: nn.Linear, seen: Seen, labels: NDArray[np.int64], strength: float) -> None:
    """Change a layer to what all clips ask for."""
    wide = np.pad(seen.given, ((0, 0), (0, 1)), constant_values=1)
    change = torch.from_numpy(changes(seen, labels, strength, range(len(labels))).T @ wide / (wide**2).sum(1).mean())
    with torch.no_grad():
        head.weight.add_(change[:, :-1].to(head.weight))
        if head.bias is not None:
            head.bias.add_(change[:, -1].to(head.bias))
