"""Export: a run's network in another format, held against the run on its clips before it is put in place."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import __version__
from pipeline.cache import weights
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.data.batch import Batch
from pipeline.data.table import SCORING_BATCH, UNKNOWN, Table
from pipeline.errors import UserError
from pipeline.learning.recipe import Predictor
from pipeline.runs import run_folder
from pipeline.runs.exporting.formats import FORMATS, Runner
from pipeline.runs.exporting.module import Exported, Signature, halved
from pipeline.runs.packaging.reading import run_at
from pipeline.runs.run_folder import Run
from pipeline.runs.trained import recipe_of
from pipeline.runs.training import as_trained, predictor_of

TOLERANCE = 1e-4
"""Of the largest logit."""


@dataclass(frozen=True)
class Parity:
    """How the file's logits differ from the run's: the largest difference by the largest logit, and clips labelled otherwise."""

    clips: int
    difference: float
    otherwise: int
    of: str
    """What was compared: the run's clips, or others and why."""

    def line(self) -> str:
        same = f"{self.clips - self.otherwise} of {self.clips} {self.of} labelled as by the run"
        return f"{same}, logits within {self.difference:.1g} of the largest"


def export(
    home: Home, place: Path, out: Path, form: str, *, half: bool = False, quantize: str | None = None
) -> tuple[Parity, dict[str, Any]]:
    """Write the network of a run or package; gives how it compares, and the metadata in the file.

    Raises UserError where the model is none that can be exported, or where the file would say anything else than the run does;
    with `half` or `quantize` it may, and how often is told.
    """
    with run_at(place) as folder:
        run = run_folder.read(folder)
        recipe = recipe_of(run)
        shapes = {stage: tuple(run.record["stages"][stage]["row_shape"]) for stage in recipe.stages}
        predictor = predictor_of(run, recipe, {stage: int(np.prod(shape)) for stage, shape in shapes.items()}, "cpu")
        signature = Signature(tuple(shapes), tuple(shapes.values()))
        batches, of = _clips(home, run, signature)
    columns = [place for place, label in enumerate(run.record["classes"]) if label in run.record["learned"]]
    network = _network(run, predictor, signature, columns, half)
    said = metadata(run, signature, columns)
    try:
        out.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.absolute().parent) as scratch:
            file = Path(scratch) / out.name
            FORMATS[form].write(network, signature, said, file, half, quantize)
            found = compare(FORMATS[form].open(file), predictor, batches, signature, columns, of)
            if not (half or quantize) and (found.difference > TOLERANCE or found.otherwise):
                raise UserError(f"{form} would not say what {run.folder} does ({found.line()}), so nothing is written; please report this")
            os.replace(file, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}; name another file with --out") from error
    return found, said


def _network(run: Run, predictor: Predictor, signature: Signature, columns: list[int], half: bool) -> Exported:
    if not hasattr(predictor, "network"):
        raise UserError(f"model {run.model!r} cannot be exported: it does not say its network; see Predictor in pipeline.learning.recipe")
    try:
        whole = Exported(predictor.network(), signature.stages, columns)
    except UserError as error:
        raise UserError(f"model {run.model!r} cannot be exported: {error}") from error
    return halved(whole) if half else whole


def tensorrt_line(file: Path) -> str:
    """The line that makes a TensorRT engine of an ONNX file, for up to 16 clips of up to 256 rows."""
    import onnx

    entries = {each.name: [axis.dim_value for axis in each.type.tensor_type.shape.dim] for each in onnx.load(str(file)).graph.input}

    def shapes(clips: int, rows: int) -> str:
        known = ((clips, rows, *axes[2:]) if len(axes) > 1 else (clips,) for axes in entries.values())
        return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in zip(entries, known, strict=True))

    sizes = zip(("min", "opt", "max"), ((1, 1), (1, 64), (16, 256)), strict=True)
    words = [f"--{kind}Shapes={shapes(*size)}" for kind, size in sizes]
    return shlex.join(["trtexec", f"--onnx={file}", *words, "--fp16", f"--saveEngine={file.with_suffix('.engine')}"])


def metadata(run: Run, signature: Signature, columns: list[int]) -> dict[str, Any]:
    """What the file says of itself: classes by output column, inputs by stage, and how each stage makes its rows."""
    stages = {}
    for name, shape in zip(signature.stages, signature.row_shapes, strict=True):
        record = run.record["stages"][name]
        identity = record["identity"] or {}
        known = {"class": identity.get("class"), "fields": identity.get("fields"), "weights": weights.phrase(identity.get("weights"))}
        stages[name] = {"digest": record["digest"], "row_shape": list(shape), **(known if identity else {})}
    own = {"signcache": __version__, "run": run.record["id"], "dataset": run.dataset, "model": run.model}
    return {
        **own,
        "classes": [run.record["classes"][place] for place in columns],
        "inputs": signature.pairs,
        "stages": stages,
        "settings": dict(run.record["settings"]),
    }


def _clips(home: Home, run: Run, signature: Signature) -> tuple[list[Batch], str]:
    """The clips of the split that scored it, of every one where there is none, by features; random ones where these are away."""
    try:
        listed = manifest.read(home, run.dataset)
        stages = as_trained(home, run, listed, recipe_of(run))
    except UserError as error:
        return [random_batch(signature)], f"random clips (those of the run are not here: {error})"
    known = [sample for sample in listed.samples if all(sample.id in features for features in stages.values())]
    split = "test" if any(sample.split == "test" for sample in known) else run.scores["split"]
    chosen = [sample.id for sample in known if sample.split == split] or [sample.id for sample in known]
    table = Table(tuple(chosen), np.full(len(chosen), UNKNOWN, np.int64), tuple(run.record["classes"]), stages)
    return list(table.batches(SCORING_BATCH, shuffle=False)), "clips"


def random_batch(signature: Signature, clips: int = 16, most: int = 80) -> Batch:
    """Clips of up to `most` rows of noise in each stage, the first without any."""
    random = torch.Generator().manual_seed(0)
    lengths = {stage: torch.randint(1, most, (clips,), generator=random) * (torch.arange(clips) > 0) for stage in signature.stages}
    features = {
        stage: torch.randn(clips, most, *shape, generator=random)
        for stage, shape in zip(signature.stages, signature.row_shapes, strict=True)
    }
    return Batch(tuple(map(str, range(clips))), features, lengths, torch.full((clips,), UNKNOWN))


def compare(
    runner: Runner, predictor: Predictor, batches: Iterable[Batch], signature: Signature, columns: Sequence[int], of: str = "clips"
) -> Parity:
    """What a file says of clips beside what the run says."""
    pairs = [(predictor.logits(batch)[:, columns], runner(signature.given(batch))) for batch in batches]
    expected, found = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    apart = np.abs(expected - found).max(initial=0) / max(np.abs(expected).max(initial=0), 1e-30)
    return Parity(len(expected), float(apart), int((expected.argmax(1) != found.argmax(1)).sum()), of)
