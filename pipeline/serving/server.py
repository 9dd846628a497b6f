"""A server from its start, which it says in one line, to its end, at which what was let in is answered."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from socket import socket

import uvicorn

from pipeline.corpus.manifest import Home
from pipeline.machine import chosen_device
from pipeline.runs.packaging.reading import opened, unfolded
from pipeline.serving.app import Offered, Write, app_of
from pipeline.serving.labelling import Labeller
from pipeline.serving.landmarks import landmarks_of
from pipeline.serving.live import Sessions
from pipeline.serving.spotting import Spotter
from pipeline.serving.uploads import Limits
from pipeline.spotting.spot import Way


@dataclass(frozen=True)
class Manner:
    """Where it listens, port 0 being any that is free, and how it works."""

    way: Callable[[Path], Way]
    """How frames of live sessions are looked at, by the folder of the run."""
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "auto"
    stale: str = "refuse"
    keep: bool = False
    """Whether rows stay in the cache that it is given, in place of one that ends with it."""
    write: Write | None = None
    """What makes sentences of labels, where sentences are made."""
    landmarks: Path | None = None
    """Where npm's MediaPipe lies, where browsers are to make the landmarks."""


def serve(home: Home, place: Path, manner: Manner, limits: Limits, say: Callable[[str], None]) -> None:
    """Label uploads with a run or package until SIGINT or SIGTERM; what was let in by then is answered."""
    with ExitStack() as stack:
        folder = stack.enter_context(unfolded(place))
        trained = stack.enter_context(opened(home, folder, stale=manner.stale))
        offered = Offered(manner.write, landmarks_of(trained, manner.landmarks) if manner.landmarks else None)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signcache-serve-")))
        (scratch / "uploads").mkdir()
        own = home if manner.keep else Home(scratch / "cache", home.manifests)
        labeller = Labeller(trained, own, limits, device=manner.device, keeps=manner.keep)
        stack.callback(labeller.close)
        sessions = Sessions(trained, manner.way(trained.run.folder), chosen_device(manner.device), limits)
        config = uvicorn.Config(
            app_of(labeller, Spotter(own, folder, manner.device), sessions, scratch / "uploads", offered),
            host=manner.host,
            port=manner.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws_max_size=limits.max_bytes,
            timeout_graceful_shutdown=int(limits.deadline_seconds) + 1,
        )
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
        ):  # uvicorn raises again what ended it; the rest is to end too
            signal.signal(number, lambda *_: None)
        _Server(config, lambda url: say(f"signcache serves {place} at {url}")).run()


class _Server(uvicorn.Server):
    """Says where it listens once it does."""

    def __init__(self, config: uvicorn.Config, say: Callable[[str], None]) -> None:
        super().__init__(config)
        self.say = say

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            self.say(f"http://{f'[{host}]' if ':' in host else host}:{port}")
