"""What a large corpus costs when nothing changed, or one clip: `plan`, `status`, `extract`, `open_stage` of clips x 4 stages.

python -m tests.bench.million [CLIPS...]

The corpus is simulated: an empty file a clip, empty markers, and row indexes of made-up rows. Every figure is that of a
process of its own, seen from outside: seconds, seconds of the processor, peak memory. The kernel counts a process as large as the
one that started it, so this one imports little.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import xxhash

from pipeline.cache.index import Index, Shard
from pipeline.corpus.media import States
from tests.bench.contest import serve
from tests.checkout import ROOT, Checkout, write_clip

NAME, STAGES = "big", ("colour", "palette", "brightness", "holistic")
CLASSES, SHARD_CLIPS, ROUNDS = 250, 64, 3
FLOORS: Mapping[int, tuple[float, int]] = {100_000: (2.0, 2 << 30), 1_000_000: (20.0, 2 << 30)}
"""Seconds and bytes of a run with nothing to do, by clips."""
TIMED = """
import sys, time
from pipeline.extraction import inputs
from pipeline.cli import main
looked, spent = inputs.inputs_of, [0.0, 0.0]

def timed(*arguments):
    began = time.perf_counter(), time.process_time()
    found = looked(*arguments)
    spent[:] = spent[0] + time.perf_counter() - began[0], spent[1] + time.process_time() - began[1]
    return found

import pipeline.extraction.plan
pipeline.extraction.plan.inputs_of = timed
main(sys.argv[1:], standalone_mode=False)
print("seconds of stat:", *spent, file=sys.stderr)
"""
"""The command line, telling how long it looked at the state of the media."""
OPENED = """
import sys
from pathlib import Path
from pipeline.cache import open_stage
features = open_stage(sys.argv[1], "colour", cache=Path("cache"), manifests=Path("manifests"))
assert features.length(sys.argv[2]) == 30 and len(features) == int(sys.argv[3])
"""


@dataclass(frozen=True)
class Row:
    """One figure: what was run on how many clips, what each round took, and the floor that it is to keep, None where there is none."""

    what: str
    clips: int
    seconds: Sequence[float]
    cpu_seconds: Sequence[float]
    peak_bytes: Sequence[int]
    floor_seconds: float | None = None
    floor_bytes: int | None = None


@dataclass(frozen=True)
class Spent:
    """A finished process: seconds, seconds of the processor, largest resident memory, what it said."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    said: str


def spent(checkout: Checkout, *command: object) -> Spent:
    """Run a Python command in the checkout and wait for it; raises where it fails."""
    environment = {**checkout.environment, "PYTHONPATH": f"{checkout.folder}:{ROOT}"}
    with tempfile.TemporaryFile("w+") as out:
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, *map(str, command)], cwd=checkout.folder, env=environment, stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{said[-3000:]}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def simulated(folder: Path, clips: int) -> Checkout:
    """A checkout whose corpus `big` has this many empty clips with published rows of four stages; its corpus `tiny` has one real clip."""
    checkout = Checkout.make(folder, clips=1)
    for number in range(CLASSES):
        (folder / NAME / f"class{number}").mkdir(parents=True)
    for number in range(clips):
        place(checkout, number).touch()
    spent(checkout, "-m", "pipeline", "manifest", NAME, "--corpus", "folder", "--root", folder / NAME)
    spent(checkout, "-m", "tests.bench.million", "fill")
    return checkout


def place(checkout: Checkout, number: int) -> Path:
    """The file of a clip."""
    return checkout.folder / NAME / f"class{number % CLASSES}" / f"clip{number:07d}.mp4"


def fill() -> None:
    """Publish rows of every clip in every stage, as an extraction leaves them; what they say is made up, and markers hold nothing."""
    from pipeline.cache import index, publishing
    from pipeline.cache.publishing import Finished
    from pipeline.cache.shards import MARKER_SUFFIX
    from pipeline.cache.stage import configure
    from pipeline.corpus import manifest
    from pipeline.corpus.manifest import Home
    from pipeline.extraction.inputs import derived_states, inputs_of

    home, published = Home(), dict[str, Index]()
    table = manifest.read(home, NAME)
    states = inputs_of(home, table, configure(home, table, STAGES[0]))
    for name in STAGES:
        stage, every = configure(home, table, name), np.arange(len(table.samples))
        contents = [xxhash.xxh3_128_hexdigest(f"{name}:{clip}".encode()) for clip in table.ids]
        above = published[stage.upstream.name] if stage.upstream else None
        now = derived_states(stage.upstream, above, every) if stage.upstream and above else states
        folder = stage.folder(home)
        folder.mkdir(parents=True)
        shards = [index.Shard(f"{first:07d}-0", f"{first:07d}-0.zarr", "zarr") for first in range(0, len(every), SHARD_CLIPS)]
        for shard in shards:
            (folder / f"{shard.name}{MARKER_SUFFIX}").touch()
        published[name] = _rows(table.ids, contents, now, shards)
        publishing.publish(home, stage, Finished(published[name], index.build([])), published[name], [])


