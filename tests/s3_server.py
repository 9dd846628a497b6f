"""An S3 server on this machine, and a line to it that loses, cuts, delays and doubles what goes over it."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

FAULTS = ("refuse", "drop", "lose the answer", "cut", "delay", "double")


class Line(ThreadingHTTPServer):
    """Passes requests on to a server; the next ones with these `faults`, one each."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.faults, self.seen = port, deque[str](), list[str]()
        self.closing = threading.Event()
        self.heeds_conditions = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def ask(self, method: str, path: str) -> None:
        """A request to the server itself."""
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        connection.request(method, path)
        assert connection.getresponse().read() is not None
        connection.close()

    def reached(self, monkeypatch: pytest.MonkeyPatch) -> Line:
        """The line as the environment names it, to a server with nothing but the empty bucket `lab`."""
        for name, value in {
            "ACCESS_KEY_ID": "reader",
            "SECRET_ACCESS_KEY": "word",
            "REGION": "us-east-1",
            "ENDPOINT_URL": self.url,
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        self.ask("POST", "/moto-api/reset")
        self.ask("PUT", "/lab")
        self.faults.clear()
        self.heeds_conditions = True
        self.seen.clear()
        return self


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Line

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client gave up
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Nothing: the test says what went wrong."""

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.server.faults.popleft() if self.server.faults else ""
        self.server.seen.append(f"{self.command} {self.path}")
        if fault == "refuse":
            self._answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
            return
        if fault == "forbid":
            self._answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            return
        if fault == "drop":
            self._hang_up()
            return
        if fault == "delay":
            self.server.closing.wait(60)  # the client gives up long before
            self._hang_up()
            return
        answer = self._asked(body)
        if fault == "double":
            answer = self._asked(body)
        if fault == "lose the answer":
            self._hang_up()
            return
        self._answer(*answer, cut=fault == "cut")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

    def _asked(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        headers = dict(self.headers)
        if not self.server.heeds_conditions:
            headers = {name: value for name, value in headers.items() if name.lower() not in ("if-match", "if-none-match")}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        found = answer.status, dict(answer.getheaders()), answer.read()
        connection.close()
        return found

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        kept = {name: value for name, value in headers.items() if name.lower() not in ("connection", "transfer-encoding", "content-length")}
        length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
        for name, value in {**kept, "Content-Length": length}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(2)


@contextmanager
def s3() -> Iterator[Line]:
    """A server and a line to it."""
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    line = Line(server.get_host_and_port()[1])
    threading.Thread(target=line.serve_forever, daemon=True).start()
    try:
        yield line
    finally:
        line.closing.set()
        line.shutdown()
        line.server_close()
        server.stop()
