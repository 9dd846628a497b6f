"""What explains the label of one clip, as figures: whatever its model can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from pipeline.errors import UserError
from pipeline.learning.learner import Learner
from pipeline.reports.explaining.gradients import Added, integrated
from pipeline.reports.explaining.hiding import Hidden, hide
from pipeline.reports.explaining.subject import Subject
from pipeline.runs.scoring.metrics import answers
from pipeline.types import Array


@dataclass(frozen=True)
class Why:
    """Of one label: what the model says, and what that hangs on. `notes` say what could not be asked, and why."""

    label: str
    top: tuple[tuple[str, float], ...]
    hidden: Hidden
    added: Added | None = None
    attention: Array | None = None
    """`(T,)` shares of the clip's time."""
    lengths: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stages(self) -> dict[str, float]:
        """What each stage's parts are worth of all, by hiding them."""
        found: dict[str, float] = {}
        for (stage, _), share in self.hidden.shares().items():
            found[stage] = found.get(stage, 0.0) + share
        return found


def explained(subject: Subject, label: str = "", *, by_gradients: bool = True) -> Why:
    """Why the model says the label, by default its likeliest. Raises UserError for a label that is no class."""
    logits = subject.predictor.logits(subject.batch)
    names, shares, order = answers(logits, subject.classes, subject.run.record["learned"])
    top = tuple((names[place], float(shares[0, place])) for place in order[0, :5])
    label = label or top[0][0]
    if label not in subject.classes:
        raise UserError(f"no class {label!r} in this run; it has: {', '.join(subject.classes[:12])}")
    place, notes = subject.classes.index(label), list[str]()
    hidden = hide(subject.predictor, subject.batch, place, subject.layouts)
    module = getattr(subject.predictor, "module", None)
    added, attention = None, None
    if isinstance(subject.recipe, Learner) and module is not None and by_gradients:
        added = integrated(subject.recipe, module, subject.batch, place)
    elif by_gradients:
        notes.append(f"{subject.run.model} is made of other models or of trees: no gradients, so what hides a part is asked alone")
    if module is not None and hasattr(module, "attention"):
        with torch.inference_mode():
            attention = np.asarray(module.attention(subject.batch)[0].float())
    lengths = {stage: int(own[0]) for stage, own in subject.batch.lengths.items()}
    lacking = [stage for stage, length in lengths.items() if not length]
    notes += [f"the clip has no rows of {stage}" for stage in lacking]
    return Why(label, top, hidden, added, attention, lengths, tuple(notes))
