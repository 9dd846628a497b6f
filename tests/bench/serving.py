"""Rows of a server: uploads of several clients at once, beside a loop in plain PyTorch that labels the same clips one after the other.

Both have the same weights and cores. Latency is that of a client, from its first byte to the answer; memory the sum of all processes.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from pipeline import machine
from tests.bench.contest import Contestant, serve
from tests.bench.extracting import moving
from tests.bench.live import said
from tests.bench.memory import EVERY_SECONDS, held
from tests.bench.rows import Row, faster
from tests.serving.started import Serving, started

PART = "serve"
CLIENTS = 8
FRAMES, SIZE = 50, (320, 240)
STAGE = ("--set", "weights=random:0", "--set", "max_frames=8")
GROWTH = 1.1
"""By how much memory may grow over hundreds of further requests."""


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Throughput, latency and memory beside the loop; uploads that are known by their content; and what grows."""
    rounds, count, further = (2, 8, 100) if quick else (5, 32, 500)
    for name in "ab":
        moving(8, folder / "clips" / name, 12, SIZE)
    moving(rounds * count, folder / "uploads", FRAMES, SIZE)
    uploads = sorted((folder / "uploads").rglob("*.mp4"))
    said(folder, "manifest", "signs", "--corpus", "folder", "--root", folder / "clips")
    said(folder, "extract", "signs", "resnet50", *STAGE)
    run = said(folder, "train", "signs", "lstm_late", "--set", "stages=resnet50", "--set", "epochs=1", "--json")["run"]
    said(folder, "package", run, folder / "signs")
    loop = Contestant(sys.executable, __name__, folder / "signs", threads=machine.cores())
    with started(folder / "signs", folder, "--waiting", "64") as server, loop:
        ours, theirs = _Measured(server.process.pid), _Measured(loop.process.pid)
        for number in range(rounds):
            some = uploads[number * count : (number + 1) * count]
            ways: list[tuple[_Measured, Callable[[], list[float]]]] = [
                (ours, lambda some=some: sent(server, some)),  # type: ignore[misc]
                (theirs, lambda some=some: loop.ask("label", *map(str, some))),  # type: ignore[misc]
            ]
            for measured, way in ways[:: -1 if number % 2 else 1]:
                measured.one(way)
        what = f"{CLIENTS} clients, clips of {FRAMES} frames of 320x240, ResNet50 of 8 and LSTM"
        yield faster(PART, f"{what}: a loop in PyTorch", ours.seconds, theirs.seconds, count=count, unit="clips", floor=None, aim=None)
        for percent in (50, 99):
            own, other = (1000 * float(np.percentile(each.latencies, percent)) for each in (ours, theirs))
            yield _row(f"until a client has its answer, {percent} % of them: a clip of the loop", "ms", own, other)
        yield _row("peak memory of all its processes: of the loop", "MiB", ours.peak / 2**20, theirs.peak / 2**20)
        yield _row(
            "clips that were labelled in one batch, mean", "clips", server.counted("labelled_clips") / server.counted("labelled_batches")
        )
        yield from _known(server, uploads, further)


def _known(server: Serving, uploads: Sequence[Path], further: int) -> Iterator[Row]:
    decoded, before = server.counted("labelled_decoded"), held(psutil.Process(server.process.pid))
    latencies = sent(server, [uploads[number % len(uploads)] for number in range(further)])
    yield _row(f"a clip that is known by its content, median of {further}", "ms", 1000 * statistics.median(latencies))
    yield _row("of these were decoded again", "clips", server.counted("labelled_decoded") - decoded)
    after = held(psutil.Process(server.process.pid))
    what = f"memory after {further} further requests: before"
    yield Row(PART, what, "MiB", (after / 2**20,), (before / 2**20,), (after / before,), GROWTH, at_most=True)


def _row(what: str, unit: str, value: float, rival: float | None = None) -> Row:
    return Row(PART, what, unit, (value,), () if rival is None else (rival,), (value if rival is None else value / rival,), at_most=True)


@dataclass
class _Measured:
    """Seconds of each round, those of each clip, and the most that all processes held."""

    pid: int
    seconds: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    peak: int = 0

    def one(self, way: Callable[[], list[float]]) -> None:
        with self._watched():
            began = time.perf_counter()
            self.latencies += way()
            self.seconds.append(time.perf_counter() - began)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(EVERY_SECONDS):
                self.peak = max(self.peak, held(psutil.Process(self.pid)))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def sent(server: Serving, clips: Sequence[Path]) -> list[float]:
    """Seconds until each clip's answer, sent by CLIENTS at a time; raises where one is no label."""

    def one(clip: Path) -> float:
        content, began = clip.read_bytes(), time.perf_counter()
        status, answer = server.send(content)
        if status != 200:
            raise RuntimeError(f"{clip.name}: status {status}, {answer}")
        return time.perf_counter() - began

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, clips))


def _loop(place: Path) -> dict[str, Callable[..., Any]]:
    """A loop as one would write it first: decode, ResNet50, LSTM, the next clip."""
    import torch

    from pipeline.corpus.manifest import Home
    from pipeline.decoding.decode import open_clip
    from pipeline.runs.packaging.reading import opened
    from pipeline.spotting.recogniser import Recogniser

    with opened(Home(), place) as trained:
        recogniser, extractor = Recogniser(trained, "cpu"), trained.stages[0].extractor
        forward = extractor.load("cpu")
        assert forward is not None

    def one(path: str) -> float:
        began = time.perf_counter()
        clip = open_clip([Path(path)], decord=False, lengths={})
        frames = clip.frames(extractor.select(clip.length, clip.rate_hz))
        with torch.inference_mode():
            made = forward(torch.from_numpy(np.stack(list(extractor.prepare(frames))))).numpy()
        recogniser.guesses([{trained.stages[0].name: made}])
        return time.perf_counter() - began

    return {"label": lambda *paths: [one(path) for path in paths]}


if __name__ == "__main__":
    serve(_loop(Path(sys.argv[1])))
