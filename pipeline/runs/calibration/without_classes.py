"""Signs that a model does not know, without any more clips: it is trained again without some of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.learning.recipe import Recipe
from pipeline.runs import run_folder
from pipeline.runs._trainer import RunTrainer, say
from pipeline.runs.calibration.thresholds import Unknown
from pipeline.runs.reading import Reading, read_for, some
from pipeline.runs.run_folder import Run
from pipeline.runs.training import labelled


def left_out(home: Home, run: Run, recipe: Recipe, reading: Reading, parts: int, device: str) -> list[Unknown]:
    """What models that lack every class once say of its clips in `reading`: `parts` trainings, each without another part of the classes.

    Trainings are kept as runs, and found again. Raises UserError where a part would leave fewer than two classes.
    """
    learned: Sequence[str] = sorted(run.record["learned"])
    if not 2 <= parts <= len(learned) or len(learned) - -(-len(learned) // parts) < 2:
        raise UserError(
            f"--leave-out {parts}: the run learned {len(learned)} classes; give 2 to {len(learned)}, so that two or more are left"
        )
    table = reading.table
    every, missing = read_for(home, table, recipe, labelled(table, None), stale="allow", allow_missing=len(run.record["dropped"]))
    trainer = RunTrainer(home, every, device, run.record["command"], missing)
    found = []
    for number in range(parts):
        gone = set(learned[number::parts])
        name = f"without part {number + 1} of {parts}"
        say([f"{name}: {some(sorted(gone))}"])
        kept = replace(every, samples=tuple(s for s in every.samples if s.label not in gone), part=name)
        kept.check()
        folder = trainer.run(kept, run.model, recipe, run.record["seed"], is_member=True)
        strange = reading.rows([sample for sample in reading.samples if sample.label in gone], table.classes)
        predictor = recipe.predictor(strange.dims, len(table.classes), device)
        predictor.load(folder)
        if len(strange):
            found.append((strange.each(predictor.logits), run_folder.read(folder).record["learned"]))
    return found
