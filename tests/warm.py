"""Runs in a checkout: commands in processes forked from one that has imported everything, so that each takes a moment.

Every command is a process of its own, as a user's is: it imports the stages, it may be killed. A line of JSON asks for it:
its `words`, and `events`, what happens just before its n-th change to the disk. This file imports nothing of the tests.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path
from threading import Lock
from typing import Any, cast

CHANGES = ("replace", "rename", "unlink", "rmdir", "link", "mkdir")
CRASHED = 70
MODULES = (
    *("pebble", "zarr", "h5py", "pipeline.data", "pipeline.datasets.toys", "pipeline.cache.stores.zarr", "pipeline.cache.stores.hdf5"),
    *("pipeline.extraction.adopt", "pipeline.extraction.estimate", "pipeline.extraction.extract", "pipeline.extraction.log"),
    *("pipeline.extraction.forward_passes", "pipeline.runs.reading", "pipeline.reports.printed"),
    *("pipeline.cache.upkeep.compact", "pipeline.cache.upkeep.drop", "pipeline.cache.upkeep.garbage"),
    *("pipeline.cache.upkeep.mend", "pipeline.cache.upkeep.verify"),
)
"""What commands import when they come to it."""


def serve() -> None:
    """Answers each line with one: the exit status (of a killed command minus the signal), stdout and stderr."""
    _warm_up()
    out, err = Path("out.txt"), Path("err.txt")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _take_streams(out, err)
            os._exit(_status(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            _start_fork_server()
        print(json.dumps({"status": os.waitstatus_to_exitcode(status), "out": out.read_text(), "err": err.read_text()}), flush=True)


def _warm_up() -> None:
    for name in MODULES:
        import_module(name)
    from pipeline import machine

    machine.cores = lambda: 1  # clips one after the other, so that a history repeats
    os.fsync = lambda fd: None  # a process that is killed loses nothing that it has written
    _start_fork_server()


def _start_fork_server() -> None:
    """The engine's fork server, shared by all commands: to start it takes longer than all the rest. Its decode processes go with it."""
    from pipeline.extraction.preparing.decode_processes import start_pool

    server: Any = vars(forkserver)["_forkserver"]
    vars(server).pop("ensure_running", None)
    server._stop()
    forkserver.ensure_running = server.ensure_running
    start_pool(1)  # of processes that are never started
    server.ensure_running = forkserver.ensure_running = lambda: None  # forked commands are not the parent who may ask


def _take_streams(out: Path, err: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)


def _status(words: list[str], events: list[dict[str, Any]]) -> int:
    from pipeline.cli import main

    sys.argv = ["signcache", *words]
    _watch({event["at"]: event for event in events})
    try:
        if words[0] == "described":
            _described(*words[1:])
        elif words[0] == "opened":
            return _opened(*words[1:])
        else:
            main(words, prog_name="signcache")
    except SystemExit as error:
        return cast(int, error.code or 0)
    except BaseException:
        traceback.print_exc()
        return CRASHED
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def _watch(events: dict[int, dict[str, Any]]) -> None:
    """Kill this process, or write a file, just before its n-th change to the disk, counted from 0."""
    count, lock = [0], Lock()

    def counted(act: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            with lock:
                event = events.get(count[0])
                count[0] += 1
            if event and "file" in event:
                Path(event["file"]).write_bytes(bytes.fromhex(event["bytes"]))
                os.utime(event["file"], ns=(event["mtime"], event["mtime"]))
            elif event:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **options)

        return change

    for name in CHANGES if events else ():
        setattr(os, name, counted(getattr(os, name)))


def _described(cache: str, manifests: str, name: str, *words: str) -> None:
    """Prints `{stage: [digest, gain]}` of what `extract NAME WORDS` would run."""
    from pipeline.commands.options import pairs
    from pipeline.corpus import manifest
    from pipeline.extraction import plan

    home = manifest.Home(Path(cache), Path(manifests))
    given = tuple(word for word in words if "=" in word)
    stages = plan.wanted_stages(home, manifest.read(home, name), [word for word in words if "=" not in word], pairs(given))
    print(json.dumps({stage.name: [stage.fingerprint.digest, cast(Any, stage.extractor).gain] for stage in stages}))


def _opened(cache: str, manifests: str, name: str, stage: str) -> int:
    """Prints `{clip: rows}` of what a training on all clips that have features would read, or why it may not."""
    from pipeline import data
    from pipeline.corpus import manifest
    from pipeline.errors import UserError
    from pipeline.learning.recipe import Recipe
    from pipeline.runs import reading

    home = manifest.Home(Path(cache), Path(manifests))
    recipe = Recipe(stages=(stage,))
    try:
        table = manifest.read(home, name)
        read, missing = reading.read_for(home, table, recipe, table.samples, stale="refuse", allow_missing=len(table.samples))
        found = {sample.id: read.opened[stage][sample.id].tolist() for sample in read.samples}
        where: dict[str, Any] = {"cache": cache, "manifests": manifests, "allow_missing": len(table.samples)}
        every = [batch for split in {s.split for s in read.samples} for batch in data.batches(name, [stage], split=split, **where)]
    except UserError as error:
        print(f"signcache: {error}", file=sys.stderr)
        return 2
    rows = {clip: batch.features[stage][i, : batch.lengths[stage][i]].tolist() for batch in every for i, clip in enumerate(batch.ids)}
    assert rows == found, f"batches give {rows}, not {found}"
    print(json.dumps([found, missing]))
    return 0
