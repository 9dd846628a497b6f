"""Live sessions: JPEG frames in, what is seen in them out; a frame that comes while another is looked at is dropped."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import WebSocket, WebSocketDisconnect
from PIL import Image

from pipeline.errors import ClipError, UserError
from pipeline.runs.trained import Trained
from pipeline.serving.labelling import Refused
from pipeline.spotting.live.session import Live, Moment
from pipeline.spotting.live.sources import Clock, Numbered, WallClock
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.spot import Way
from pipeline.types import Array

TRY_LATER, REFUSED = 1013, 1008
"""Why a WebSocket is closed, by RFC 6455's registry."""
END = "end"
"""What a client says after its last frame."""


class Fed:
    """Frames as a client sends them: only the newest waits. Numbers follow the clock, so what was left out counts as dropped."""

    def __init__(self, rate_hz: float, clock: Clock) -> None:
        self.rate_hz, self.clock = rate_hz, clock
        self.changed, self.is_over = threading.Condition(), False
        self.newest: Numbered | None = None
        self.began, self.number = 0.0, -1

    def give(self, image: Array) -> None:
        now = self.clock.now()
        with self.changed:
            self.began = self.began if self.number >= 0 else now
            self.number = max(self.number + 1, round((now - self.began) * self.rate_hz))
            self.newest = (self.number, now, image)
            self.changed.notify()

    def end(self) -> None:
        with self.changed:
            self.is_over = True
            self.changed.notify()

    def frames(self) -> Iterator[Numbered]:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.newest is not None or self.is_over)
                taken, self.newest = self.newest, None
            if taken is None:
                return
            yield taken


@dataclass
class Sessions:
    """Live sessions of one model, a few at a time."""

    trained: Trained
    way: Way
    device: str
    max_pixels: int
    most: int = 2
    inside: int = 0

    async def run(self, socket: WebSocket, rate_hz: float) -> None:
        """One session, from its first frame until the client says `end` or goes."""
        await socket.accept()
        if not _is_own_page(socket) or not 1 <= rate_hz <= 120:
            return await socket.close(REFUSED, "pages of other sites, and rates other than 1 to 120 frames a second, are not served")
        if self.inside >= self.most:
            return await socket.close(TRY_LATER, "too many sessions; come again later")
        self.inside += 1
        try:
            await self._served(socket, Fed(rate_hz, WallClock()))
        finally:
            self.inside -= 1

    async def _served(self, socket: WebSocket, source: Fed) -> None:
        loop, events = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any] | None]()
        looking = asyncio.create_task(asyncio.to_thread(self._watch, source, lambda e: loop.call_soon_threadsafe(events.put_nowait, e)))
        taking = asyncio.create_task(self._take(socket, source))
        try:
            while (event := await events.get()) is not None:
                await socket.send_json(event)
            await socket.close()
        except (RuntimeError, WebSocketDisconnect):  # the client has gone: what is looked at now is the last
            return
        finally:
            source.end()
            taking.cancel()
            await asyncio.gather(looking, taking, return_exceptions=True)

    async def _take(self, socket: WebSocket, source: Fed) -> None:
        """Frames until there are no more; what is no picture is left out, and said."""
        try:
            while (message := await socket.receive())["type"] == "websocket.receive" and message.get("text") != END:
                try:
                    source.give(picture(message.get("bytes") or b"", self.max_pixels))
                except Refused as refusal:
                    await socket.send_json({"error": str(refusal)})
        finally:
            source.end()

    def _watch(self, source: Fed, tell: Callable[[dict[str, Any] | None], object]) -> None:
        """Look at frames in a thread of its own until there are no more."""
        try:
            session = Live(Recogniser(self.trained, self.device, self.way.temperature), self.way, source, source.clock)
            for moment in session.moments():
                tell(event_of(moment))
            tell({"ended": True, "sentence": list(session.finished()), **session.tally.document()})
        except (UserError, ClipError) as error:
            tell({"error": str(error)})
        except Exception:
            logging.getLogger(__name__).exception("a live session failed")
            tell({"error": "the session failed"})
        tell(None)


def event_of(moment: Moment) -> dict[str, Any]:
    """What is known after a frame, as JSON values."""
    guess = {"label": moment.guess.label, "probability": round(moment.guess.probability, 6)}
    return {"seconds": round(moment.seconds, 3), **guess, "word": moment.word, "is_new": moment.is_new, "sentence": list(moment.sentence)}


def picture(content: bytes, max_pixels: int) -> Array:
    """`(H, W, 3)` uint8 of a JPEG; raises Refused for anything else, and before it is decoded for one that is too large."""
    try:
        with Image.open(BytesIO(content), formats=("JPEG",)) as image:
            if image.width * image.height > max_pixels:
                raise Refused(f"a frame has {image.width * image.height} pixels, at most {max_pixels} are read")
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refused("a frame is no whole JPEG") from error


def _is_own_page(socket: WebSocket) -> bool:
    """Whether no browser, or one that shows a page of this server, asks: another site's page may not look through a camera here."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