def _rows(ids: list[str], contents: list[str], states: States, shards: list[Shard]) -> Index:
    """Thirty rows of every clip, 64 clips a shard."""
    number, length = np.arange(len(ids)), np.full(len(ids), 30)
    columns = {
        "start": number % SHARD_CLIPS * 30,
        "length": length,
        "source_length": length,
        "rate_hz": np.full(len(ids), 25.0),
        "stat": states.tokens,
        "size": states.sizes,
        "content": np.array(contents, "S32"),
        "checksum": np.array(contents, "S16"),
        "shard_of": number // SHARD_CLIPS,
    }
    texts = {"ids": ids, "decoders": ["decord"] * len(ids), "tracks": ["[30]"] * len(ids)}
    as_bytes = {name: np.frombuffer("\0".join(values).encode(), np.uint8) for name, values in texts.items()}
    return Index({**columns, **as_bytes}, shards, {})


def measure(clips: int, *, folder: Path | None = None) -> list[Row]:
    """Every figure of a corpus of this size; its checkout is made below `folder`, or in the place of temporary files."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        checkout = simulated(Path(name) / "checkout", clips)
        rows = list(_commands(checkout, clips))
        if clips <= 100_000:
            rows.append(_one_changed(checkout, clips))
        return rows


def _commands(checkout: Checkout, clips: int) -> Iterator[Row]:
    """What is run again and again when nothing has changed."""
    floor = FLOORS.get(clips, (None, None))
    last = place(checkout, clips - 1).relative_to(checkout.folder / NAME).with_suffix("")
    commands: dict[str, Sequence[object]] = {
        "plan": ("plan", NAME, *STAGES),
        "status": ("status", NAME),
        "extract, nothing to do": ("extract", NAME, *STAGES),
    }
    found: dict[str, list[Spent]] = {}
    for number in range(ROUNDS):
        for what, words in list(commands.items())[:: -1 if number % 2 else 1]:
            done = spent(checkout, "-c", TIMED, *words)
            assert done.said.count(f"{clips} fresh") == len(STAGES), done.said[-3000:]
            seconds, cpu_seconds = map(float, done.said.rpartition("seconds of stat:")[2].split())
            unlooked = replace(done, seconds=done.seconds - seconds, cpu_seconds=done.cpu_seconds - cpu_seconds)
            found.setdefault(what, []).append(done)
            found.setdefault(f"{what}, without stat", []).append(unlooked)
        found.setdefault("open_stage", []).append(spent(checkout, "-c", OPENED, NAME, last, clips))
    for what, rounds in found.items():
        yield _row(what, clips, rounds, *(floor if what in commands else ()))


def _row(what: str, clips: int, rounds: Sequence[Spent], seconds: float | None = None, size: int | None = None) -> Row:
    took, cpu, peaks = zip(*((done.seconds, done.cpu_seconds, done.peak_bytes) for done in rounds), strict=True)
    return Row(what, clips, took, cpu, peaks, seconds, size)


def _one_changed(checkout: Checkout, clips: int) -> Row:
    """What a changed clip costs among many, less what it costs in a corpus of its own, in turns."""
    stages = [stage for stage in STAGES if stage != "holistic"]
    found: dict[str, list[Spent]] = {"tiny": [], NAME: []}
    for number in range(ROUNDS + 1):
        clip = {"tiny": checkout.clip(0), NAME: place(checkout, clips // 2)}
        for name in found:
            write_clip(clip[name], 1000 + number)
            done = spent(checkout, "-m", "pipeline", "extract", name, *stages)
            assert "1 clips extracted" in done.said, done.said
            if number:  # the first round extracts all of the tiny corpus, and warms
                found[name].append(done)
    beyond = [
        replace(many, seconds=many.seconds - one.seconds, cpu_seconds=many.cpu_seconds - one.cpu_seconds)
        for many, one in zip(found[NAME], found["tiny"], strict=True)
    ]
    return _row("one changed clip, beyond the clip itself", clips, beyond, 1.0 if clips <= 10_000 else None)


def line(row: Row) -> str:
    """One row for a terminal."""
    seconds, cpu_seconds, peak = map(statistics.median, (row.seconds, row.cpu_seconds, row.peak_bytes))
    below = row.floor_seconds is not None and seconds > row.floor_seconds
    below |= row.floor_bytes is not None and peak > row.floor_bytes
    figures = f"{seconds:8.2f} s {cpu_seconds:8.2f} s cpu {peak / 1e6:8.0f} MB"
    return f"{row.clips:>9} {row.what:<42} {figures}{'  below' if below else ''}"


def main(sizes: Sequence[int]) -> None:
    """Print every figure of every size."""
    for clips in sizes:
        for row in measure(clips):
            print(line(row), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        fill()
    elif sys.argv[1:2] == ["serve"]:
        serve({"measure": lambda clips, folder: [asdict(row) for row in measure(clips, folder=Path(folder))]})
    else:
        with contextlib.suppress(KeyboardInterrupt):
            main([int(word) for word in sys.argv[1:]] or [10_000, 100_000])
