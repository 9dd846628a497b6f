"""Run folders: everything that made a trained model, its figures, and its scores, as files that any program reads.

Of several processes that train together all call these, and the first changes the disk.
"""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline import atomic
from pipeline.cache.locking import LOCK, alone
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.learning import devices

FORMAT = 1
RECORD, RESULT, REPORT = "run.json", "result.json", "report.html"
LIBRARIES = ("torch", "numpy", "lightning-fabric", "signcache")


@dataclass(frozen=True)
class Run:
    """One training: `record` says what made it, `result` its scores (None while it is unfinished)."""

    folder: Path
    record: Mapping[str, Any]
    result: Mapping[str, Any] | None

    @property
    def dataset(self) -> str:
        return str(self.record["dataset"])

    @property
    def model(self) -> str:
        return str(self.record["model"])

    @property
    def scores(self) -> Mapping[str, Any]:
        """The result; raises UserError where the training is unfinished."""
        if self.result is None:
            raise UserError(f"the run {self.folder} is unfinished; start its training again to go on: {self.record['command']}")
        return self.result


def folder_of(home: Home, dataset: str, model: str, digest: str) -> Path:
    """Where the run of this identity lies: the same line finds it again."""
    return (home.cache / "runs" / dataset / model / digest).absolute()


def read(folder: Path | str) -> Run:
    """The run in a folder; raises UserError, one line, where there is none or it is damaged or of a newer format."""
    folder = Path(folder).expanduser().absolute()
    path = folder / RECORD
    try:
        record = json.loads(path.read_bytes())
        result = json.loads((folder / RESULT).read_bytes()) if (folder / RESULT).exists() else None
        if record["format"] > FORMAT:
            raise UserError(f"{path} has format {record['format']}, this signcache reads up to {FORMAT}: install a newer signcache")
        return Run(folder, record, result)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder} is no run folder: it holds no {RECORD}; runs lie in cache/runs/DATASET/MODEL/ID") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); delete {folder} and train again") from error


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Say what makes the run, before it starts."""
    _write(folder / RECORD, {"format": FORMAT, **record})


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Say what came out: from now on the run is finished."""
    _write(folder / RESULT, {"format": FORMAT, **result})


def _write(path: Path, content: Mapping[str, Any]) -> None:
    devices.once(lambda: atomic.replace(path, json.dumps(content, indent=1).encode()))


def _clear(folder: Path) -> None:
    """Forget what a training left, its result first, so that a kill in between leaves an unfinished run."""
    (folder / RESULT).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.name != LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _sweep(folder: Path) -> None:
    for path in folder.glob(".*"):
        if atomic.TEMPORARY.fullmatch(path.name):
            path.unlink()


@contextmanager
def at_work(folder: Path, *, again: bool = False) -> Iterator[bool]:
    """Whether the run is finished, to one training of it at a time; what a killed one left half-written is removed.

    With `again`, what a finished one left too.
    """
    if devices.once(lambda: folder) != folder:
        raise UserError(
            "the processes of this training found different code or features: something changed meanwhile; run the same line again"
        )
    busy = f"this training is running already, in {folder}; wait for it, or choose another --seed"
    with nullcontext() if devices.rank() else alone(folder / LOCK, busy):
        devices.once(lambda: _clear(folder) if again else _sweep(folder))
        is_finished = devices.once((folder / RESULT).exists)
        if is_finished:
            print(f"finished before: {folder}; --again trains it anew", file=sys.stderr)
        yield is_finished


def environment(device: str, threads: int) -> dict[str, Any]:
    """What a run depends on besides its inputs."""
    libraries = {name: _version(name) for name in LIBRARIES}
    machine = {"device": device, "devices": devices.count(), "threads": threads, "platform": platform.platform()}
    return {"python": platform.python_version(), **libraries, **machine, "argv": sys.argv}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
