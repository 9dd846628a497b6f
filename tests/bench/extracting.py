"""Rows of stage one: the engine beside the bare computation, the peers' loop, one pass a stage, and one process.

Real clips of `croatian_signs` below SIGNCACHE_SHARED where they are, else drawn ones; random weights. One process of MediaPipe left
free takes 1.4 cores, so that on two cores two could be 1.5 times as fast at most: it is compared with one that has one core.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.datasets._drawing.clip import clip_media, make_clip
from pipeline.datasets._drawing.glosses import GLOSSES
from pipeline.datasets._drawing.signers import SIGNERS
from pipeline.machine import cores
from tests.bench.contest import ROOT, Contestant
from tests.bench.rows import Row, faster

PART = "extract"
SHARED = Path(os.environ.get("SIGNCACHE_SHARED", ROOT.parent / "shared" / "data"))
ONE_PASS = ("few_resnet50", "few_holistic", "few_i3d")
LIKE = 0.999
"""The least cosine between the rows of two ways."""


@dataclass(frozen=True)
class Way:
    """A way of extracting, on what clips, and with how many cores; 0 are all."""

    kind: str
    clips: str
    stages: Sequence[str]
    cores: int = 0


WAYS: Mapping[str, Way] = {
    "engine": Way("engine", "signs", ["resnet50"]),
    "engine_bf16": Way("engine", "signs", ["resnet50_bf16"]),
    "bare": Way("bare", "signs", ["resnet50"]),
    "peers": Way("peers", "signs", ["resnet50"]),
    "together": Way("engine", "long", ONE_PASS),
    **{name: Way("engine", "long", [name]) for name in ONE_PASS},
    "processes": Way("engine", "signs", ["holistic"]),
    "one_process": Way("engine", "signs", ["holistic"], cores=1),
}


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Every row; all ways in turns, each time in a fresh process with an empty cache."""
    clips, long, rounds = (2, 1, 1) if quick else (12, 6, 3)
    chosen(clips, folder / "signs")
    moving(long, folder / "long", 60 if quick else 250, (1920, 1080))
    names = [name for name in WAYS if cores() > 1 or name not in ("processes", "one_process")]
    told: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names[:: -1 if number % 2 else 1]:
            told[name].append(once(WAYS[name], folder / name, folder, number))
    alike(folder / "engine", folder / "bare", folder / "peers", folder / "engine_bf16")
    yield from _rows(told, clips, long)


def once(way: Way, out: Path, folder: Path, number: int) -> dict[str, float]:
    """What a way took, by its parts."""
    arguments = [way.kind, folder / way.clips, out, way.cores, *way.stages]
    with Contestant(sys.executable, "tests.bench.extractor", *arguments, threads=way.cores or cores()) as worker:
        worker.ask("ready")
        found: dict[str, float] = worker.ask("run", number)
        worker.ask("saved")
    return found


def _rows(told: Mapping[str, list[dict[str, float]]], clips: int, long: int) -> Iterator[Row]:
    seconds = {name: [found["seconds"] for found in answers] for name, answers in told.items()}
    unit: dict[str, Any] = {"count": clips, "unit": "clips"}
    if not torch.cuda.is_available():  # there it is held against the forward alone
        what = "resnet50: decode on all cores, then the bare forward"
        yield faster(PART, what, seconds["engine"], seconds["bare"], **unit, floor=0.85, aim=0.95)
    yield faster(PART, "resnet50: the peers' loop", seconds["engine"], seconds["peers"], **unit, floor=1.3, aim=1.6)
    yield faster(PART, "resnet50 bfloat16: the peers' loop", seconds["engine_bf16"], seconds["peers"], **unit, floor=2.5, aim=3.5)
    apart = [sum(found) for found in zip(*(seconds[name] for name in ONE_PASS), strict=True)]
    what = "three stages in one pass: three passes, 1080p"
    yield faster(PART, what, seconds["together"], apart, count=long, unit="clips", floor=1.5, aim=2)
    if "processes" in seconds:
        floor, aim = (1.7, 1.95) if cores() == 2 else (None, None)
        what = f"holistic on {cores()} cores: on one"
        yield faster(PART, what, seconds["processes"], seconds["one_process"], **unit, floor=floor, aim=aim)


def alike(*folders: Path) -> None:
    """Raise where two ways made other rows of a clip."""
    for path in sorted(folders[0].glob("*.npy")):
        first, *others = (np.load(folder / path.name).astype(np.float64) for folder in folders)
        for folder, other in zip(folders[1:], others, strict=True):
            cosine = (first * other).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(other, axis=1)
            if first.shape != other.shape or cosine.min() < LIKE:
                raise RuntimeError(f"{folder.name} made other rows of {path.stem} than {folders[0].name}: cosine {cosine.min():.5f}")


def chosen(count: int, folder: Path) -> None:
    """So many clips below `folder`: the first real ones of every sign in turn, else drawn ones."""
    signs = [sorted(sign.glob("*.mp4")) for sign in sorted((SHARED / "croatian_signs").glob("*")) if sign.is_dir()]
    files = [clip for row in zip(*signs, strict=False) for clip in row][:count]
    for file in files:
        (folder / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / file.parent.name)
    for number in range(len(files), count):
        gloss, signer = list(GLOSSES)[number % len(GLOSSES)], list(SIGNERS)[number // len(GLOSSES)]
        make_clip(folder / ".drawn", gloss, signer, 1)
        drawn = folder / ".drawn" / clip_media(gloss, signer, 1)["rgb"][0]
        (folder / gloss).mkdir(parents=True, exist_ok=True)
        drawn.rename(folder / gloss / f"{drawn.stem}.mp4")


def moving(count: int, folder: Path, frames: int, size: tuple[int, int]) -> None:
    """Clips of a moving texture, `size` wide and high, in H.264."""
    import av

    (folder / "sign").mkdir(parents=True)
    width, height = size
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 255, (-(-height // 40), -(-width // 40), 3), np.uint8)
        image = np.repeat(np.repeat(coarse, 40, axis=0), 40, axis=1)[:height, :width]
        with av.open(str(folder / "sign" / f"clip{number}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for step in range(frames):
                moved = np.ascontiguousarray(np.roll(image, (3 * step, 5 * step), (0, 1)))
                out.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
            out.mux(stream.encode())
