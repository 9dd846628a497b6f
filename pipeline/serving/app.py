"""The HTTP interface: what is asked how, within which limits, and what an answer says."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException

from pipeline import __version__
from pipeline.errors import UserError
from pipeline.runs.packaging.card import CARD
from pipeline.serving import page
from pipeline.serving.labelling import Labeller
from pipeline.serving.landmarks import BrowserLandmarks
from pipeline.serving.live import PROTOCOL, Sent, Sessions
from pipeline.serving.rows import form_of
from pipeline.serving.spotting import Spotter
from pipeline.serving.uploads import Limits, Refused, Upload, interval_asked, received

EXAMPLE = {"clip": "hello.mp4", "label": "HELLO", "probability": 0.93, "top": [["HELLO", 0.93], ["THANKS", 0.04]]}
GLOSSES = {"glosses": [{"label": "HELLO", "start": 1.2, "end": 2.0, "probability": 0.91}]}
T = TypeVar("T")
SPOTTED = 10
"""By how much longer than a clip a video may be in which signs are spotted."""
COMING = 4
"""As many times the uploads that may wait may be on their way here."""
PLACE = re.compile(r"(?:/[^\s/'\":,;]+)*/([^\s/'\":,;]+)")
"""The path of a file here, of which strangers are told the name alone."""
FILE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
            }
        },
    }
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"example": {"detail": text}}}}
    for status, text in {
        408: "the clip did not come in time",
        413: "the clip is too large",
        415: "the clip is of no kind that is read here",
        422: "the clip cannot be labelled",
        429: "too much is waiting; ask again later",
        504: "the answer took too long",
    }.items()
}


@dataclass
class Door:
    """Lets in as many at a time as there are places."""

    places: int
    inside: int = 0

    def refuse(self) -> None:
        """Raise HTTPException where no place is free."""
        if self.inside >= self.places:
            raise HTTPException(429, "too much is waiting; ask again later", {"Retry-After": "1"})

    @asynccontextmanager
    async def passed(self) -> AsyncIterator[None]:
        self.refuse()
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


class Metrics:
    """What Prometheus reads: requests by path and status, seconds, and what is under way."""

    def __init__(self, labeller: Labeller, door: Door) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("signcache_requests", "Requests that were answered.", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("signcache_request_seconds", "Until a request was answered.", ["path"], registry=self.registry)
        under_way = Gauge("signcache_under_way", "Uploads that came whole and are not answered.", registry=self.registry)
        under_way.set_function(lambda: door.inside)
        for source, name, text in (
            (labeller.counts, "batches", "Batches labelled."),
            (labeller.counts, "clips", "Clips labelled."),
            (labeller.counts, "largest", "Clips of the largest batch."),
            (labeller.preparing, "decoded", "Clips labelled that were not found again by content."),
            (labeller.preparing, "lost", "Decode processes that an upload crashed, or hung for too long."),
        ):
            gauge = Gauge(f"signcache_labelled_{name}", text, registry=self.registry)
            gauge.set_function(partial(getattr, source, name))


Seconds = Annotated[float | None, Query(ge=0, description="Of the part that is labelled, in the time of the video.")]
Labels = Annotated[list[str], Query(min_length=1, max_length=100, description="In the order of time.")]
Write = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Offered:
    """What a server does besides labelling, where it was asked to: sentences of labels, and landmarks made in the browser."""

    write: Write | None = None
    landmarks: BrowserLandmarks | None = None


def app_of(labeller: Labeller, spotter: Spotter, sessions: Sessions, folder: Path, offered: Offered) -> FastAPI:
    """The interface of a labeller; uploads lie in a folder while they are looked at."""
    limits, door, coming = labeller.limits, Door(labeller.limits.waiting), Door(COMING * labeller.limits.waiting)
    metrics = Metrics(labeller, door)
    described: dict[str, Any] = {"docs_url": None, "redoc_url": None}  # those pages load code from elsewhere
    app = FastAPI(
        **described, title="signcache", version=__version__, description=f"Labels of signs by {labeller.trained.run.model}.\n{PROTOCOL}"
    )
    run, writer = labeller.trained.run, ThreadPoolExecutor(1, thread_name_prefix="sentences")
    page.add(app, offered.landmarks)
    guards = page.headers(offered.landmarks)

    @app.middleware("http")
    async def counted(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.monotonic()
        try:
            response = await answer(request)
        except Exception:
            logging.getLogger(__name__).exception("a request failed")
            response = JSONResponse({"detail": "the server failed at this; it goes on with others"}, 500)
        route = request.scope.get("route")
        path = getattr(route, "path", "other")
        metrics.requests.labels(path, response.status_code).inc()
        metrics.seconds.labels(path).observe(time.monotonic() - began)
        response.headers.update(guards)
        return response

    @asynccontextmanager
    async def let_in(request: Request) -> AsyncIterator[Upload]:
        """An upload that has a place once it came whole: one that comes slowly takes none of those that wait for an answer."""
        door.refuse()
        async with AsyncExitStack() as stack:
            async with coming.passed():
                upload = await stack.enter_async_context(received(request, folder, limits, labeller.modality))
            await stack.enter_async_context(door.passed())
            yield upload

    @app.post("/predict", openapi_extra=FILE, responses={200: _shown(EXAMPLE), **REFUSALS})
    async def predict(request: Request, start: Seconds = None, end: Seconds = None) -> dict[str, Any]:
        """The label of one clip, or of a part of a longer one: an element of what `signcache predict --json` says."""
        interval = interval_asked(start, end, labeller.modality, limits)
        async with let_in(request) as upload:
            return await _within(_label(labeller, replace(upload, interval=interval)), limits)

    @app.post("/spot", openapi_extra=FILE, responses={200: _shown(GLOSSES), **REFUSALS})
    async def spot(request: Request) -> dict[str, Any]:
        """The signs in one longer video, with their times in seconds: what `signcache spot --json` says."""
        async with let_in(request) as upload:
            return await _within(_spotted(labeller, spotter, upload), limits)

    @app.get("/sentence", responses={422: {"description": "a label that the model never says"}})
    async def sentence(label: Labels) -> dict[str, str]:
        """English of labels, where the server was started with --sentence."""
        if offered.write is None:
            raise HTTPException(404, "this server makes no sentences; start it with --sentence rules, or a language model")
        strange = next((each for each in label if each not in run.record["learned"]), None)
        if strange is not None:
            raise HTTPException(422, f"{strange[:50]!r} is no label of the model; GET /card says which are")
        async with door.passed():
            return {"sentence": await _within(asyncio.wrap_future(writer.submit(offered.write, label)), limits)}

    @app.websocket("/live")
    async def live(socket: WebSocket, rate_hz: float = 30.0, send: Sent = "frames") -> None:
        """JPEG frames or landmark rows in, an event after each that was looked at out; after `end` all glosses."""
        await sessions.run(socket, rate_hz, send)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """Whether uploads are labelled."""
        is_ready = labeller.thread.is_alive()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def shown_metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/card")
    async def card() -> dict[str, Any]:
        """What the model is, what it may say, how it scored, its card for people, and what rows `WS /live?send=rows` takes (null: none)."""
        scores = {name: run.scores[name] for name in ("split", "n", "top1", "top5", "macro_f1") if name in run.scores}
        text = next((place / CARD for place in (run.folder, run.folder.parents[1]) if (place / CARD).is_file()), None)
        own = {"model": run.model, "dataset": run.dataset, "classes": list(run.record["learned"]), "scores": scores}
        extra = {"sentences": offered.write is not None, "landmarks": offered.landmarks and offered.landmarks.document()}
        more = {**extra, "limits": {"max_bytes": limits.max_bytes, "max_seconds": limits.max_seconds}}
        return {**own, **more, "rows": _rows(labeller), "card": text.read_text(encoding="utf-8") if text else ""}

    return app


async def _label(labeller: Labeller, upload: Upload) -> dict[str, Any]:
    await labeller.preparing.check(upload, labeller.limits.max_seconds * (SPOTTED if upload.interval else 1))
    said = await labeller.labelled(upload)
    if said.reason:
        raise Refused(said.reason.replace(upload.path.name, "the clip"))
    return {**said.as_json(), "clip": upload.name}


async def _spotted(labeller: Labeller, spotter: Spotter, upload: Upload) -> dict[str, Any]:
    await labeller.preparing.check(upload, SPOTTED * labeller.limits.max_seconds)
    return await spotter.spot(upload)


def _rows(labeller: Labeller) -> dict[str, Any] | None:
    try:
        return form_of(labeller.trained).document()
    except UserError:
        return None


def _shown(example: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"example": example}}}


async def _within(answer: Awaitable[T], limits: Limits) -> T:
    """The answer; what is not there in time is not waited for any more."""
    try:
        async with asyncio.timeout(limits.deadline_seconds):
            return await answer
    except TimeoutError:
        raise HTTPException(504, f"no answer within {limits.deadline_seconds:g} s") from None
    except Refused as refusal:
        raise HTTPException(422, PLACE.sub(r"\1", str(refusal))) from None
