"""The network of a stage trained on a corpus: its items are prepared once, then it is a training like any other."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.cache.provenance import Origin
from pipeline.cache.stage import Stage, configure
from pipeline.cache.trained import BACKBONE, story_of
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import WORD, preset_of
from pipeline.errors import UserError, did_you_mean
from pipeline.extraction import plan
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.learning import devices
from pipeline.machine import chosen_device
from pipeline.runs._trainer import RunTrainer
from pipeline.runs.crossvalidation import fold_folders
from pipeline.runs.reading import read_for
from pipeline.runs.run_folder import Run
from pipeline.runs.training import configured, labelled, origin_of, trained
from pipeline.types import has_network

MODEL = "finetuned"
ITEMS = ".items"
"""What follows a stage's name in that of the cache of its items."""


def finetune(
    home: Home,
    table: Manifest,
    name: str,
    settings: Mapping[str, str],
    *,
    seed: int = 0,
    device: str = "auto",
    folds: int | None = None,
    allow_missing: int = 0,
    again: bool = False,
    model: str = MODEL,
    max_memory: int | None = None,
) -> Run:
    """The finished run of a stage's network on the labelled clips; with `folds`, of as many networks, each in a run of its own.

    `settings` of the training go to it, `settings=published` among them, `STAGE.field` and all others to the stage. Raises UserError for
    what a user can mend.
    """
    own, of_training = _shared_out(name, settings, model)
    stage = configure(home, table, name, now=own)
    items = items_of(home, table, stage)
    made = _made(stage, items)
    recipe = configured(table, model, {**of_training, **made})
    clips = labelled(table, folds)
    devices.once(lambda: _prepare(home, table, items, {sample.id for sample in clips}, device))
    reading, missing = read_for(home, table, recipe, clips, stale="refuse", allow_missing=allow_missing)
    reading = replace(reading, begins=tuple(_begins(name, stage)))
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words += ["--seed", str(seed), *([] if folds is None else ["--folds", str(folds)]), *([] if model == MODEL else ["--model", model])]
    command = shlex.join(["signcache", "finetune", table.name, name, *words])
    origin = origin_of(table, model, of_training, recipe, made)
    trainer = RunTrainer(home, reading, chosen_device(device), command, missing, memory=max_memory, origin=origin)
    return trained(trainer, model, recipe, seed, folds=folds, again=again)


def _begins(name: str, stage: Stage) -> Iterator[Origin]:
    """The weights that the training begins with, where they say what they learned from."""
    weights = str(getattr(stage.extractor, "weights", ""))
    if story := story_of(weights):
        yield Origin(name, stage.fingerprint.identity["weights"], story)


def _shared_out(name: str, settings: Mapping[str, str], model: str) -> tuple[dict[str, str], dict[str, str]]:
    """The settings of the stage, and those of the training; raises UserError where the model trains no network of a stage."""
    able = [known for known in registry.names("model") if {"kind", "begins"} <= registry.find("model", known).model_fields.keys()]
    if model not in able:
        raise UserError(f"--model {model}: it trains no network of a stage{did_you_mean(model, able)} Those that do: {', '.join(able)}")
    known = set(registry.find("model", model).model_fields) - {"kind", "fields", "begins", "weights", "stages"}
    own, of_training = dict[str, str](), {key: value for key, value in settings.items() if key == WORD}
    for key, value in preset_of(settings)[1].items():
        place, dot, field = key.rpartition(".")
        if dot and place != name:
            raise UserError(f"--set {key}: finetune takes settings of its training and of {name}; as in --set {name}.{field}={value}")
        (own if dot or key not in known else of_training)[field] = value
    return own, of_training


def items_of(home: Home, table: Manifest, stage: Stage) -> Stage:
    """The stage that keeps what another one prepares for its network; raises UserError where that one has none."""
    if not has_network(stage.extractor):
        others = [name for name in registry.names("stage") if has_network(registry.create("stage", name))]
        raise UserError(f"stage {stage.name!r} has no network to train; those that have one: {', '.join(others)}")
    late = {*stage.extractor.after_items, "source"}
    fields = {field: value for field, value in stage.extractor.model_dump(mode="json").items() if field not in late}
    now = {"source": stage.extractor.source, "stage": stage.kind, "fields": fields}
    return configure(home, table, stage.name + ITEMS, now=now, kind="items")


def _made(stage: Stage, items: Stage) -> dict[str, Any]:
    """Settings of the training that are of the stage as it is configured, not of `--set`."""
    fields = stage.extractor.model_dump(mode="json")
    weights = fields.pop("weights", "none")
    begins = {"digest": stage.fingerprint.digest, "weights": stage.fingerprint.identity.get("weights")}
    return {"stages": (items.name,), "kind": stage.kind, "fields": fields, "begins": begins, "weights": weights}


def _prepare(home: Home, table: Manifest, items: Stage, clips: set[str], device: str) -> None:
    """Prepare the items of these clips that are not in the cache."""
    planned = plan.plan(home, table, items.chain)[items.name]
    todo = sum(item.sample.id in clips for item in planned.todo)
    if todo or planned.needs_publishing:
        print(f"{items.name}: {todo} of {len(clips)} clips to prepare", file=sys.stderr)
        extract(home, table, items.chain, Options(device=device, only=clips), Progress())


def weights_of(run: Run) -> list[Path]:
    """The trained weights of a run, or those of each of its folds."""
    return [folder / BACKBONE for folder in fold_folders(run) or [run.folder]]
