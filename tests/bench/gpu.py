"""Rows of a GPU: stage one beside the bare forward pass, and the share of the time in which the device is busy."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.bench.extracting import PART, Way, alike, moving, once
from tests.bench.rows import Row, faster

STAGES: Mapping[str, str] = {"gpu_resnet50": "resnet50 bfloat16 on a GPU", "gpu_i3d": "i3d bfloat16 on a GPU"}
CLIPS, FRAMES, SIZE = 128, 300, (320, 240)
"""Enough for several seconds: what starts a run is then a small part of it."""


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Two rows a stage; without a GPU they are absent and say so."""
    clips, rounds = (8, 1) if quick else (CLIPS, 3)
    why = absent()
    if not why:
        moving(clips, folder / "clips", FRAMES, SIZE)
    for stage, what in STAGES.items():
        if why:
            yield Row(PART, f"{what}: the bare forward alone", "frames/s", floor=0.85, aim=0.95, absent=why)
            yield Row(PART, f"{what}: device busy", "% of a run", absent=why)
        else:
            yield from measured(stage, what, folder, clips, rounds)


def measured(stage: str, what: str, folder: Path, clips: int, rounds: int) -> Iterator[Row]:
    """The rows of a stage, all in turns, each time in a fresh process with an empty cache."""
    told: dict[str, list[dict[str, float]]] = {"engine": [], "bare": []}
    for number in range(rounds):
        for kind in list(told)[:: -1 if number % 2 else 1]:
            told[kind].append(once(Way(kind, "clips", [stage]), folder / f"{kind}-{stage}", folder, number))
    alike(folder / f"engine-{stage}", folder / f"bare-{stage}")
    engine, bare = [found["seconds"] for found in told["engine"]], [found["forward"] for found in told["bare"]]
    count = clips * FRAMES
    yield faster(PART, f"{what}: the bare forward alone", engine, bare, count=count, unit="frames", floor=0.85, aim=0.95)
    busy = tuple(found["busy"] for found in told["engine"])
    yield Row(PART, f"{what}: device busy", "% of a run", busy, values=busy)


def absent() -> str:
    """Why there is nothing to measure, or nothing."""
    import torch

    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return "" if shutil.which("nvidia-smi") else "nvidia-smi is not there, which tells how busy the device is"


@contextmanager
def watched() -> Iterator[dict[str, float]]:
    """`busy`, when this is left: percent of the time in which the device computed, as nvidia-smi saw it ten times a second."""
    used = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    command = ["nvidia-smi", f"--id={used}", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=100"]
    found: dict[str, float] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        try:
            yield found
        finally:
            watch.terminate()
            said, _ = watch.communicate()
    found["busy"] = statistics.fmean(map(float, said.split()))
