"""Rows of memory: the most that an extraction holds with a long clip, and with very many, beside one of a few short clips.

The sum over all its processes of what each has for itself plus its part of what they share (PSS), looked at from outside.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import psutil

from tests.bench.extracting import moving
from tests.bench.rows import Row
from tests.checkout import Checkout, write_clip

PART = "extract"
EVERY_SECONDS = 0.1
THUMB = '''"""Every frame as an image of the size that networks take, and a forward pass that costs nothing."""

import numpy as np
from PIL import Image

from pipeline.types import Extractor


class Thumb(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 3)` float32."""

    source: str = "rgb"

    @property
    def row_shape(self):
        return (3,)

    def prepare(self, frames):
        for (image,) in frames:
            yield np.asarray(Image.fromarray(image).resize((224, 224)))

    def load(self, device):
        return lambda images: images.float().mean((1, 2))


stage = Thumb
'''


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Peak of a ten-minute 1080p clip by that of ten seconds, of ten thousand clips by that of a hundred."""
    minutes, many = (1, 200) if quick else (10, 10_000)
    checkout = Checkout.make(folder / "checkout", clips=1)
    (checkout.folder / "stages" / "thumb.py").write_text(THUMB)
    moving(1, folder / "brief", 250, (1920, 1080))
    (brief,) = (folder / "brief").rglob("*.mp4")
    repeated(brief, folder / "lengthy" / "sign" / "clip.mp4", 6 * minutes)
    for name, number in (("some", 100), ("many", many)):
        written(folder / name, number)
    peak = {name: peak_bytes(checkout, name, folder / name) / 2**20 for name in ("brief", "lengthy", "some", "many")}
    for name, rival, what in (
        ("lengthy", "brief", f"peak memory of a {minutes}-minute 1080p clip, every frame kept: of ten seconds"),
        ("many", "some", f"peak memory of {many:,} clips: of a hundred"),
    ):
        yield Row(PART, what, "MiB", (peak[name],), (peak[rival],), (peak[name] / peak[rival],), 1.5, 1.1, at_most=True)


def peak_bytes(checkout: Checkout, name: str, root: Path) -> int:
    """The most that all processes of an extraction of these clips hold at a time."""
    checkout.ok("manifest", name, "--corpus", "folder", "--root", root)
    log = root.with_suffix(".log")
    with open(log, "w") as out:
        command = [sys.executable, "-m", "pipeline", "extract", name, "thumb"]
        process = subprocess.Popen(command, cwd=checkout.folder, env=checkout.environment, stdout=out, stderr=out)
        peak = 0
        while True:
            peak = max(peak, held(psutil.Process(process.pid)))
            try:
                process.wait(EVERY_SECONDS)
                break
            except subprocess.TimeoutExpired:
                continue
    if process.returncode:
        raise RuntimeError(f"the extraction of {name} failed:\n{log.read_text()[-3000:]}")
    return peak


def held(process: psutil.Process) -> int:
    """PSS of a process and all below it."""
    total = 0
    for part in (process, *process.children(recursive=True)):
        try:
            total += part.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.ZombieProcess, PermissionError, psutil.AccessDenied):
            continue  # it has ended
    return total


def repeated(clip: Path, out: Path, times: int) -> None:
    """A clip's packets so many times, one run after the other."""
    out.parent.mkdir(parents=True)
    with av.open(str(clip)) as source, av.open(str(out), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        length = source.streams.video[0].duration or 0
        for number in range(times):
            source.seek(0)
            for packet in source.demux(video=0):
                if packet.pts is not None and packet.dts is not None:
                    packet.pts, packet.dts, packet.stream = packet.pts + number * length, packet.dts + number * length, stream
                    target.mux(packet)


def written(folder: Path, clips: int) -> None:
    """So many clips of eight frames: ten different videos, made different files by bytes behind their end."""
    for number in range(10):
        write_clip(folder.with_suffix(".made") / f"{number}.mp4", number)
    contents = [path.read_bytes() for path in sorted(folder.with_suffix(".made").iterdir())]
    for number in range(clips):
        path = folder / f"sign{number % 50}" / f"clip{number:05d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        free = (12).to_bytes(4, "big") + b"free" + number.to_bytes(4, "big")
        path.write_bytes(contents[number % len(contents)] + free)
