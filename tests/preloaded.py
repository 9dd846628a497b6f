"""Commands in processes forked from one that has imported the libraries: a tenth of a training's time. Of the code it imports nothing.

Each is a process of its own, as a user's is, in the folder of its checkout and with that folder's code. A line of JSON asks for it.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from typing import Any

LIBRARIES = (
    "av",
    "click",
    "h5py",
    "lightning_fabric",
    "numpy",
    "pebble",
    "pydantic",
    "rich.console",
    "rich.progress",
    "scipy.stats",
    "torch",
    "xxhash",
    "zarr",
)


def serve() -> None:
    """Answers each line with one: the exit status, which is minus a signal."""
    for name in LIBRARIES:
        import_module(name)
    gc.collect()
    gc.freeze()  # else the first collection of each child copies every page
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_status(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # what torch brings along reports its leaks at an end of the interpreter


def _status(words: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> int:
    """`python -m pipeline WORDS`, but for taking the libraries apart at its end."""
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    sys.argv = ["signcache", *words]
    status = 0
    try:
        runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


class Preloaded:
    """The process that has imported the libraries; it ends with this one."""

    def __init__(self) -> None:
        self.folder = TemporaryDirectory(prefix="preloaded")
        command = [sys.executable, "-c", "from preloaded import serve; serve()"]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)

    def run(self, words: list[str], folder: Path, environment: dict[str, str], patience: float) -> subprocess.CompletedProcess[str]:
        """How the command ended, and what it printed; raises TimeoutExpired where it takes longer than `patience` seconds."""
        assert self.process.stdin
        assert self.process.stdout
        streams = [str(Path(self.folder.name, name)) for name in ("out", "err")]
        asked = {"words": words, "folder": str(folder), "environment": environment, "streams": streams}
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        if not select([self.process.stdout], [], [], patience)[0]:
            raise subprocess.TimeoutExpired(words, patience)
        status = int(self.process.stdout.readline())
        out, err = (Path(stream).read_text() for stream in streams)
        return subprocess.CompletedProcess(["signcache", *words], status, out, err)


@cache
def preloaded() -> Preloaded:
    """The one of these tests."""
    return Preloaded()
