"""Requests that take too long or come too many, told by the interface alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.serving.app import Offered, app_of
from pipeline.serving.uploads import Limits

MARK = "x"
CLIP = b"\0\0\0\0ftypisom"
BODY = f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'.encode() + CLIP + f"\r\n--{MARK}--\r\n".encode()
RUN = SimpleNamespace(model="lstm_late", dataset="signs")


def app(folder: Path, limits: Limits) -> Any:
    """An interface whose labeller never answers."""

    async def fine(*_: object) -> None:
        pass

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    counts, preparing = SimpleNamespace(batches=0, clips=0, largest=0), SimpleNamespace(decoded=0, lost=0, check=fine)
    trained = SimpleNamespace(run=RUN)
    labeller = SimpleNamespace(limits=limits, modality="rgb", counts=counts, trained=trained, preparing=preparing, labelled=never)
    return app_of(labeller, SimpleNamespace(), SimpleNamespace(), folder, Offered())  # type: ignore[arg-type]


async def asked(served: Any, messages: Iterator[dict[str, Any]]) -> tuple[int, str]:
    """The status and the detail of the answer to a POST of these parts of a body; after the last, nothing comes any more."""
    headers = [(b"content-type", f"multipart/form-data; boundary={MARK}".encode())]
    scope = {"type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"", "headers": headers}
    found: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        message = next(messages, None)
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError
        return message

    async def send(message: dict[str, Any]) -> None:
        found.append(message)

    await served({**scope, "http_version": "1.1", "scheme": "http", "server": ("test", 80), "root_path": ""}, receive, send)
    body = b"".join(message.get("body", b"") for message in found)
    return found[0]["status"], json.loads(body)["detail"]


def whole() -> Iterator[dict[str, Any]]:
    return iter([{"type": "http.request", "body": BODY, "more_body": False}])


def test_an_answer_that_takes_too_long_is_504_and_the_clip_is_gone(tmp_path: Path) -> None:
    found = asyncio.run(asked(app(tmp_path, Limits(deadline_seconds=0.05)), whole()))
    assert found == (504, "no answer within 0.05 s")
    assert list(tmp_path.iterdir()) == []


def test_a_body_that_does_not_come_is_408(tmp_path: Path) -> None:
    slow = iter([{"type": "http.request", "body": BODY[:20], "more_body": True}])
    assert asyncio.run(asked(app(tmp_path, Limits(deadline_seconds=0.05)), slow)) == (408, "the clip did not come within 0.05 s")


def test_a_body_without_a_length_is_cut_at_the_limit(tmp_path: Path) -> None:
    endless = iter(lambda: {"type": "http.request", "body": bytes(50_000), "more_body": True}, None)
    first = iter([{"type": "http.request", "body": BODY[:80], "more_body": True}])
    parts = (message for source in (first, endless) for message in source)
    assert asyncio.run(asked(app(tmp_path, Limits(max_bytes=1000)), parts)) == (413, "at most 1000 bytes a clip")


def test_bodies_that_come_slowly_take_no_place_of_those_that_wait(tmp_path: Path) -> None:
    async def many() -> list[tuple[int, str]]:
        served = app(tmp_path, Limits(waiting=1, deadline_seconds=0.2))
        slow = [iter([{"type": "http.request", "body": BODY[:20], "more_body": True}]) for _ in range(3)]
        return list(await asyncio.gather(*(asked(served, body) for body in [*slow, whole()])))

    assert sorted(status for status, _ in asyncio.run(many())) == [408, 408, 408, 504]


def test_more_than_may_wait_are_429(tmp_path: Path) -> None:
    async def many() -> list[tuple[int, str]]:
        served = app(tmp_path, Limits(waiting=2, deadline_seconds=0.2))
        return list(await asyncio.gather(*(asked(served, whole()) for _ in range(5))))

    assert sorted(status for status, _ in asyncio.run(many())) == [429, 429, 429, 504, 504]
