"""A toy network that learns noise by heart: of clips that it has seen it knows the label, of others it can know nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkout import PATIENCE, ROOT

CORPUS = '''"""Clips `<split>/<signer>/<label>_<number>.npy` of noise."""

from pipeline.types import Sample


class Noise:
    layout = "<split>/<signer>/<label>_<number>.npy"
    stages = {"noise": {}}
    training = {}

    def samples(self, root):
        for path in sorted(root.glob("*/*/*.npy")):
            file = path.relative_to(root).as_posix()
            split, signer, name = file.split("/")
            yield Sample(file.removesuffix(".npy"), {"signal": (file,)}, name.partition("_")[0], split, signer)

    def classes(self, labels):
        return sorted(labels)


dataset = Noise()
'''
STAGE = '''"""A network that can learn any few vectors by heart."""

from pipeline.cache import weights as checkpoint
from pipeline.types import Extractor


class Noise(Extractor):
    source: str = "signal"
    weights: str = "random:0"

    @property
    def row_shape(self):
        return (16,)

    @property
    def item_shape(self):
        return (16,)

    @property
    def item_dtype(self):
        return "float32"

    def prepare(self, frames):
        for (frame,) in frames:
            yield frame

    def network(self):
        return checkpoint.initialised(network, self.weights, lambda: checkpoint.read_checkpoint(self.weights))

    def load(self, device):
        return self.network().to(device)


def network():
    from torch import nn

    return nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 16))


stage = Noise
'''
DERIVED = '''"""Rows of noise, doubled."""

from pipeline.types import Extractor


class Double(Extractor):
    source: str = "stage:noise"

    @property
    def row_shape(self):
        return (16,)

    def prepare(self, frames):
        for (row,) in frames:
            yield row * 2


stage = Double
'''
DRIVER = """
import json, sys
from click.testing import CliRunner
from pipeline.cli import main
from pipeline.reports import report

report._pictures = lambda *_, **__: report.NO_PICTURES  # drawing them takes most of the time
for line in sys.stdin:
    done = CliRunner().invoke(main, json.loads(line))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    print(json.dumps([done.exit_code, done.stdout, done.stderr]), flush=True)
"""
LABELS, CHANCE = 4, 0.25
HEART = ("epochs=30", "lr=1e-2", "head_epochs=0", "backbone_rate=1", "best_by=last", "batch_size=16", "frames=2")
LATE = ("hidden=8", "epochs=20", "lr=1e-2", "batch_size=16", "best_by=last", "learn=all")


@dataclass
class Noisy:
    """The command in one process that keeps running; clips of noise lie in `honest`, and all of these to train on in `leaky`."""

    folder: Path
    process: subprocess.Popen[str]

    def run(self, *words: object, status: int = 0) -> tuple[str, str]:
        """What a command prints on both streams."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(
            json.dumps([*map(str, words), *(["--device", "cpu"] if words[0] in ("train", "finetune") else [])]),
            file=self.process.stdin,
            flush=True,
        )
        code, out, err = json.loads(self.process.stdout.readline())
        assert code == status, out + err
        return out, err

    def refused(self, *words: object) -> str:
        """The one line of a command that ends with status 2, after what it says of its way there."""
        (*_, line) = self.run(*words, status=2)[1].splitlines()
        assert line.startswith("signcache: ")
        return line

    def finetuned(self, name: str, *words: object) -> dict[str, Any]:
        out, _ = self.run("finetune", name, "noise", *sets(HEART), *words, "--json")
        made: dict[str, Any] = json.loads(out.splitlines()[-1])
        return made

    def trained(self, stage: str, *words: object) -> tuple[dict[str, Any], str]:
        """The result of a training on `honest`, and what it says."""
        out, err = self.run("train", "honest", "lstm_late", *sets((*LATE, f"stages={stage}")), *words, "--json")
        return json.loads(out.splitlines()[-1]), err


def sets(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def write(root: Path, split: str, signers: Sequence[str], clips: int, seed: int) -> None:
    """Clips of three frames of the same noise; their labels say nothing."""
    random = np.random.default_rng(seed)
    for number in range(clips):
        path = root / split / signers[number % len(signers)] / f"{'abcd'[number % LABELS]}_{seed}{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.repeat(random.normal(size=(1, 16)).astype(np.float32), 3, 0))


@contextmanager
def started(folder: Path) -> Iterator[Noisy]:
    """The command, with `honest`, `leaky`, whose train clips are the test clips of the other too, and `others` by a signer of its test."""
    for package in ("pipeline", "stages", "models"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text in (("pipeline/datasets/noise.py", CORPUS), ("stages/noise.py", STAGE), ("stages/double.py", DERIVED)):
        (folder / file).write_text(text)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for split, signers, clips in (("train", ("t0", "t1", "t2"), 24), ("val", ("v0",), 8), ("test", ("s0", "s1"), 40)):
        write(folder / "honest", split, signers, clips, len(split))
    shutil.copytree(folder / "honest", folder / "leaky")
    for signer in ("s0", "s1"):  # the clips that score elsewhere train here, under other names
        (folder / "leaky" / "test" / signer).rename(folder / "leaky" / "train" / f"x{signer}")
    write(folder / "others", "train", ("s0", "y"), 8, 1)
    write(folder / "others", "val", ("z",), 4, 2)
    command = [sys.executable, "-c", DRIVER]
    environment = {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
    }
    with subprocess.Popen(command, cwd=folder, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        made = Noisy(folder, process)
        for name in ("honest", "leaky", "others"):
            made.run("manifest", name, "--corpus", "noise", "--root", folder / name)
        yield made
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE)
