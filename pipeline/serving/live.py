"""Live sessions: frames or rows in, what is seen in them out; what comes while another is looked at is dropped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from PIL import Image

from pipeline.errors import ClipError, UserError
from pipeline.runs.trained import Trained
from pipeline.serving.rows import form_of
from pipeline.serving.uploads import Limits, Refused
from pipeline.spotting.live.session import Live, Moment
from pipeline.spotting.live.sources import Clock, Newest, Numbered, WallClock
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.spot import Way
from pipeline.spotting.windows import Received, Streamed
from pipeline.types import Array

PROTOCOL = """
A client opens `WS /live?rate_hz=25&send=frames|rows` and sends a message a frame: a JPEG, or a row of the values that `GET /card` tells
under `rows`, as little-endian float32 or as a JSON array with null where there is none; then the text `end`. It is sent a JSON object after
each that was looked at, `{"error": ...}` for what was none, and at last one with `"ended": true` and all glosses. Rows give the events that
the frames would give that they were made of.
"""
"""As the description of the interface says it, which knows no WebSockets."""
TRY_LATER, REFUSED = 1013, 1008
"""Why a WebSocket is closed, by RFC 6455's registry."""
END = "end"
"""What a client says after its last frame."""
Sent: TypeAlias = Literal["frames", "rows"]
Message: TypeAlias = str | bytes
Tell: TypeAlias = Callable[[dict[str, Any] | None], object]


class Fed:
    """What a client sends: only the newest waits. Numbers follow the clock, so what was left out counts as dropped."""

    def __init__(self, rate_hz: float, clock: Clock) -> None:
        self.rate_hz, self.clock = rate_hz, clock
        self.newest = Newest[tuple[int, float, Message]]()
        self.began, self.number = 0.0, -1

    def give(self, message: Message) -> None:
        now = self.clock.now()
        self.began = self.began if self.number >= 0 else now
        self.number = max(self.number + 1, round((now - self.began) * self.rate_hz))
        self.newest.give((self.number, now, message))


class Read:
    """The frames or rows in what a client sends; what is none is left out, and said."""

    def __init__(self, fed: Fed, read: Callable[[Message], Array], tell: Tell) -> None:
        self.fed, self.read, self.tell, self.rate_hz = fed, read, tell, fed.rate_hz

    def frames(self) -> Iterator[Numbered]:
        for number, came, message in self.fed.newest:
            try:
                yield number, came, self.read(message)
            except Refused as refusal:
                self.tell({"error": str(refusal)})


@dataclass
class Sessions:
    """Live sessions of one model, a few at a time."""

    trained: Trained
    way: Way
    device: str
    limits: Limits
    most: int = 2
    inside: int = 0

    async def run(self, socket: WebSocket, rate_hz: float, sent: Sent) -> None:
        """One session, from its first frame until the client says `end`, goes, or sends nothing for as long as a request may take."""
        await socket.accept()
        if not _is_own_page(socket) or not 1 <= rate_hz <= 120:
            return await socket.close(REFUSED, "pages of other sites, and rates other than 1 to 120 frames a second, are not served")
        try:
            read, kind = self._reader(sent)
        except UserError as error:
            return await socket.close(REFUSED, str(error)[:120])
        if self.inside >= self.most:
            return await socket.close(TRY_LATER, "too many sessions; come again later")
        self.inside += 1
        try:
            await self._served(socket, Fed(rate_hz, WallClock()), read, kind)
        finally:
            self.inside -= 1

    def _reader(self, sent: Sent) -> tuple[Callable[[Message], Array], type[Streamed]]:
        """What reads a message, and what its frames or rows go to. Raises UserError for rows that the model takes of nobody."""
        if sent == "rows":
            return form_of(self.trained).read, Received
        return partial(picture, max_pixels=self.limits.max_pixels), Streamed

    async def _served(self, socket: WebSocket, fed: Fed, read: Callable[[Message], Array], kind: type[Streamed]) -> None:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
        source = Read(fed, read, lambda event: loop.call_soon_threadsafe(events.put_nowait, event))
        looking = asyncio.create_task(asyncio.to_thread(self._watch, source, kind))
        taking = asyncio.create_task(self._take(socket, source))
        try:
            while (event := await events.get()) is not None:
                await socket.send_json(event)
            await socket.close()
        except (RuntimeError, WebSocketDisconnect):  # the client has gone: what is looked at now is the last
            return
        finally:
            fed.newest.end()
            taking.cancel()
            await asyncio.gather(looking, taking, return_exceptions=True)

    async def _take(self, socket: WebSocket, source: Read) -> None:
        """Messages until there are no more."""
        idle = self.limits.deadline_seconds
        try:
            while (message := await asyncio.wait_for(socket.receive(), idle))["type"] == "websocket.receive" and message.get("text") != END:
                source.fed.give(message.get("bytes") or message.get("text") or b"")
        except TimeoutError:
            source.tell({"error": f"nothing came for {idle:g} s"})
        finally:
            source.fed.newest.end()

    def _watch(self, source: Read, kind: type[Streamed]) -> None:
        """Look at frames in a thread of its own until there are no more."""
        try:
            recogniser = Recogniser(self.trained, self.device, self.way.temperature)
            session = Live(recogniser, self.way, source, source.fed.clock, kind)
            for moment in session.moments():
                source.tell(event_of(moment))
            source.tell({"ended": True, "sentence": list(session.finished()), **session.tally.document()})
        except (UserError, ClipError) as error:
            source.tell({"error": str(error)})
        except Exception:
            logging.getLogger(__name__).exception("a live session failed")
            source.tell({"error": "the session failed"})
        source.tell(None)


def event_of(moment: Moment) -> dict[str, Any]:
    """What is known after a frame, as JSON values."""
    guess = {"label": moment.guess.label, "probability": round(moment.guess.probability, 6)}
    return {"seconds": round(moment.seconds, 3), **guess, "word": moment.word, "is_new": moment.is_new, "sentence": list(moment.sentence)}


def picture(content: Message, max_pixels: int) -> Array:
    """`(H, W, 3)` uint8 of a JPEG; raises Refused for anything else, and before it is decoded for one that is too large."""
    try:
        with Image.open(BytesIO(content if isinstance(content, bytes) else b""), formats=("JPEG",)) as image:
            if image.width * image.height > max_pixels:
                raise Refused(f"a frame has {image.width * image.height} pixels, at most {max_pixels} are read")
            return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise Refused(f"a frame has far more than the {max_pixels} pixels that are read at most") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise Refused("a frame is no whole JPEG") from error


def _is_own_page(socket: WebSocket) -> bool:
    """Whether no browser, or one that shows a page of this server, asks: another site's page may not look through a camera here."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
