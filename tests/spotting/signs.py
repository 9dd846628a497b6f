"""Toy signs that a model learns in a moment: a picture turns from grey to the colour of its class and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline import registry
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.runs.training import train
from tests.commands import run

OF_COLOURS = '''"""Mean colours of frames{which}."""

import numpy as np

from pipeline.types import Extractor, evenly


class Colours(Extractor):
    source: str = "rgb"
    max_frames: int = 30

    @property
    def row_shape(self):
        return (3,)

    def prepare(self, frames):
        for (image,) in frames:
            yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)

{methods}

stage = Colours
'''
SELECTED = """    def select(self, length, rate_hz):
        return evenly(length, self.max_frames)
"""
SCALED = """    def select(self, length, rate_hz):
        return np.arange(0, length, 2)

    def load(self, device):
        return lambda rows: rows / 255
"""
PAIRED = """    def rows(self, items):
        return [slice(i, i + 2) for i in range(0, items - 1, 2)]

    def load(self, device):
        return lambda windows: windows[:, 1] - windows[:, 0]
"""
STAGES: Mapping[str, str] = {
    "colour": OF_COLOURS.format(which="", methods=SELECTED),
    "tint": OF_COLOURS.format(which=", of half of them, scaled on the device", methods=SCALED),
    "change": OF_COLOURS.format(which=", a row of every two: how they change", methods=PAIRED),
    "centred": '''"""Colours less their mean over the clip."""

import numpy as np

from pipeline.types import Extractor


class Centred(Extractor):
    source: str = "stage:colour"

    @property
    def row_shape(self):
        return (3,)

    def prepare(self, frames):
        rows = np.stack([row for (row,) in frames])
        yield from rows - rows.mean(0)


stage = Centred
''',
}
COLOURS: Mapping[str, tuple[int, int, int]] = {
    **{"RED": (90, -60, -60), "GREEN": (-60, 90, -60), "BLUE": (-60, -60, 90)},
    **{"REST": (0, 0, 0), "GOLD": (90, 90, -80)},
}
KNOWN = ("RED", "GREEN", "BLUE")
REST = "REST"
"""Learned too: a picture that stays grey."""
RATE, SIDE = 25, 32


@contextmanager
def toy_stages(folder: Path) -> Iterator[None]:
    """While inside, the stages above are installed."""
    package = folder / "spot_stages"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in STAGES.items():
        (package / f"{name}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        installed = registry._installed
        own = {name: f"spot_stages.{name}" for name in STAGES}
        patch.setattr(registry, "_installed", lambda kind: {**installed(kind), **(own if kind == "stage" else {})})
        yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "spot_stages"]:
        del sys.modules[name]


def write_sign(path: Path, label: str, seed: int) -> Path:
    """A clip of 20 to 29 frames of SIDE x SIDE pixels."""
    random = np.random.default_rng(seed)
    frames = int(random.integers(20, 30))
    raised = np.sin(np.linspace(0, np.pi, frames)) ** 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"threads": "1", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for share in raised:
            colour = 120 + share * np.array(COLOURS[label]) + random.normal(0, 4, 3)
            image = np.broadcast_to(np.clip(colour, 0, 255).astype(np.uint8), (SIDE, SIDE, 3)).copy()
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@dataclass(frozen=True)
class Signs:
    """A corpus of KNOWN signs, clips of it that no model saw, and runs on it by the stages that they read."""

    home: Home
    root: Path
    runs: Mapping[str, Path]

    def clips(self, split: str = "test", labels: Sequence[str] = KNOWN) -> list[tuple[Path, str]]:
        return [(path, label) for label in labels for path in sorted((self.root / "clips" / label).glob(f"{split}*.mp4"))]


def made(root: Path, models: Mapping[str, str]) -> Signs:
    """The corpus, extracted and learned: `models` are the stages of each run, `colour` or `tint,change`."""
    home, clips = Home(root / "cache", root / "manifests"), root / "clips"
    lines = ["file,split,signer"]
    for number, label in enumerate((*KNOWN, REST)):
        for split, count in (("train", 6), ("val", 4), ("test", 2)):
            for take in range(count):
                write_sign(clips / label / f"{split}{take}.mp4", label, hash_of(number, split, take))
                lines.append(f"{label}/{split}{take}.mp4,{split},{split}")
    for take in range(3):
        write_sign(root / "others" / f"gold{take}.mp4", "GOLD", 900 + take)
    (clips / "split.csv").write_text("\n".join(lines) + "\n")
    done(home, "manifest", "signs", "--corpus", "folder", "--root", clips)
    done(home, "extract", "signs", *STAGES, "--device", "cpu")
    return Signs(home, root, {name: _learned(home, stages) for name, stages in models.items()})


def hash_of(number: int, split: str, take: int) -> int:
    """A seed for each clip."""
    return 1000 * number + {"train": 0, "val": 100, "test": 200}[split] + take


def _learned(home: Home, stages: str) -> Path:
    """A run without its report, which would cost more than the training."""
    settings = {"stages": stages, "hidden": "16", "epochs": "15", "lr": "0.02", "normalize": "train"}
    return train(home, manifest.read(home, "signs"), "lstm_late", settings, device="cpu").folder


def done(home: Home, *words: object) -> str:
    """What a command that goes well says on stdout."""
    result = run(home, *words)
    assert result.exit_code == 0, result.output
    return result.stdout
