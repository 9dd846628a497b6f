"""Rows in place of frames over a live session: the same events, and what is no row is said."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import registry
from pipeline.decoding.decode import open_clip
from pipeline.layouts import LANDMARKS, Layout
from pipeline.runs.packaging.reading import opened
from pipeline.runs.trained import Trained
from pipeline.serving.live import Sessions, picture
from pipeline.serving.rows import RowForm, form_of
from pipeline.serving.uploads import Limits, Refused
from pipeline.spotting.gate import GATES
from pipeline.spotting.spot import Way
from pipeline.testing.long_videos import compose
from tests.spotting.signs import Signs, made, toy_stages

SEEN = Layout((LANDMARKS["left_hand"], LANDMARKS["right_hand"]))
HANDS = RowForm("hands", (SEEN.width,), "float32", SEEN)


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signs]:
    root = tmp_path_factory.mktemp("signs")
    with toy_stages(root):
        yield made(root, {"derived": "colour,centred", "streamed": "tint"})


class Socket:
    """A client that sends its next message once it was told of the last one."""

    def __init__(self, messages: Sequence[str | bytes]) -> None:
        self.messages, self.told, self.closed = iter([*messages, "end"]), list[dict[str, Any]](), (0, "")
        self.headers: dict[str, str] = {}
        self.turn = asyncio.Semaphore(1)

    async def accept(self) -> None:
        pass

    async def receive(self) -> dict[str, Any]:
        await self.turn.acquire()
        message = next(self.messages)
        return {"type": "websocket.receive", "text" if isinstance(message, str) else "bytes": message}

    async def send_json(self, event: dict[str, Any]) -> None:
        self.told.append(event)
        self.turn.release()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.closed = code, reason


def events(trained: Trained, messages: Sequence[str | bytes], sent: str) -> Socket:
    """What a session says of messages of which none is dropped; seconds, which follow the clock, are left out."""

    async def held() -> Socket:
        socket, way = Socket(messages), Way(GATES["insignia-web"], window=24)
        await Sessions(trained, way, "cpu", Limits()).run(socket, 1.0, sent)  # type: ignore[arg-type]
        return socket

    return asyncio.run(held())


def jpeg(image: np.ndarray[Any, Any]) -> bytes:
    content = BytesIO()
    Image.fromarray(image).save(content, "JPEG")
    return content.getvalue()


def test_rows_give_the_events_of_the_frames_that_they_were_made_of(signs: Signs, tmp_path: Path) -> None:
    compose(signs.clips(), tmp_path / "long.mp4", seed=7)
    clip = open_clip([tmp_path / "long.mp4"], decord=False, lengths={})
    frames = [jpeg(image) for (image,) in clip.frames(np.arange(min(clip.length, 150)))]
    stage = registry.create("stage", "colour")
    rows = list(stage.prepare((picture(frame, 10_000),) for frame in frames))
    with opened(signs.home, signs.runs["derived"]) as trained:
        of_frames = events(trained, frames, "frames")
        as_bytes = events(trained, [row.astype("<f4").tobytes() for row in rows], "rows")
        as_text = events(trained, [json.dumps(row.tolist()) for row in rows], "rows")
    assert len(of_frames.told) == len(frames) + 1
    assert {event["word"] for event in of_frames.told[:-1]} & {"RED", "GREEN", "BLUE"}
    for told in (as_bytes.told, as_text.told):
        assert told[:-1] == of_frames.told[:-1]
        assert told[-1]["glosses"] == of_frames.told[-1]["glosses"] != []


def test_what_is_no_row_is_said_and_left_out(signs: Signs) -> None:
    with opened(signs.home, signs.runs["derived"]) as trained:
        assert form_of(trained).document() == {"stage": "colour", "values": 3, "parts": []}
        messages: list[str | bytes] = [
            b"\xff\xd8\xff",
            "[1, 2]",
            "[1, 2, null]",
            "hello",
            json.dumps([[1, 2, 3]]),
            "[1e999, 0, 0]",
            "[1, 2, 3]",
        ]
        *errors, event, last = events(trained, messages, "rows").told
    assert [error["error"] for error in errors] == [
        "a row has 3 bytes; colour has 3 values, float32: 12 bytes",
        "a row has the shape (2,); colour has 3 values",
        "a row holds values that are not finite",
        "a row is no JSON array of 3 numbers",
        "a row has the shape (1, 3); colour has 3 values",
        "a row holds values that are not finite",
    ]
    assert "error" not in event
    assert (last["ended"], last["seen"]) == (True, 1)


def test_rows_of_a_network_are_taken_of_nobody(signs: Signs) -> None:
    with opened(signs.home, signs.runs["streamed"]) as trained:
        assert events(trained, [], "rows").closed == (1008, "rows of tint cannot be sent here; send frames")


def test_a_part_without_numbers_is_one_that_was_not_seen() -> None:
    row = np.arange(1, SEEN.width + 1, dtype=np.float32)
    row[SEEN.columns["left_hand"]] = np.nan
    read = HANDS.read(row.tobytes())
    assert not read[SEEN.columns["left_hand"]].any()
    np.testing.assert_array_equal(read[SEEN.columns["right_hand"]], row[SEEN.columns["right_hand"]])
    row[SEEN.columns["right_hand"].start] = np.nan
    with pytest.raises(Refused, match="a row's right_hand is not finite; a part that was not seen is zeros, or NaN throughout"):
        HANDS.read(row.tobytes())
    assert HANDS.document()["parts"][1] == {"name": "right_hand", "start": 63, "points": 21, "size": 3}


def test_a_client_that_sends_nothing_does_not_keep_its_place() -> None:
    from pipeline.serving.live import Fed, Read
    from pipeline.spotting.live.sources import WallClock

    told: list[Any] = []
    sessions = Sessions(SimpleNamespace(), SimpleNamespace(), "cpu", Limits(deadline_seconds=0.05))  # type: ignore[arg-type]

    async def receive() -> None:
        await asyncio.Event().wait()

    source = Read(Fed(25, WallClock()), lambda _: np.zeros(1), told.append)
    asyncio.run(sessions._take(SimpleNamespace(receive=receive), source))  # type: ignore[arg-type]
    assert told == [{"error": "nothing came for 0.05 s"}]
    assert list(source.frames()) == []


def test_bytes_of_a_row_are_little_endian() -> None:
    form = RowForm("one", (2,), "float32", None)
    assert form.read(struct.pack("<2f", 1.5, -2.0)).tolist() == [1.5, -2.0]
