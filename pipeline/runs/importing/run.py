"""A checkpoint of a model's source as a finished run of a corpus: it labels clips, and is scored where rows for it are published."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.atomic import digest_of
from pipeline.cache.features import Features
from pipeline.cache.likeness import LONG, plain, said_of
from pipeline.cache.publishing import opened
from pipeline.cache.stage import Published, Stage, as_published, published, published_names
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.lacking import refuse_missing, without_features
from pipeline.errors import UserError
from pipeline.learning.network import NetworkPredictor
from pipeline.learning.recipe import Recipe
from pipeline.machine import chosen_device
from pipeline.runs import run_folder
from pipeline.runs._trainer import RunTrainer, record_of, say, write_scores
from pipeline.runs.importing import checkpoint
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.types import IMPORT_PREFIX


@dataclass(frozen=True)
class _Source:
    """What a checkpoint reads: the stage of its source, and under which name rows like these are published, if any are."""

    stage: Stage
    name: str
    features: Features | None
    doubt: str = ""


def import_run(home: Home, table: Manifest, file: Path, model: str, *, device: str = "auto") -> Run:
    """The finished run of a checkpoint on a corpus: classes in the file's order, scored where rows of the source's stage are published.

    Raises UserError, one line, for a file that is no such checkpoint of the model, and for classes that the corpus has not.
    """
    recipe: Recipe = registry.create("model", model)
    if recipe.checkpoint is None:
        known = [name for name in registry.names("model") if registry.find("model", name).checkpoint]
        raise UserError(f"model {model!r} takes no checkpoints of other programs; those that do: {', '.join(known)}")
    classes, state = checkpoint.read(file)
    classes = checkpoint.in_words_of(file, classes, table)
    source = _source(home, table, plain(table.name, recipe.checkpoint.stage, recipe.checkpoint.fields))
    recipe = registry.create("model", model, {"stages": (source.name,)})
    module = recipe.build({source.name: source.stage.extractor.row_shape[0]}, len(classes))
    module.load_state_dict(checkpoint.renamed(file, state, recipe.checkpoint.names if recipe.checkpoint else {}, module))
    reading, unscored = _reading(table, source, home)
    record = _record(home, reading, model, recipe, source, classes, file)
    command = shlex.join(["signcache", "import-run", str(file), table.name, model])
    trainer = RunTrainer(home, reading, chosen_device(device), command, {})
    doubts = [*filter(None, [source.doubt]), *([f"not scored: {unscored}; then: {command}"] if unscored else [_unheard(file)])]
    folder = run_folder.folder_of(home, table.name, model, record["id"])
    with run_folder.at_work(folder, again=True):
        say(doubts)
        run_folder.write_record(folder, {**record, **trainer.evidence(doubts)})
        _finish(reading, folder, record, NetworkPredictor(module, trainer.device), is_scored=not unscored)
    return run_folder.read(folder)


def _unheard(file: Path) -> str:
    return f"{file.name} does not say which clips and signers it learned from: where they are among those scored, the scores flatter"


def _source(home: Home, table: Manifest, stage: Stage) -> _Source:
    """Published rows of just this stage or like it; else imported ones of its shape, which is doubtful; else none yet."""
    found = {name: said for name in published_names(home, table.name) if (said := published(home, table.name, name))}
    order = sorted(found, key=lambda name: name != stage.name)
    for name in order:
        if stage.fingerprint.digest in (found[name].digest, (found[name].like or {}).get("digest")):
            return _Source(stage, name, opened(home, table.name, name))
    for name in order:
        if found[name].row_shape == stage.extractor.row_shape and _may_be_like(found[name], stage):
            wanted = f"the {len(stage.extractor.select(LONG, 0.0))} rows of stage {stage.kind!r} that the source makes of a clip"
            return _Source(stage, name, opened(home, table.name, name), f"nothing says that the rows of {table.name}/{name} are {wanted}")
    return _Source(stage, stage.name, None)


def _may_be_like(said: Published, stage: Stage) -> bool:
    return str(said.identity["fields"]["source"]).startswith(IMPORT_PREFIX) or as_published(said).like == stage.kind


def _reading(table: Manifest, source: _Source, home: Home) -> tuple[Reading, str]:
    """The labelled clips of the fold that scores, or why none is scored."""
    nothing = Reading(table, {}, ())
    if source.features is None:
        return nothing, f"run: signcache extract {table.name} {source.name}"
    labelled = [sample for sample in table.samples if sample.label is not None]
    own = next((part for split in ("test", "val") if (part := [s for s in labelled if s.split == split])), [])
    stages = {source.name: source.features}
    if not own:
        return nothing, f"{table.name} has no labelled test or val clips"
    try:
        refuse_missing(table, without_features(home, table, stages, own, "allow"), len(own), 0, option=None)
    except UserError as error:
        return nothing, str(error)
    return Reading(table, stages, tuple(own)), ""


def _record(
    home: Home, reading: Reading, model: str, recipe: Recipe, source: _Source, classes: Sequence[str], file: Path
) -> dict[str, Any]:
    """What makes the run: the file, and what it reads."""
    made, extractor, identity = record_of(home, reading, model, recipe, 0), source.stage.extractor, source.stage.fingerprint
    shape = {"row_shape": list(extractor.row_shape), "dtype": extractor.dtype}
    unread = {"digest": identity.digest, **shape, "identity": dict(identity.identity)}
    stage = {**made["stages"].get(source.name, unread), "like": said_of(source.stage)}
    imported = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    makes = {key: made[key] for key in ("dataset", "model", "settings")} | {"classes": list(classes)}
    digest = digest_of([makes, imported["sha256"], stage["digest"]])
    return {**made, **makes, "id": digest, "stages": {source.name: stage}, "learned": list(classes), "imported": imported}


def _finish(reading: Reading, folder: Path, record: dict[str, Any], predictor: NetworkPredictor, *, is_scored: bool) -> None:
    """Weights, and scores where there are any, into the run's folder."""
    predictor.save(folder)
    if is_scored:
        write_scores(reading, folder, record, predictor, {"parameters": predictor.parameters})
    else:
        said = {"run": str(folder), "dataset": record["dataset"], "model": record["model"], "split": reading.scored}
        run_folder.write_result(folder, {**said, "parameters": predictor.parameters})
