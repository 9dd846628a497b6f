"""A thread that labels what is waiting, several clips in one batch, with decode processes, weights and rows that stay."""

from __future__ import annotations

import asyncio
import queue
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from rich.console import Console

from pipeline import machine
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction import plan
from pipeline.extraction._engine import Engine, Work
from pipeline.extraction.extract import Options
from pipeline.extraction.preparing.jobs import Prepared
from pipeline.extraction.progress import Progress
from pipeline.runs._clips import ROOT
from pipeline.runs.predict import Prediction, Tools, label, predictor_for
from pipeline.runs.trained import Trained
from pipeline.serving.preparing import DECODER_BYTES, Preparing
from pipeline.serving.uploads import Limits, Upload
from pipeline.types import Sample

BATCH = 16
"""Clips that are labelled together at most."""
KEPT_CLIPS = 1000
"""New clips after which a cache of the server's own begins anew: nothing grows for ever."""


@dataclass(frozen=True)
class _Asked:
    upload: Upload
    ready: Prepared | None
    answer: Future[Prediction]


@dataclass
class Counts:
    """What has been done since the start."""

    batches: int = 0
    clips: int = 0
    largest: int = 0
    """Clips of a batch."""


class Labeller:
    """Labels uploads one batch after another until it is closed; `ask` may be called from any thread."""

    def __init__(self, trained: Trained, home: Home, limits: Limits, *, device: str = "auto", keeps: bool = False) -> None:
        self.trained, self.home, self.limits, self.keeps = trained, home, limits, keeps
        self.modality = modality_of(trained)
        self.counts = Counts()
        cores = machine.cores()
        decoders = 2 * cores  # some may hang, and the others go on
        work = Work({}, {}, {}, machine.chosen_device(device), cores, decoders, "zarr")
        self.engine = Engine(work, decoder_bytes=DECODER_BYTES)
        self.preparing = Preparing(trained, self.engine, limits, _known(home, trained) if keeps else set())
        self.device, self.predictor = device, predictor_for(trained, device)
        self.waiting: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="labeller", daemon=True)
        self.thread.start()

    def ask(self, upload: Upload, ready: Prepared | None = None) -> Future[Prediction]:
        """The label of an upload, once it is there; cancelled before its turn it costs nothing. `ready` is what was prepared of it."""
        answer: Future[Prediction] = Future()
        self.waiting.put(_Asked(upload, ready, answer))
        return answer

    async def labelled(self, upload: Upload) -> Prediction:
        """The label of an upload, decoded by itself and labelled with others. Raises Refused."""
        async with self.preparing.prepared(upload) as ready:
            answer = self.ask(upload, ready)
            waiting = asyncio.wrap_future(answer)
            try:
                return await asyncio.shield(waiting)
            except asyncio.CancelledError:
                if not answer.cancel():  # its turn has come, and its files are read
                    await asyncio.wait([waiting])
                raise

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
            if not self.keeps and len(self.preparing.known) >= KEPT_CLIPS:
                self.preparing.known.clear()
                shutil.rmtree(self.home.cache, ignore_errors=True)

    def _answer(self, asked: Sequence[_Asked]) -> None:
        if not asked:
            return
        clips = [Sample(str(each.upload.path), {self.modality: (_below_root(each.upload),)}, None, "test", None) for each in asked]
        counts = self.counts
        counts.batches, counts.clips, counts.largest = counts.batches + 1, counts.clips + len(asked), max(counts.largest, len(asked))
        self.engine.ready = {(each.upload.media,): each.ready for each in asked if each.ready}
        try:
            said = label(self.home, self.trained, clips, tools=self._tools())
        except Exception as error:  # whatever it is, the next batch is to be labelled
            for each in asked:
                each.answer.set_exception(error)
        else:
            for each, prediction in zip(asked, said, strict=True):
                if each.ready and not prediction.reason:
                    self.preparing.known.add(each.ready.content)
                each.answer.set_result(prediction)

    def _tools(self) -> Tools:
        """Anew for each batch: options remember what was hashed."""
        seconds = self.limits.deadline_seconds
        options = Options(device=self.device, deadline_seconds=seconds, retry_failed=True, engine=self.engine)
        return Tools(options, Progress(Console(quiet=True, force_terminal=False)), self.predictor, seconds)


def modality_of(trained: Trained) -> str:
    """What one upload is; raises UserError where a clip is more than one file."""
    if len(trained.modalities) != 1:
        raise UserError(
            f"the run reads {' and '.join(trained.modalities)} of every clip, and an upload is one file; serve a run of one medium"
        )
    return trained.modalities[0]


def _below_root(upload: Upload) -> str:
    return upload.media.absolute().relative_to(ROOT).as_posix()


def _known(home: Home, trained: Trained) -> set[str]:
    """The contents of which a cache has rows of every stage that reads media."""
    none = Manifest(trained.name, Binding("folder", ROOT, "official", 0), (), ())
    roots = [stage for stage in trained.chain if stage.upstream is None]
    found = [plan.plan(home, none, [stage])[stage.name].done.rows.columns["content"].tolist() for stage in roots]
    return {content.decode() for content in set[bytes].intersection(*map(set, found))}
