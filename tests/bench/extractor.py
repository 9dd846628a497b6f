"""One way to extract features in a process of its own: the engine, the bare computation, or a loop in the peers' style.

python -m tests.bench.extractor KIND DATA OUT CORES STAGE...
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import machine, registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.decoding.decode import open_clip
from pipeline.extraction._engine import use_threads
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array, Extractor
from tests.bench import gpu
from tests.bench.contest import serve

SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "resnet50": ("resnet50", {"weights": "random:0"}),
    "resnet50_bf16": ("resnet50", {"weights": "random:0", "precision": "bfloat16"}),
    "holistic": ("holistic", {"frames": 30}),
    "few_resnet50": ("resnet50", {"weights": "random:0", "precision": "bfloat16", "max_frames": 4}),
    "few_holistic": ("holistic", {"frames": 4}),
    "few_i3d": ("i3d", {"weights": "random:0", "precision": "bfloat16", "frames": 16}),
    "gpu_resnet50": ("resnet50", {"weights": "random:0", "precision": "bfloat16", "max_frames": 300}),
    "gpu_i3d": ("i3d", {"weights": "random:0", "precision": "bfloat16"}),
}
"""The stages that are measured: the file in `stages/` and its fields."""

BATCH = {"cpu": 8, "cuda": 64}
"""Rows a pass of the bare network: what was fastest on a CPU, and enough for a GPU."""


class Way:
    """Extracts `stages` of the clips below `data`; `out` is a folder of its own."""

    def __init__(self, data: Path, out: Path, stages: Sequence[str]) -> None:
        self.data, self.out, self.stages = data, out, stages
        self.files = sorted(data.rglob("*.mp4"))

    def ready(self) -> None:
        """What is not timed."""

    def run(self) -> Mapping[str, float]:
        """Seconds of the whole and of its parts."""
        raise NotImplementedError

    def saved(self) -> None:
        """Leave the rows of the first stage in `out`, a `.npy` a clip."""


class Engine(Way):
    """This project's extraction into an empty cache."""

    def ready(self) -> None:
        import torchvision.models  # noqa: F401  # what a run imports is no part of extracting, here as in the others

        self.home = Home(self.out / "cache", self.out / "manifests")
        self.table = manifest.bind(self.home, "signs", corpus="folder", root=self.data)

    def run(self) -> Mapping[str, float]:
        shutil.rmtree(self.home.cache, ignore_errors=True)
        began = time.perf_counter()
        chosen = [configure(self.home, self.table, name, kind=SETTINGS[name][0], now=SETTINGS[name][1]) for name in self.stages]
        outcome = extract(self.home, self.table, chosen, Options(), Progress())
        taken = time.perf_counter() - began
        if any(outcome.failed.values()):
            raise RuntimeError(f"clips failed: {outcome.failed}")
        return {"seconds": taken}

    def saved(self) -> None:
        features = open_stage("signs", self.stages[0], cache=self.home.cache, manifests=self.home.manifests)
        for clip, rows in features.items():
            np.save(self.out / f"{clip.replace('/', '-')}.npy", rows)


class Bare(Way):
    """All clips decoded and prepared on all cores, then the forward pass over all their rows, batch by batch."""

    def ready(self) -> None:
        use_threads(machine.cores())
        kind, fields = SETTINGS[self.stages[0]]
        self.stage: Extractor = registry.create("stage", kind, fields)
        self.device = machine.chosen_device("auto")
        forward = self.stage.load(self.device)
        if forward is None:
            raise RuntimeError(f"{kind} has no forward pass")
        self.forward = forward

    def run(self) -> Mapping[str, float]:
        began = time.perf_counter()
        with ThreadPoolExecutor(machine.cores()) as threads:
            clips = list(threads.map(lambda file: list(self.stage.prepare(iter(frames_of(self.stage, file)))), self.files))
        windows = [[items[window] for window in self.stage.rows(len(items))] for items in clips]
        self.lengths = [len(clip) for clip in windows]
        self.forwarded = 0.0
        self.rows = np.concatenate(list(self._computed([window for clip in windows for window in clip])))
        return {"seconds": time.perf_counter() - began, "forward": self.forwarded}

    def _computed(self, inputs: Sequence[Sequence[Array]]) -> Iterator[Array]:
        import torch

        size = BATCH[self.device]
        for start in range(0, len(inputs), size):
            items = np.stack([window[0] if len(window) == 1 else np.stack(window) for window in inputs[start : start + size]])
            began = time.perf_counter()
            with torch.inference_mode():
                rows = self.forward(torch.from_numpy(items).to(self.device)).cpu().numpy()
            self.forwarded += time.perf_counter() - began
            yield rows

    def saved(self) -> None:
        for file, rows in zip(self.files, np.split(self.rows, np.cumsum(self.lengths)[:-1]), strict=True):
            np.save(self.out / named(file, self.data), rows)


class Peers(Way):
    """As extraction scripts do it: decode a clip, torchvision's transforms frame by frame, the network, np.save."""

    def ready(self) -> None:
        import torch
        from torchvision import models, transforms

        torch.set_num_threads(machine.cores())
        self.device = machine.chosen_device("auto")
        torch.manual_seed(0)
        network = models.resnet50(weights=None)
        network.fc = torch.nn.Identity()
        self.network = network.eval().to(self.device)
        normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        self.transform = transforms.Compose([transforms.ToPILImage(), transforms.Resize((224, 224)), transforms.ToTensor(), normalize])

    def run(self) -> Mapping[str, float]:
        import torch

        stage: Extractor = registry.create("stage", *SETTINGS[self.stages[0]])
        began = time.perf_counter()
        with torch.no_grad():
            for file in self.files:
                images = torch.stack([self.transform(image) for (image,) in frames_of(stage, file)])
                np.save(self.out / named(file, self.data), self.network(images.to(self.device)).cpu().numpy())
        return {"seconds": time.perf_counter() - began}


def named(file: Path, data: Path) -> str:
    """The file of a clip's rows."""
    return file.relative_to(data).with_suffix(".npy").as_posix().replace("/", "-")


def frames_of(stage: Extractor, file: Path) -> list[tuple[NDArray[np.uint8], ...]]:
    """The frames that a stage selects of a clip."""
    clip = open_clip([file], decord=True, lengths={})
    wanted = stage.select(clip.length, clip.rate_hz)
    images = dict(zip(np.unique(wanted).tolist(), clip.frames(np.unique(wanted)), strict=True))
    return [images[index] for index in wanted.tolist()]


WAYS: Mapping[str, type[Way]] = {"engine": Engine, "bare": Bare, "peers": Peers}


def timed(way: Way) -> Mapping[str, float]:
    """What a way took, and on a GPU how busy that was."""
    if gpu.absent():
        return way.run()
    with gpu.watched() as busy:
        found = way.run()
    return {**found, **busy}


def main(kind: str, data: str, out: str, cores: str, *stages: str) -> None:
    """Answer for one way; with CORES it runs on so many, else (0) on all."""
    if int(cores):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    Path(out).mkdir(parents=True, exist_ok=True)
    way = WAYS[kind](Path(data), Path(out), stages)
    answers: dict[str, Callable[..., object]] = {"ready": way.ready, "run": lambda number: timed(way), "saved": way.saved}
    serve(answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
