"""Rows of exported models: milliseconds a clip by ONNX Runtime beside PyTorch on one thread, and megabytes of the file.

At published sizes, with LIS' 126 classes and clips of 64 rows. The bar is that of Kaggle's competition of isolated signs: less than
100 ms a clip on a CPU, less than 40 MB.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline import registry
from pipeline.data.batch import Batch
from pipeline.learning.recipe import Recipe
from pipeline.runs.exporting.formats import FORMATS
from pipeline.runs.exporting.module import Exported, Signature
from tests.bench.rows import Row

PART = "export"
CLASSES, ROWS = 126, 64
MILLISECONDS, MEGABYTES = 100.0, 40.0
STATED = 142.8
"""Milliseconds that RohanPatil2/sign-language-recognition states for its whole ensemble on a CPU."""
SOURCE = {"hidden": 256, "layers": 2, "pooling": "query", "stages": ("kinematics",)}
MODELS: Mapping[str, dict[str, Any]] = {
    "lstm_late": {},
    "bilstm_attention": {},
    "transformer": {},
    "inception_time": {},
    "attention_fusion": {},
    "feature_fuser": {},
    "two_stream": {},
    "self_learning_fusion": {},
    "late_fusion": {"members": [{"model": "transformer"}, {"model": "bilstm_attention", "settings": SOURCE}]},
}


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Two rows a model, and one beside what the INCLUDE-50 ensemble states."""
    torch.set_num_threads(1)
    rounds = 5 if quick else 50
    for name, settings in MODELS.items():
        recipe: Recipe = registry.create("model", name, settings).adapted({})
        sizes, times = measured(recipe, folder / name, rounds)
        what = f"{name}, a clip of {ROWS} rows by ONNX Runtime: PyTorch"
        yield Row(PART, what, "ms", times["onnx"], times["torch"], times["onnx"], MILLISECONDS, at_most=True)
        yield Row(PART, f"{name} as ONNX: its int8", "MB", (sizes["whole"],), (sizes["int8"],), (sizes["whole"],), MEGABYTES, at_most=True)
        if name == "late_fusion":
            whole = f"transformer and BiLSTM of INCLUDE-50's ensemble, without their stages: {STATED} ms stated for its whole"
            yield Row(PART, whole, "ms", times["onnx"], (STATED,) * rounds, times["onnx"], MILLISECONDS, at_most=True)


def measured(recipe: Recipe, folder: Path, rounds: int) -> tuple[dict[str, float], dict[str, tuple[float, ...]]]:
    """Megabytes of the file as it is and as int8; milliseconds a round by each runtime."""
    folder.mkdir(parents=True)
    shapes = {stage: registry.create("stage", stage).row_shape for stage in recipe.stages}
    signature = Signature(tuple(shapes), tuple(shapes.values()))
    predictor = recipe.predictor({stage: math.prod(shape) for stage, shape in shapes.items()}, CLASSES)
    network = Exported(predictor.network(), signature.stages, range(CLASSES))
    files = {"whole": None, "int8": "int8"}
    for form, quantize in files.items():
        FORMATS["onnx"].write(network, signature, {"inputs": signature.pairs}, folder / form, False, quantize)
    features = {stage: torch.randn(1, ROWS, *shape) for stage, shape in shapes.items()}
    batch = Batch(("clip",), features, {stage: torch.tensor([ROWS]) for stage in shapes}, torch.tensor([-1]))
    given, run = signature.given(batch), FORMATS["onnx"].open(folder / "whole")
    ways: Mapping[str, Callable[[], object]] = {"onnx": lambda: run(given), "torch": lambda: predictor.logits(batch)}
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way in list(ways)[:: -1 if number % 2 else 1]:
            began = time.perf_counter()
            ways[way]()
            found[way].append(1000 * (time.perf_counter() - began))
    return {form: (folder / form).stat().st_size / 1e6 for form in files}, {way: tuple(seconds[1:]) for way, seconds in found.items()}
