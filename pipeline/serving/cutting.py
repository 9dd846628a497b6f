"""A part of an upload as an upload of its own, cut in a decode process, for what is asked about it alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pebble import ProcessExpired
from starlette.exceptions import HTTPException

from pipeline.decoding.cutting import cut
from pipeline.errors import ClipError
from pipeline.serving.labelling import Labeller
from pipeline.serving.uploads import Limits, Refused, Upload

Span = tuple[float, float]


def span_of(start: float | None, end: float | None, modality: str) -> Span | None:
    """The part that is asked about, None for all. Raises HTTPException where it is none."""
    if start is None and end is None:
        return None
    if modality != "rgb":
        raise HTTPException(422, f"a part is cut of a video only, and {modality} is read here; send it without start and end")
    if start is None or end is None or not start < end:
        raise HTTPException(422, "a part has a start and an end in seconds, the start first, as in start=1.2&end=2.5")
    return start, end


@asynccontextmanager
async def part_of(upload: Upload, span: Span | None, labeller: Labeller, limits: Limits) -> AsyncIterator[Upload]:
    """The upload, or a part of it, as long as it is needed; raises Refused where there is none."""
    if span is None:
        yield upload
        return
    path = upload.path.with_name(f"{upload.path.stem}-part.mkv")
    arguments = [upload.path, path, *span, limits.max_seconds]
    try:
        cutting = labeller.engine.pool.schedule(cut, args=arguments, timeout=limits.deadline_seconds)
        try:
            await asyncio.wrap_future(cutting)
        except (ClipError, ProcessExpired, TimeoutError) as error:
            reason = str(error) if isinstance(error, ClipError) else "it crashes or hangs a decoder"
            raise Refused(reason.replace(upload.path.name, "the clip")) from error
        yield Upload(path, upload.name)
    finally:
        path.unlink(missing_ok=True)
