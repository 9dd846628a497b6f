"""Uploads: a file that a stranger sends, received within limits, named by what it holds, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request

from pipeline.corpus.intervals import Interval, part

CHUNK = 1 << 20
ENVELOPE_BYTES = 64 << 10
"""Of a multipart body beside the file: boundaries, headers, names."""
NAME_LETTERS = 200
CONTAINERS: Mapping[str, tuple[tuple[int, bytes], ...]] = {
    ".mp4": ((4, b"ftyp"), (4, b"moov"), (4, b"mdat")),
    ".mkv": ((0, b"\x1aE\xdf\xa3"),),
    ".avi": ((0, b"RIFF"), (8, b"AVI ")),
    ".mpg": ((0, b"\x00\x00\x01\xba"),),
    ".ts": ((0, b"G"), (188, b"G")),
}
"""What files of videos begin with; of .avi and .ts both."""
BOTH = (".avi", ".ts")
ARRAY = b"\x93NUMPY"
SNIFFED_BYTES = 512


@dataclass(frozen=True)
class Limits:
    """Of one upload, and how long a request may take in all; and how many requests may be under way."""

    max_bytes: int = 64 << 20
    max_seconds: float = 60.0
    max_pixels: int = 3840 * 2160
    max_rate_hz: float = 120.0
    deadline_seconds: float = 60.0
    waiting: int = 32


@dataclass(frozen=True)
class Upload:
    """A file as it lies here, and as its sender calls it."""

    path: Path
    name: str
    interval: Interval | None = None
    """The part of it that is asked about, where that is not the whole."""

    @property
    def media(self) -> Path:
        """What is asked about, as media."""
        return Path(part(str(self.path), self.interval)) if self.interval else self.path


class Refused(Exception):
    """Why what was sent is not looked at, for whoever sent it."""


def interval_asked(start: float | None, end: float | None, modality: str, limits: Limits) -> Interval | None:
    """The seconds of an upload that are asked about, None for all; raises HTTPException where they are none."""
    if start is None and end is None:
        return None
    if modality != "rgb":
        raise HTTPException(422, f"only a video has seconds, and {modality} is read here; send it without start and end")
    if start is None or end is None or not start < end:
        raise HTTPException(422, "a part has a start and an end in seconds, the start first, as in start=1.2&end=2.5")
    if end - start > limits.max_seconds:
        raise HTTPException(422, f"the part lasts {end - start:.1f} s, at most {limits.max_seconds:g} s are read")
    return Interval("t", start, end)


class _TooLarge(Exception):
    """More came than was allowed."""


@asynccontextmanager
async def received(request: Request, folder: Path, limits: Limits, modality: str) -> AsyncIterator[Upload]:
    """The field `file` of a multipart body as a file in a folder, as long as it is needed. Raises HTTPException."""
    form = await _form(request, limits)
    async with _closed(form):
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise HTTPException(422, "send the clip as multipart/form-data in the field 'file'")
        suffix = sniffed(await file.read(SNIFFED_BYTES), modality)
        await file.seek(0)
        path = folder / f"{secrets.token_hex(8)}{suffix}"
        try:
            with open(path, "xb") as target:
                while chunk := await file.read(CHUNK):
                    target.write(chunk)
            yield Upload(path, shown_name(file.filename or "clip"))
        finally:
            path.unlink(missing_ok=True)


def shown_name(name: str) -> str:
    """What a sender calls a file, without folders, and without what no name holds."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in last if letter.isprintable())[:NAME_LETTERS] or "clip"


def sniffed(start: bytes, modality: str) -> str:
    """The suffix of what a file holds, by its first bytes, whatever it is called. Raises HTTPException where that is not read here."""
    if modality != "rgb":
        if start.startswith(ARRAY):
            return ".npy"
        raise HTTPException(415, f"this is no .npy array, which is read of {modality} here")
    for suffix, marks in CONTAINERS.items():
        holds = [start[place : place + len(mark)] == mark for place, mark in marks]
        if all(holds) if suffix in BOTH else any(holds):
            return suffix
    raise HTTPException(415, "this is no video that is read here: send mp4, mov, webm, mkv, avi or mpeg")


async def _form(request: Request, limits: Limits) -> Any:
    """The parsed body, which must come whole before the deadline."""
    most = limits.max_bytes + ENVELOPE_BYTES
    too_large = HTTPException(413, f"at most {limits.max_bytes} bytes a clip")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        await _drained(request, 2 * most, limits)
        raise too_large
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(415, "send the clip as multipart/form-data in the field 'file'")
    came = 0

    async def receive() -> Any:
        nonlocal came
        message = await request.receive()
        came += len(message.get("body", b""))
        if came > most:
            raise _TooLarge
        return message

    try:
        async with asyncio.timeout(limits.deadline_seconds):
            return await Request(request.scope, receive).form(max_files=1, max_fields=4)
    except _TooLarge:
        raise too_large from None
    except TimeoutError:
        raise HTTPException(408, f"the clip did not come within {limits.deadline_seconds:g} s") from None
    except (MultiPartException, ClientDisconnect, KeyError, UnicodeDecodeError):
        raise HTTPException(400, "the body is no whole multipart/form-data") from None


async def _drained(request: Request, most: int, limits: Limits) -> None:
    """Take what still comes of a body that is refused, unless it is very much: many senders read an answer only then."""
    came = 0
    with contextlib.suppress(TimeoutError, ClientDisconnect):
        async with asyncio.timeout(limits.deadline_seconds):
            async for part in request.stream():
                came += len(part)
                if came > most:
                    return


@asynccontextmanager
async def _closed(form: Any) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await form.close()
