"""Rows of training: the share of an epoch in which the model waits for batches, ours and those of a DataLoader over `.npy`.

And how much of the speed is left that a training has whose features all lie on its device.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from pipeline.machine import cores
from tests.bench.contest import Contestant, in_turns
from tests.bench.learner import clips_of
from tests.bench.readers import Npy, Ours
from tests.bench.rows import Row, faster

PART = "train"
MODELS = {"lstm_late": "lstm_late 2 x 256 on LIS-like clips", "gru": "GRU 128 on 60 x 1662 landmarks"}
FLOOR, AIM = 1.0, 0.1
"""Percent of an epoch."""


def rows(quick: bool, folder: Path, *, count: int = 0, rounds: int = 0) -> Iterator[Row]:
    """Two rows a model. All train the same clips in the same order, so their losses must agree."""
    count, rounds = count or (512 if quick else 4096), rounds or (2 if quick else 3)
    for model, what in MODELS.items():
        place, clips = folder / model, clips_of(model, count)
        Npy(place / "npy-float32", clips).write()
        Ours(place / "ours-float32", clips).write()
        with ExitStack() as stack:
            learners = {
                kind: stack.enter_context(Contestant(sys.executable, "tests.bench.learner", kind, model, place, count, threads=cores()))
                for kind in ("ours", "npy", "on_device")
            }
            found = in_turns(learners, range(rounds + 1), "epoch")
        losses = {kind: [told["loss"] for told in answers] for kind, answers in found.items()}
        if not all(math.isclose(loss, told[0], rel_tol=1e-6) for told in zip(*losses.values(), strict=True) for loss in told):
            raise RuntimeError(f"{model}: the losses differ, so the batches do: {losses}")
        shares = {kind: tuple(100 * told["waited"] / told["seconds"] for told in answers[1:]) for kind, answers in found.items()}
        waits = f"{what}, waits: .npy a clip, DataLoader"
        yield Row(PART, waits, "% of an epoch", shares["ours"], shares["npy"], shares["ours"], FLOOR, AIM, at_most=True)
        seconds = {kind: [told["seconds"] for told in answers[1:]] for kind, answers in found.items()}
        held = f"{what}: all features on the device"
        yield faster(PART, held, seconds["ours"], seconds["on_device"], count=clips.count, unit="clips", floor=None, aim=None)
