"""A copy of the code in a folder of its own, where tests edit stages and run the real command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.preloaded import preloaded

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 900.0
"""Seconds after which a command hangs: ten times what any takes on a host that is ten times slower."""

COLOUR = '''"""Mean colours: a stage without a device, so that a run takes a second."""

from stages import palette

import numpy as np

from pipeline.types import Extractor, evenly


class Colour(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 3)` float32 mean colours."""

    source: str = "rgb"
    weights: str = "random:0"
    max_frames: int = 30

    @property
    def row_shape(self):
        return (3,)

    def select(self, length, rate_hz):
        return evenly(length, self.max_frames)

    def prepare(self, frames):
        for (image,) in frames:
            yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32) * palette.SCALE


stage = Colour
'''

PALETTE = '''"""A piece that the colour stage imports; a stage of its own as well."""

from pipeline.types import Extractor

SCALE = 1.0


class Palette(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 1)` float32."""

    source: str = "rgb"

    @property
    def row_shape(self):
        return (1,)

    def prepare(self, frames):
        for (image,) in frames:
            yield image.max(keepdims=True).reshape(1).astype("float32")


stage = Palette
'''

BRIGHTNESS = '''"""Brightness, derived from the rows of another stage."""

from pipeline.types import Extractor


class Brightness(Extractor):
    """`(T, 3)` rows of `colour` -> `(T, 1)` float32 means."""

    source: str = "stage:colour"
    gain: float = 1.0

    @property
    def row_shape(self):
        return (1,)

    def prepare(self, frames):
        for (row,) in frames:
            yield row.mean(keepdims=True) * self.gain


stage = Brightness
'''


def write_clip(path: Path, seed: int, frames: int = 8) -> None:
    """A 64x48 video of `frames` frames whose colours follow from `seed`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (frames, 1, 1, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"threads": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for colour in colours:
            image = np.broadcast_to(colour, (48, 64, 3)).copy()
            image[: seed % 40 + 4, : seed % 50 + 4] = 255 - image[0, 0]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@dataclass
class Checkout:
    """`run` and `start` run the command of the copy in a process of its own; its cache and manifests are the copy's."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, clips: int = 6, classes: int = 2, corpus: str = "folder") -> Checkout:
        """A copy with the stages `colour`, `palette` and `brightness`, and a bound corpus `tiny` of `clips` clips and what is there."""
        for package in ("pipeline", "stages", "models"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for name, text in (("colour", COLOUR), ("palette", PALETTE), ("brightness", BRIGHTNESS)):
            (folder / "stages" / f"{name}.py").write_text(text)
        for number in range(clips):
            write_clip(folder / "clips" / f"class{number % classes}" / f"clip {number:02d}.mp4", number)
        copy = cls(folder)
        copy.ok("manifest", "tiny", "--corpus", corpus, "--root", copy.folder / "clips")
        return copy

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """The command in a process group of its own."""
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, text=True, start_new_session=True, **pipes)

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """How the command ended, in a process that is spared the imports of libraries."""
        return preloaded().run([*map(str, arguments)], self.folder, self.environment, PATIENCE)

    def ok(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    def plan(self, *arguments: object) -> dict[str, Any]:
        """The stages of `plan tiny --json`."""
        stages: dict[str, Any] = json.loads(self.ok("plan", "tiny", *arguments, "--json").stdout)["stages"]
        return stages

    def extracted(self, *arguments: object) -> dict[str, int]:
        """Clips that an extraction made, by stage."""
        made: dict[str, int] = json.loads(self.ok("extract", "tiny", *arguments, "--json").stdout.splitlines()[-1])["extracted"]
        return made

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}"
        path.write_text(text.replace(old, new))

    def slow(self, stage: str, seconds: float) -> None:
        """Every frame of the stage takes this long, and every clip is told: time to do something to a run."""
        loop = "        for (image,) in frames:"
        self.edit(f"stages/{stage}.py", loop, f"        import time\n{loop}\n            time.sleep({seconds})")
        self.edit("pipeline/extraction/progress.py", "PLAIN_SECONDS = 10.0", "PLAIN_SECONDS = 0.0")

    def clip(self, number: int, classes: int = 2) -> Path:
        return self.folder / "clips" / f"class{number % classes}" / f"clip {number:02d}.mp4"

    def rows(self, stage: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
        """Shape and bytes of every clip's published rows."""
        from pipeline.cache.publishing import Features
        from pipeline.cache.stage import published
        from pipeline.corpus.manifest import Home

        home = Home(self.folder / "cache", self.folder / "manifests")
        said = published(home, "tiny", stage)
        assert said is not None
        features = Features(home, "tiny", stage, said)
        return {clip: (features[clip].shape, features[clip].tobytes()) for clip in features}

    def markers(self, stage: str) -> dict[Path, dict[str, Any]]:
        """Every finished shard's marker."""
        found = (self.folder / "cache" / "tiny" / stage).glob("*/*-*.json")
        return {path: json.loads(path.read_text()) for path in found if not path.name.startswith(".")}
