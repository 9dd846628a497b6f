"""A thread that labels what is waiting, several clips in one batch, with decode processes, weights and rows that stay."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from io import StringIO

from pebble import ProcessExpired
from rich.console import Console

from pipeline import machine
from pipeline.corpus.intervals import part
from pipeline.corpus.manifest import Home
from pipeline.decoding.video import headers, not_asked
from pipeline.errors import ClipError, UserError
from pipeline.extraction._engine import Engine, Work
from pipeline.extraction.extract import Options
from pipeline.extraction.progress import Progress
from pipeline.runs._clips import ROOT
from pipeline.runs.predict import Prediction, Tools, label, predictor_for
from pipeline.runs.trained import Trained
from pipeline.serving.uploads import Limits, Refused, Upload
from pipeline.types import Sample

BATCH = 16
"""Clips that are labelled together at most."""
KEPT_CLIPS = 1000
"""New clips after which a cache of the server's own begins anew: nothing grows for ever."""


@dataclass(frozen=True)
class _Asked:
    upload: Upload
    answer: Future[Prediction]


@dataclass
class Counts:
    """What has been done since the start."""

    batches: int = 0
    clips: int = 0
    decoded: int = 0
    """Clips whose rows were not found again by content."""


class Labeller:
    """Labels uploads one batch after another until it is closed; `ask` may be called from any thread."""

    def __init__(self, trained: Trained, home: Home, limits: Limits, *, device: str = "auto", keeps: bool = False) -> None:
        self.trained, self.home, self.limits, self.keeps = trained, home, limits, keeps
        self.modality = modality_of(trained)
        self.counts = Counts()
        cores = machine.cores()
        work = Work({}, {}, {}, machine.chosen_device(device), cores, cores, "zarr")
        self.engine = Engine(work)
        options = Options(device=device, deadline_seconds=limits.deadline_seconds, retry_failed=True, engine=self.engine)
        self.tools = Tools(options, _Counting(self.counts), predictor_for(trained, device))
        self.waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="labeller", daemon=True)
        self.thread.start()

    def ask(self, upload: Upload) -> Future[Prediction]:
        """The label of an upload, once it is there; cancelled before its turn it costs nothing."""
        answer: Future[Prediction] = Future()
        self.waiting.put(_Asked(upload, answer))
        return answer

    def check(self, upload: Upload, max_seconds: float) -> None:
        """Raise Refused where a video is too long or large, by its headers, read in a decode process, which may crash on them."""
        if self.modality != "rgb":
            return
        try:
            facts = self.engine.pool.schedule(headers, args=[upload.path, not_asked], timeout=self.limits.deadline_seconds)
            packets, rate_hz, frame_bytes = facts.result()
        except (ClipError, ProcessExpired, TimeoutError) as error:
            reason = str(error) if isinstance(error, ClipError) else "its headers crash or hang a decoder"
            raise Refused(reason.replace(upload.path.name, "the clip")) from error
        _refuse(packets, rate_hz, frame_bytes, replace(self.limits, max_seconds=max_seconds))

    def close(self) -> None:
        """What was asked is answered first."""
        self.waiting.put(None)
        self.thread.join()
        self.engine.__exit__(None, None, None)

    def _run(self) -> None:
        is_open = True
        while is_open:
            asked = [self.waiting.get()]
            while len(asked) < BATCH and not self.waiting.empty():
                asked.append(self.waiting.get())
            is_open = None not in asked
            self._answer([each for each in asked if each and each.answer.set_running_or_notify_cancel()])
            if not self.keeps and self.counts.decoded >= KEPT_CLIPS:
                shutil.rmtree(self.home.cache, ignore_errors=True)
                self.counts.decoded = 0

    def _answer(self, asked: Sequence[_Asked]) -> None:
        if not asked:
            return
        clips = [Sample(str(each.upload.path), {self.modality: (_media(each.upload),)}, None, "test", None) for each in asked]
        self.counts.batches, self.counts.clips = self.counts.batches + 1, self.counts.clips + len(asked)
        try:
            said = label(self.home, self.trained, clips, tools=self.tools)
        except Exception as error:  # whatever it is, the next batch is to be labelled
            for each in asked:
                each.answer.set_exception(error)
        else:
            for each, prediction in zip(asked, said, strict=True):
                each.answer.set_result(prediction)


@dataclass
class _Counting(Progress):
    """Says nothing, and counts the clips that are decoded."""

    own: Counts = field(default_factory=Counts)

    def __init__(self, own: Counts) -> None:
        super().__init__(Console(file=StringIO()))
        self.own = own

    def advance(self, name: str, *, frames: int, failed: bool) -> None:
        self.own.decoded += 1


def modality_of(trained: Trained) -> str:
    """What one upload is; raises UserError where a clip is more than one file."""
    if len(trained.modalities) != 1:
        raise UserError(
            f"the run reads {' and '.join(trained.modalities)} of every clip, and an upload is one file; serve a run of one medium"
        )
    return trained.modalities[0]


def _media(upload: Upload) -> str:
    path = upload.path.absolute().relative_to(ROOT).as_posix()
    return part(path, upload.interval) if upload.interval else path


def _refuse(packets: int, rate_hz: float, frame_bytes: int, limits: Limits) -> None:
    """Raise Refused where a video is longer or larger than is allowed; a rate that is none, or too good, tells no length."""
    seconds = packets / min(rate_hz or limits.max_rate_hz, limits.max_rate_hz)
    if seconds > limits.max_seconds:
        raise Refused(f"it lasts {seconds:.0f} s, at most {limits.max_seconds:g} s are read")
    pixels = frame_bytes // (3 * packets)
    if pixels > limits.max_pixels:
        raise Refused(f"its frames have {pixels} pixels, at most {limits.max_pixels} are read")
