"""What one extraction of resnet50, holistic and i3d costs beside three of one stage each, and each stage beside its bare forward.

SIGNCACHE_SHARED=DIR python -m tests.bench.one_pass [CLIPS] [ROUNDS]

Real clips of `DIR/croatian_signs`, random weights. Ratios are medians of rounds in turns; every run has a cache of its own
and starts its own decode processes, which import this file: torch is not imported at its top.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import manifest, registry
from pipeline.configured import configure
from pipeline.decode import open_clip
from pipeline.engine import use_threads
from pipeline.extract import Options, extract
from pipeline.lanes import DEVICE_BATCH
from pipeline.machine import cores
from pipeline.manifest import Home
from pipeline.progress import Progress
from pipeline.types import Array, Extractor

SHARED = Path(os.environ.get("SIGNCACHE_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
STAGES: Mapping[str, Mapping[str, Any]] = {
    "resnet50": {"weights": "random:0", "precision": "bfloat16", "max_frames": 16},
    "holistic": {"frames": 16},
    "i3d": {"weights": "random:0", "precision": "bfloat16", "stride": 16},
}


def chosen(count: int, folder: Path) -> list[Path]:
    """The first clips of every sign in turn, copied below `folder`."""
    signs = [sorted(sign.glob("*.mp4")) for sign in sorted((SHARED / "croatian_signs").iterdir()) if sign.is_dir()]
    files = [clip for row in zip(*signs, strict=False) for clip in row][:count]
    for file in files:
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    return sorted(folder.rglob("*.mp4"))


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def extraction(data: Path, names: Sequence[str]) -> None:
    """One run of the engine on these stages, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder, "cache"), Path(folder, "manifests"))
        table = manifest.bind(home, "signs", corpus="folder", root=data)
        stages = [configure(home, table, name, now=STAGES[name]) for name in names]
        outcome = extract(home, table, stages, Options(), Progress())
        assert not any(outcome.failed.values()), outcome.failed


def decoded(files: Sequence[Path], stage: Extractor) -> list[list[tuple[Array, ...]]]:
    """The frames that a stage selects of each clip, decoded before anything is timed."""
    clips = []
    for file in files:
        clip = open_clip([file], decord=True, lengths={})
        wanted = stage.select(clip.length, clip.rate_hz)
        images = dict(zip(np.unique(wanted).tolist(), clip.frames(np.unique(wanted)), strict=True))
        clips.append([images[index] for index in wanted.tolist()])
    return clips


def bare(stage: Extractor, clips: list[list[tuple[Array, ...]]]) -> Callable[[], object]:
    """The stage's own computation and nothing else: the forward pass on prepared rows, or MediaPipe where items are rows."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    forward = stage.load(device)
    if forward is None:
        return lambda: [list(stage.prepare(iter(clip))) for clip in clips]
    rows = []
    for clip in clips:
        items = list(stage.prepare(iter(clip)))
        rows += [items[window][0] if window.stop - window.start == 1 else np.stack(items[window]) for window in stage.rows(len(items))]

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, len(rows), DEVICE_BATCH[device]):
                forward(torch.from_numpy(np.stack(rows[start : start + DEVICE_BATCH[device]])).to(device)).cpu()

    return run


def main(count: int, rounds: int) -> None:
    """Print seconds, frames a second and ratios; the first round only warms."""
    if not (SHARED / "croatian_signs").is_dir():
        sys.exit(f"no clips below {SHARED}: set SIGNCACHE_SHARED to a folder that holds croatian_signs/<sign>/<clip>.mp4")
    use_threads(cores())
    with tempfile.TemporaryDirectory() as folder:
        files = chosen(count, Path(folder))
        stages = {name: registry.create("stage", name, fields) for name, fields in STAGES.items()}
        inputs = {name: decoded(files, stage) for name, stage in stages.items()}
        acts: dict[str, Callable[[], object]] = {"all in one": lambda: extraction(Path(folder), list(STAGES))}
        for name, stage in stages.items():
            acts[name] = lambda name=name: extraction(Path(folder), [name])  # type: ignore[misc]
            acts[f"bare {name}"] = bare(stage, inputs[name])
        taken: dict[str, list[float]] = {name: [] for name in acts}
        for number in range(rounds + 1):
            for name, act in acts.items():
                value = seconds(act)
                if number:
                    taken[name].append(value)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    for name in STAGES:
        frames = sum(len(clip) for clip in inputs[name])
        engine, alone = frames / medians[name], frames / medians[f"bare {name}"]
        processes = f", one process; the engine has {cores()}" if stages[name].load is Extractor.load else ""
        print(f"{name:9} engine {engine:6.1f} frames/s, bare {alone:6.1f} frames/s{processes}: ratio {engine / alone:.2f}")
    together, apart = medians["all in one"], sum(medians[name] for name in STAGES)
    print(f"{len(files)} clips: one pass {together:.1f} s, three passes {apart:.1f} s: ratio {apart / together:.2f}")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:3]]
    main(*[*numbers, *(9, 3)[len(numbers) :]])
