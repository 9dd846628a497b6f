"""What strangers do to a real server: uploads that hang or kill their decoder, that lie, that come slowly; and its end meanwhile."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.checkout import PATIENCE, Checkout
from tests.serving.started import Serving, started
from tests.video_files import cut, write_clip

MOODS = '''"""Mean colours; a clip that begins red hangs, one that begins green ends its process, one that begins blue crashes it.

One that begins yellow asks for more memory than there is for it.
"""

import ctypes
import os
import signal

import numpy as np

from pipeline.types import Extractor


class Moody(Extractor):
    source: str = "rgb"

    @property
    def row_shape(self):
        return (3,)

    def prepare(self, frames):
        for (image,) in frames:
            red, green, blue = image.mean(axis=(0, 1)) > 150
            if red and not green:
                ctypes.PyDLL(None).sleep(100_000)  # with the GIL held
            if green and not red:
                os._exit(0)
            if blue and not red:
                os.kill(os.getpid(), signal.SIGSEGV)
            if red and green and not blue:
                np.empty(5 << 30, np.uint8)
            yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)


stage = Moody
'''
RED, GREEN, BLUE, YELLOW = (230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 20)
CLIPS = 12
LEAK = re.compile(r"/|Traceback|[0-9a-f]{16}")
LIMITS = ("--deadline", "30", "--max-mb", "1", "--max-seconds", "10", "--max-pixels", "10000", "--waiting", "16")


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("hostile")
    checkout = Checkout.make(root / "checkout", clips=CLIPS)
    (checkout.folder / "stages" / "moody.py").write_text(MOODS)
    for number in range(CLIPS):  # grey, of two kinds
        (checkout.folder / "clips" / f"class{number % 2}" / f"clip {number:02d}.mp4").write_bytes(
            clip(root, 60 + 40 * (number % 2), number)
        )
    checkout.ok("extract", "tiny", "moody", "--device", "cpu")
    settings = [word for pair in ("stages=moody", "hidden=4", "epochs=1") for word in ("--set", pair)]
    done = checkout.ok("train", "tiny", "lstm_late", *settings, "--device", "cpu", "--json")
    checkout.ok("package", json.loads(done.stdout.splitlines()[-1])["run"], root / "moods")
    with started(root / "moods", root, *LIMITS, code=checkout.folder) as served:
        yield served


def clip(folder: Path, level: int, number: int = 0, frames: int = 6) -> bytes:
    """A grey clip that differs by its number."""
    path = write_clip(folder / "grey.mp4", frames, draw=lambda n, size: np.full((size[1], size[0], 3), level + n + number, np.uint8))
    return path.read_bytes()


def filled(folder: Path, colour: tuple[int, int, int]) -> bytes:
    draw = np.array(colour, np.uint8)
    path = write_clip(folder / "filled.mp4", 4, draw=lambda _, size: np.broadcast_to(draw, (size[1], size[0], 3)).copy())
    return path.read_bytes()


def decoders(serving: Serving) -> list[psutil.Process]:
    """The decode processes of a server: those that its fork server started."""
    return [child for parent in psutil.Process(serving.process.pid).children() for child in parent.children()]


def test_uploads_that_hang_or_kill_their_decoder_cost_their_own_request(serving: Serving, tmp_path: Path) -> None:
    bad = [filled(tmp_path, colour) for colour in (RED, GREEN, BLUE)]
    good = [clip(tmp_path, 60, number) for number in range(5)]
    with ThreadPoolExecutor(9) as pool:
        spotted = pool.submit(serving.send, bad[0], path="/spot")
        answers = list(pool.map(serving.send, [*bad, *good]))
    assert [status for status, _ in answers] == [422] * 3 + [200] * 5
    assert [answer["detail"] for _, answer in answers[:3]] == [
        "its decoding made no progress for 10 s",
        "its decoding process ended with status 0",
        "its decoding process was killed by SIGSEGV",
    ]
    assert serving.counted("labelled_lost") == 6  # each was tried twice
    assert spotted.result() == (504, {"detail": "no answer within 30 s"})
    assert not any("spot" in child.cmdline() for child in psutil.Process(serving.process.pid).children())
    assert serving.counted("under_way") == 0
    again = serving.send(good[0])
    assert again == answers[3]
    assert list((serving.root / "tmp").glob("signcache-serve-*/uploads/*")) == []


def test_a_decode_process_that_dies_at_nothing_is_replaced(serving: Serving, tmp_path: Path) -> None:
    before = decoders(serving)
    assert before
    for process in before:
        process.kill()
    psutil.wait_procs(before, PATIENCE)
    assert serving.send(clip(tmp_path, 60, 17))[0] == 200
    assert len(decoders(serving)) == len(before)


def test_files_that_lie_are_refused_in_one_line(serving: Serving, tmp_path: Path) -> None:
    fast = write_clip(tmp_path / "bomb.mp4", 1300, size=(16, 16), rate=1000).read_bytes()
    larger = write_clip(tmp_path / "large.ts", 4, size=(128, 96), format="mpegts").read_bytes()
    grows = write_clip(tmp_path / "small.ts", 4, format="mpegts").read_bytes() + larger
    whole = clip(tmp_path, 60, 21)
    place = whole.index(b"stsz") + 12
    many = whole[:place] + struct.pack(">I", 100_000_000) + whole[place + 4 :]
    for content, text in [
        (fast, "it lasts 11 s, at most 10 s are read"),
        (grows, "moody: its frames have 12288 pixels, at most 10000 are read"),
        (cut(write_clip(tmp_path / "cut.mp4"), 0.6).read_bytes(), "the clip"),
        (many, "the clip"),
        (filled(tmp_path, YELLOW), "Unable to allocate 5.00 GiB"),
        (b"\0\0\0\x18ftypisom" + bytes(300_000), "the clip"),
    ]:
        status, answer = serving.send(content)
        assert (status, text in answer["detail"]) == (422, True), answer
        assert not LEAK.search(json.dumps(answer)), answer
    assert serving.send(whole)[0] == 200


def test_a_body_without_length_is_cut_at_the_limit(serving: Serving) -> None:
    connection = http.client.HTTPConnection(serving.url.removeprefix("http://"), timeout=PATIENCE)
    headers = {"Content-Type": "multipart/form-data; boundary=x", "Transfer-Encoding": "chunked"}
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    connection.request("POST", "/predict", iter([head, *[bytes(100_000)] * 12]), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)) == (413, {"detail": "at most 1000000 bytes a clip"})
    connection.close()


def test_live_sessions_are_told_what_is_wrong_with_what_they_send(serving: Serving) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    content = BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(content, "JPEG")
    vast = bytearray(content.getvalue())
    struct.pack_into(">HH", vast, vast.index(b"\xff\xc0") + 5, 20_000, 20_000)
    address = f"{serving.url.replace('http', 'ws')}/live"
    with connect(address, open_timeout=PATIENCE, close_timeout=PATIENCE) as live:
        wrong: list[tuple[str | bytes, str]] = [
            (bytes(vast), "a frame has far more than the 10000 pixels that are read at most"),
            (content.getvalue()[:200], "a frame is no whole JPEG"),
            ("some text", "a frame is no whole JPEG"),
        ]
        for message, text in wrong:
            live.send(message)
            assert json.loads(live.recv(PATIENCE)) == {"error": text}
        live.send(bytes(1_100_000))
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009  # too big
    with connect(f"{address}?send=rows", open_timeout=PATIENCE, close_timeout=PATIENCE) as live:
        live.send(np.array([60, 60, 60], "<f4").tobytes())
        assert json.loads(live.recv(PATIENCE))["seconds"] == 0


def test_it_ends_on_sigterm_with_what_is_under_way_answered(serving: Serving, tmp_path: Path) -> None:
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    everything = psutil.Process(serving.process.pid).children(recursive=True)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    body = head + clip(tmp_path, 60, 30) + b"\r\n--x--\r\n"
    host, port = serving.url.removeprefix("http://").split(":")
    lines = ["POST /predict HTTP/1.1", f"Host: {host}", "Content-Type: multipart/form-data; boundary=x", f"Content-Length: {len(body)}"]
    with (
        connect(f"{serving.url.replace('http', 'ws')}/live", open_timeout=PATIENCE) as live,
        socket.create_connection((host, int(port)), PATIENCE) as slow,
    ):
        slow.sendall("\r\n".join([*lines, "", ""]).encode() + body[:100])
        assert serving.get("/health") == {"status": "alive"}  # by when the part of the body is there too
        serving.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012  # the service restarts
        with pytest.raises(OSError, match="refused"):
            socket.create_connection((host, int(port)), PATIENCE)
        slow.sendall(body[100:])
        answer = slow.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["clip"] == "a.mp4"
    assert serving.process.wait(PATIENCE) == 0
    gone, left = psutil.wait_procs(everything, PATIENCE)
    assert (len(gone), left) == (len(everything), [])
    assert [path.name for path in (serving.root / "tmp").iterdir() if path.name.startswith("signcache")] == []
