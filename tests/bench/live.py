"""Rows of live use: how long a frame takes, and how long after its sign a word is said, on signs of a drawn signer that no model saw."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.datasets._drawing.clip import clip_media, make_clip
from pipeline.datasets._drawing.glosses import GLOSSES
from pipeline.datasets._drawing.signers import SIGNERS
from pipeline.spotting.glosses import Gloss
from pipeline.testing.long_videos import compose
from tests.bench.contest import ROOT
from tests.bench.rows import Row

PART = "live"
SETTINGS = ("--set", "stages=kinematics", "--set", "lr=1e-3", "--set", "batch_size=16", "--set", "epochs=40")
"""Those of the demo corpus."""
FRAMES = 16
"""That MediaPipe sees of a clip in training."""


def rows(quick: bool, folder: Path) -> Iterator[Row]:
    """Milliseconds a frame, and seconds from the end of a sign to its word, of a video played at its own pace; there is no rival."""
    glosses, takes = (list(GLOSSES)[:3], 1) if quick else (list(GLOSSES), 3)
    clips = folder / "clips"
    unseen = list(_drawn(folder / "drawn", clips, glosses, takes))
    truth = compose(unseen, folder / "long.mp4", seed=0)
    said(folder, "manifest", "signs", "--corpus", "folder", "--root", clips)
    said(folder, "extract", "signs", "holistic", "--set", f"frames={FRAMES}")
    said(folder, "extract", "signs", "kinematics", "--set", f"aspect={4 / 3}")
    run = said(folder, "train", "signs", "bilstm_attention", *SETTINGS, "--json")["run"]
    said(folder, "calibrate", run, "--json")
    found = said(folder, "live", run, "--source", folder / "long.mp4", "--text", "--json")
    what = f"{len(truth)} signs of 640x480 at 25 Hz, MediaPipe and BiLSTM"
    for name, percent in (("median", "p50_ms"), ("99 %", "p99_ms")):
        yield _measured(f"a frame until it is known, {name}; {what}", "ms", found[percent])
    yield _measured("frames that were dropped, so that none is late", "%", 100 * found["dropped"] / (found["seen"] + found["dropped"]))
    late = lateness(found["words"], truth)
    if late:
        yield _measured(f"end of a sign until its word, median of {len(late)} that were said", "s", statistics.median(late))
    yield _measured("signs that were not said", "%", 100 * (1 - len(late) / len(truth)))


def _measured(what: str, unit: str, value: float) -> Row:
    return Row(PART, what, unit, (value,), (), (value,), at_most=True)


def lateness(words: Sequence[Mapping[str, Any]], truth: Sequence[Gloss]) -> list[float]:
    """Of each sign whose word was said before the next sign ended: seconds from its end, less than 0 where it was said before."""
    found = []
    for gloss, after in zip(truth, [*truth[1:], None], strict=True):
        until = after.end if after else float("inf")
        said = [word["at"] for word in words if word["label"] == gloss.label and gloss.start < word["at"] < until]
        found += [said[0] - gloss.end] if said else []
    return found


def _drawn(drawn: Path, clips: Path, glosses: Sequence[str], takes: int) -> Iterator[tuple[Path, str]]:
    """Draws the videos of all signers, with their splits beside them; gives those of the test's, which are left out there."""
    lines = ["file,split,signer"]
    for gloss in glosses:
        (clips / gloss).mkdir(parents=True)
        for name, signer in SIGNERS.items():
            for take in range(1, takes + 1):
                make_clip(drawn, gloss, name, take)
                (video,) = clip_media(gloss, name, take)["rgb"]
                if signer.split == "test":
                    yield drawn / video, gloss
                else:
                    shutil.move(drawn / video, clips / video)
                    lines.append(f"{video},{signer.split},{name}")
    (clips / "split.csv").write_text("\n".join(lines) + "\n")


def said(folder: Path, *words: object) -> Any:
    """The JSON document of a command, or nothing where it was not asked for one."""
    command = [sys.executable, "-m", "pipeline", "--cache", folder / "cache", "--manifests", folder / "manifests", *words]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1]) if "--json" in words else None
