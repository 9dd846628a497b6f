"""A run as a package: `package.json` leads; beside it lie runs without what is local, the weights of stages, and a card."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline import __version__, atomic
from pipeline.cache import weights
from pipeline.cache.identity import fingerprint
from pipeline.cache.stage import Stage
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.runs import run_folder
from pipeline.runs.calibration import thresholds
from pipeline.runs.crossvalidation import fold_folders
from pipeline.runs.packaging import _archive
from pipeline.runs.packaging._lead import FORMAT, PACKAGE, RUNS, STAGES, Identity, Lead, PackedStage, leading
from pipeline.runs.packaging.card import CARD, UNKNOWN_LICENCE, card
from pipeline.runs.run_folder import Run
from pipeline.runs.trained import Trained, of_run

KEPT = (
    "id",
    "dataset",
    "model",
    "settings",
    "seed",
    "stages",
    "layouts",
    "classes",
    "learned",
    "clips",
    "may_lack",
    "lacking",
    "part",
    "folds",
    "warnings",
    "code",
)
"""What a package says of what made a run; the rest is of the machine and the disk that trained it."""
FIGURES = ("split", "n", "top1", "top5", "macro_f1", "interval", "chance", "calibration", "selected_on_scored", "parameters", "seconds")


def write(home: Home, place: Path, out: Path, *, licence: str = "") -> int:
    """Write the package of a run, a folder, or a zip where `out` ends so; gives its bytes.

    Raises UserError where something is there already, or where the run's rows cannot be made of files by today's stages.
    """
    run = run_folder.read(place)
    trained = of_run(home, run)
    if os.path.lexists(out):
        raise UserError(f"{out} is there already; delete it, or name another")
    with _appearing(out) as folder:
        for each in (run, *map(run_folder.read, fold_folders(run))):
            _write_run(each, trained, folder / RUNS / each.folder.name)
        stages = _write_stages(trained, folder)
        said = licence or UNKNOWN_LICENCE
        identities = {stage.name: stage.identity.model_dump() for stage in stages}
        plain = replace(run, record={**run.record, "command": _command(run)})
        (folder / CARD).write_text(card(plain, identities, said), "utf-8", errors="backslashreplace")
        (folder / PACKAGE).write_bytes(atomic.seal(_lead(trained, stages, said, folder).model_dump(exclude_unset=True), indent=1))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size


def _lead(trained: Trained, stages: list[PackedStage], licence: str, folder: Path) -> Lead:
    run = trained.run
    return Lead(
        format=FORMAT,
        signcache=__version__,
        run=run.folder.name,
        dataset=run.dataset,
        model=run.model,
        classes=[label for label in run.record["classes"] if label in run.record["learned"]],
        reads=[stage.name for stage in trained.stages],
        stages=stages,
        endings={modality: list(endings) for modality, endings in trained.endings.items()},
        licence=licence,
        files={path.relative_to(folder).as_posix(): atomic.sha256(path) for path in leading(folder)},
    )


def _write_run(run: Run, trained: Trained, folder: Path) -> None:
    """A run folder with its weights, without what only its trainer's disk has."""
    folder.mkdir(parents=True)
    record = {key: run.record[key] for key in KEPT if key in run.record}
    run_folder.write_record(folder, {**record, "dropped": {}, "command": _command(run)})
    run_folder.write_result(folder, {key: run.scores[key] for key in FIGURES if key in run.scores})
    if not fold_folders(run):
        dims = {stage.name: math.prod(run.record["stages"][stage.name]["row_shape"]) for stage in trained.stages}
        predictor = trained.recipe.predictor(dims, len(run.record["classes"]), "cpu")
        predictor.load(run.folder)
        predictor.save(folder)
    said = thresholds.read(run.folder)
    if said:
        thresholds.write(folder, said)


def _command(run: Run) -> str:
    """The line of a training without what only its disk has."""
    return f"signcache train {run.dataset} {run.model}"


def _write_stages(trained: Trained, folder: Path) -> list[PackedStage]:
    """What makes each stage, those that others derive from first, with the weights that lie in files."""
    found, digests = list[PackedStage](), dict[str, str]()
    for link in trained.chain:
        given, extractor = _weights_file(link), link.extractor
        if given:
            file = folder / STAGES / link.name / "weights.safetensors"
            _write_weights(given, file)
            extractor = extractor.model_copy(update={"weights": str(file)})
        above = link.upstream.name if link.upstream else None
        own = fingerprint(extractor, digests[above] if above else None)
        digests[link.name] = own.digest
        place = {"weights": file.relative_to(folder).as_posix()} if given else {}
        said = Identity.model_validate(own.identity)
        found.append(
            PackedStage(name=link.name, kind=link.kind, fields=said.fields, upstream=above, identity=said, digest=own.digest, **place)
        )
    return found


def _weights_file(stage: Stage) -> str:
    """The file that a stage's weights are, or nothing where they are named or drawn."""
    return str(getattr(stage.extractor, "weights", "")) if "sha256" in stage.fingerprint.identity.get("weights", {}) else ""


def _write_weights(given: str, file: Path) -> None:
    """The tensors of a checkpoint of any form as safetensors: a package holds nothing that could be run."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True)
    if given.endswith(".safetensors"):
        shutil.copy(given, file)
    else:
        save_file({name: values.clone().contiguous() for name, values in weights.read_checkpoint(given).items()}, file)


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, which is at `out` in one step once it is whole, as a zip where `out` ends so."""
    out = out.absolute()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
            folder = Path(scratch) / "package"
            folder.mkdir()
            yield folder
            if out.suffix.lower() == _archive.SUFFIX:
                _archive.pack(folder, Path(scratch) / "zip")
                os.replace(Path(scratch) / "zip", out)
            else:
                os.replace(folder, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}; make room there, or name another place") from error
