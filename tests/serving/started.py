"""A server of a package in a process of its own, on any free port of this machine, and what a client sends it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.checkout import PATIENCE, ROOT


@dataclass
class Serving:
    """A server of a package, where it is, and what lies where."""

    url: str
    process: subprocess.Popen[str]
    root: Path
    package: Path

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=PATIENCE) as answer:  # noqa: S310
            body = answer.read().decode()
            return json.loads(body) if answer.headers["content-type"] == "application/json" else body

    def send(self, content: bytes, *, name: str = "clip.mp4", field: str = "file", path: str = "/predict") -> tuple[int, dict[str, Any]]:
        """The status and the document of an answer to an upload."""
        mark = secrets.token_hex(8)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode()
        body = head + content + f"\r\n--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        request = urllib.request.Request(f"{self.url}{path}", body, headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def counted(self, name: str) -> float:
        """A value of `/metrics`."""
        found = re.search(rf"^signcache_{name} (\S+)", self.get("/metrics"), re.MULTILINE)
        assert found
        return float(found[1])


@contextmanager
def started(package: Path, root: Path, *options: str, code: Path = ROOT) -> Iterator[Serving]:
    """A server of this code with these options, its temporary files in `root/tmp`; it has ended when this ends."""
    (root / "tmp").mkdir()
    words = ["serve", str(package), "--port", "0", "--device", "cpu", "--deadline", str(PATIENCE), *options]
    environment = {**os.environ, "PYTHONPATH": str(code), "TMPDIR": str(root / "tmp"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pipeline", "--cache", str(root / "served"), *words]
    process = subprocess.Popen(command, cwd=code, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith(f"signcache serves {package} at http://127.0.0.1:"), line
    yield Serving(line.split()[-1], process, root, package)
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()
