"""A command killed by SIGKILL just before its n-th change to the disk, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.corpus.manifest import Home

ROOT = Path(__file__).resolve().parents[1]
CHILD = """
import os, shutil, signal, sys
step, left = int(sys.argv[1]), [int(sys.argv[1])]

def counted(act):
    def change(*arguments, **options):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return act(*arguments, **options)
    return change

for name in ("replace", "rename", "unlink", "rmdir", "link"):
    setattr(os, name, counted(getattr(os, name)))
from pipeline.cli import main
main(sys.argv[2:], standalone_mode=False)
print(step - left[0])
"""


def killed(home: Home, step: int, *arguments: object) -> bool:
    """Whether the command got as far as its change number `step` (counted from 0), and died there."""
    done = _child(home, step, arguments)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


def changes(home: Home, *arguments: object) -> int:
    """How many changes the whole command makes to the disk: renames, removals, links."""
    done = _child(home, 1_000_000, arguments)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def _child(home: Home, step: int, arguments: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    words = ["--cache", str(home.cache), "--manifests", str(home.manifests), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", CHILD, str(step), *words], env=environment, text=True, capture_output=True)
