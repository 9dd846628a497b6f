"""demo: a corpus that makes itself. Eight invented signs by five drawn signers, three times each, as video, radar and wrist sensor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any, TypeAlias

from pipeline.datasets._drawing.clip import clip_media, make_clip
from pipeline.datasets._drawing.glosses import GLOSSES
from pipeline.datasets._drawing.signers import REPETITIONS, SIGNERS, clip_name
from pipeline.errors import UserError
from pipeline.machine import cores
from pipeline.types import Dataset, Sample

Clip: TypeAlias = tuple[str, str, int]
"""Gloss, signer, repetition."""


class Demo:
    """120 clips of 1.2 to 2.2 seconds; one signer is for validation and one for the test."""

    layout = "a writable folder; what is missing of <GLOSS>/<signer>_rep<n>{.mkv,_RDM1.mp4,_RDM2.mp4,_RDM3.mp4,_inertial.npy} is made there"
    stages: Mapping[str, Mapping[str, Any]] = {
        "resnet50": {"weights": "random:0", "max_frames": 12},
        "radar_cnn": {"max_frames": 12, "resize": (112, 112)},
        "holistic": {"frames": 12},
        "kinematics": {"aspect": 4 / 3},
    }
    training: Mapping[str, Mapping[str, Any]] = {
        "finetuned": {"lr": 5e-3, "backbone_rate": 0.2, "epochs": 14, "frames": 6},
        "lstm_late": {"normalize": "clip", "lr": 1e-3, "batch_size": 32, "epochs": 30},
        "attention_fusion": {
            **{"normalize": "clip", "lr": 1e-3, "batch_size": 16, "epochs": 60},
            **{"modality_dropout": 0.4, "frame_drop": 0.2, "time_warp": 0.3},
        },
        "bilstm_attention": {"stages": ("kinematics",), "lr": 1e-3, "batch_size": 16, "epochs": 40},
    }
    endings: Mapping[str, tuple[str, ...]] = {
        "rgb": (".mkv",),
        "radar": ("_RDM1.mp4", "_RDM2.mp4", "_RDM3.mp4"),
        "inertial": ("_inertial.npy",),
    }

    def samples(self, root: Path) -> Iterator[Sample]:
        """Every clip, after making those that are not below `root`."""
        make_missing(root)
        for gloss, signer, repetition in _clips():
            media = clip_media(gloss, signer, repetition)
            yield Sample(f"{gloss}/{clip_name(signer, repetition)}", media, gloss, SIGNERS[signer].split, signer)

    def classes(self, labels: set[str]) -> list[str]:
        """The glosses in alphabetical order."""
        return sorted(labels)


def make_missing(root: Path) -> int:
    """The number of clips that had to be made; two processes that want the same corpus make it once."""
    if not _missing(root):
        return 0
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".making.lock"):
            missing = _missing(root)
            with _progress(len(missing), root) as advance:
                _make(root, missing, advance)
    except OSError as error:
        raise UserError(f"cannot write the demo corpus to {root}: {error.strerror or error}; name a writable folder with --root") from error
    return len(missing)


def _clips() -> list[Clip]:
    return [(gloss, signer, repetition) for gloss in GLOSSES for signer in SIGNERS for repetition in range(1, REPETITIONS + 1)]


def _missing(root: Path) -> list[Clip]:
    """Clips of which a file is not there; one listing a folder, for a corpus may lie on a slow disk."""
    there = {f"{gloss}/{file.name}" for gloss in GLOSSES if (root / gloss).is_dir() for file in os.scandir(root / gloss)}
    return [clip for clip in _clips() if not all(path in there for paths in clip_media(*clip).values() for path in paths)]


def _make(root: Path, clips: list[Clip], advance: Callable[[], None]) -> None:
    """Makes the clips in as many processes as there are cores; an interruption lets those at work finish their clip."""
    workers = min(cores(), len(clips))
    if workers <= 1:
        for clip in clips:
            make_clip(root, *clip)
            advance()
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_obey_parent) as pool:
        try:
            for done in as_completed([pool.submit(make_clip, root, *clip) for clip in clips]):
                done.result()
                advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _obey_parent() -> None:
    """Ctrl-C reaches every process of the terminal, but only the parent answers it; and nobody works on when the parent was killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _progress(total: int, root: Path) -> Iterator[Callable[[], None]]:
    """A function to call after each clip: a bar on a terminal, otherwise a line after every tenth of them, on standard error."""
    if not sys.stderr.isatty():
        print(f"demo: making {total} clips in {root}", file=sys.stderr, flush=True)
        began, made = monotonic(), count(1)

        def tell() -> None:
            number = next(made)
            if number * 10 // total > (number - 1) * 10 // total:
                print(f"demo: made {number} of {total} clips in {monotonic() - began:.0f} s", file=sys.stderr, flush=True)

        yield tell
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("making the demo corpus", total=total)
        yield lambda: bar.advance(task)


dataset: Dataset = Demo()
