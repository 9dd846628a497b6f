"""Uploads on their way through the decode processes, each by itself: one that hangs or crashes a decoder costs its own request."""

from __future__ import annotations

import asyncio
import pickle
import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pebble import ProcessExpired

from pipeline.corpus.media import content_of, stat_of
from pipeline.decoding.video import headers, not_asked
from pipeline.errors import ClipError
from pipeline.extraction._engine import Engine
from pipeline.extraction.preparing.decode_processes import SPOOL_BYTES, death
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_sent
from pipeline.runs.trained import Trained
from pipeline.serving.uploads import Limits, Refused, Upload

T = TypeVar("T")
DECODER_BYTES = 4 << 30
"""Of memory that a decode process may take for itself."""
STALL = 1 / 3
"""Share of a request's time after which a decoder without progress is given up: it is tried twice, and then there is time to say so."""
TRIES = 3
"""Of what was under way in decode processes that ended with another upload's."""


@dataclass
class Preparing:
    """What the decode processes of an engine make of uploads. Whoever stops waiting ends what was made for them."""

    trained: Trained
    engine: Engine
    limits: Limits
    known: set[str] = field(default_factory=set)
    """Contents of which the cache has rows: they are not decoded again."""
    decoded: int = 0
    lost: int = 0
    """Decode processes that an upload crashed, or hung for too long."""
    spooled: int = 0
    """Bytes that wait to be labelled."""

    def __post_init__(self) -> None:
        self.roots = {stage.name: stage for stage in self.trained.chain if stage.upstream is None}
        self.freed = asyncio.Condition()

    async def check(self, upload: Upload, max_seconds: float) -> None:
        """Raise Refused where a video is too long or large, by its headers."""
        if self.trained.modalities != ["rgb"]:
            return
        packets, rate_hz, frame_bytes = await self.run(upload, headers, upload.path, not_asked)
        seconds = packets / min(rate_hz or self.limits.max_rate_hz, self.limits.max_rate_hz)  # a rate that is none tells no length
        if seconds > max_seconds:
            raise Refused(f"it lasts {seconds:.0f} s, at most {max_seconds:g} s are read")
        pixels = frame_bytes // (3 * packets)
        if pixels > self.limits.max_pixels:
            raise Refused(f"its frames have {pixels} pixels, at most {self.limits.max_pixels} are read")

    @asynccontextmanager
    async def prepared(self, upload: Upload) -> AsyncIterator[Prepared | None]:
        """What the stages prepare of an upload, as long as it is needed; None where the cache has rows of its content. Raises Refused."""
        if await asyncio.to_thread(content_of, [upload.media]) in self.known:
            yield None
            return
        async with self.freed:
            await self.freed.wait_for(lambda: self.spooled < SPOOL_BYTES)
        spool, size = upload.path.with_suffix(".items"), 0
        spool.mkdir()
        try:
            found = await self._prepared(upload, spool)
            size = sum(file.stat().st_size for file in spool.iterdir())
            self.spooled += size
            yield found
        finally:
            self.spooled -= size
            shutil.rmtree(spool, ignore_errors=True)
            async with self.freed:
                self.freed.notify_all()

    async def _prepared(self, upload: Upload, spool: Path) -> Prepared:
        """As the engine does it: after a crash once more, without decord."""
        self.decoded += 1
        stages = {name: stage.extractor for name, stage in self.roots.items()}
        stall = STALL * self.limits.deadline_seconds
        job = Job(0, upload.name, stages, spool, stat_of([upload.media]), stall, paths=(upload.media,), max_pixels=self.limits.max_pixels)
        job = replace(job, fingerprints={name: stage.fingerprint for name, stage in self.roots.items()})
        try:
            found: Prepared = await self._ran(prepare_sent, pickle.dumps(job))
        except ProcessExpired:
            found = await self.run(upload, prepare_sent, pickle.dumps(replace(job, decord=False)), stall=stall)
        for stage, reason in found.failures.items():
            raise Refused(f"{stage}: {reason}".replace(upload.path.name, "the clip"))
        return found

    async def run(self, upload: Upload, function: Callable[..., T], *arguments: Any, stall: float = 0.0) -> T:
        """What a function makes of an upload in a decode process. Raises Refused where that says so, hangs or dies."""
        try:
            return await self._ran(function, *arguments)
        except ClipError as error:
            raise Refused(str(error).replace(upload.path.name, "the clip")) from error
        except ProcessExpired as error:
            raise Refused(death(error.exitcode, stall)) from error

    async def _ran(self, function: Callable[..., T], *arguments: Any) -> T:
        for _ in range(TRIES):
            try:
                result: T = await asyncio.wrap_future(self.engine.whole_pool().schedule(function, args=arguments))
                return result
            except BrokenProcessPool:
                continue
            except (ProcessExpired, asyncio.CancelledError):
                self.lost += 1
                raise
        raise Refused("its decoding process could not be started")
