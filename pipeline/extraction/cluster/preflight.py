"""Whether a worker would make the same rows of the same files into the same cache: looked at there before it gets work."""

from __future__ import annotations

import multiprocessing
import pickle
import secrets
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import xxhash
from distributed import get_worker

from pipeline import __version__
from pipeline.cache.identity import differences, fingerprint, refuse_changed
from pipeline.corpus.media import files_of
from pipeline.errors import UserError
from pipeline.extraction._engine import Work
from pipeline.extraction.preparing.decode_processes import SPOOL_BYTES
from pipeline.extraction.preparing.jobs import Job
from pipeline.machine import free_bytes, shown_size
from pipeline.types import has_forward

GLIMPSE_BYTES = 1 << 20
"""Of a file that stands for the corpus."""
PROBE = "probe"


def question(work: Work, spool: Path, first: Job | None) -> dict[str, Any]:
    """What each worker is asked, in values that any version of it understands; leaves a file with a random word in the run's folder."""
    probe = spool / PROBE
    probe.write_text(secrets.token_hex(16), encoding="utf-8")
    media = next((str(file) for path in (first.paths if first else ()) for file in files_of(path)), "")
    stages = [
        (name, stage.extractor, stage.fingerprint, stage.upstream and stage.upstream.fingerprint.digest)
        for name, stage in work.stages.items()
    ]
    return {
        "version": __version__,
        "stages": pickle.dumps(stages),
        "probe": str(probe),
        "media": media,
        "needs_device": any(has_forward(stage.extractor) for stage in work.stages.values()),
    }


def look(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the worker that this runs in is and sees, in plain values."""
    folder = Path(get_worker().local_directory)
    found: dict[str, Any] = {
        "version": __version__,
        "host": socket.gethostname(),
        "is_daemon": multiprocessing.current_process().daemon,
        "probe": _glimpse(asked["probe"]),
        "refused": _refused(Path(asked["probe"]).parent),
        "media": _glimpse(asked["media"]),
        "folder": str(folder),
        "free": free_bytes(folder),
        "stages": [],
        "gpus": [],
    }
    if found["version"] == asked["version"]:
        found["stages"] = _stage_reasons(asked["stages"])
    if asked["needs_device"]:
        found["gpus"] = gpus()
    return found


def gpus() -> list[str]:
    """The UUIDs of the GPUs that this process may see, as CUDA_VISIBLE_DEVICES says."""
    import torch

    return [str(torch.cuda.get_device_properties(number).uuid) for number in range(torch.cuda.device_count())]


def reasons(asked: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Why a worker gets no work, each with the remedy."""
    if found["version"] != asked["version"]:
        yield f"it runs signcache {found['version']}, this is {asked['version']}: install the same"
    yield from found["stages"]
    cache = Path(asked["probe"]).parents[3]
    if found["probe"] != _glimpse(asked["probe"]):
        yield f"it does not see the cache {cache} as it is here: mount the same folder there"
    elif found["refused"]:
        yield f"it cannot write to the cache {cache} ({found['refused']}): let its user do so"
    if found["media"] != _glimpse(asked["media"]):
        seen = "another file" if found["media"] else "not there"
        yield f"{asked['media']} is {seen} for it: mount the same corpus there"
    if found["free"] < SPOOL_BYTES:
        free, needed = shown_size(found["free"]), shown_size(SPOOL_BYTES)
        yield f"{free} are free in {found['folder']}, {needed} are needed: start it with --local-directory DIR"
    if found["is_daemon"]:
        yield "its nanny forbids it decode processes: start it with DASK_DISTRIBUTED__WORKER__DAEMON=False in its environment"


def _stage_reasons(sent: bytes) -> list[str]:
    """What differs of the stages as this process has them, from what they are where they were sent from."""
    try:
        stages = pickle.loads(sent)  # noqa: S301  # from the process that this worker works for
    except Exception as error:  # other code may lack anything
        return [f"its code does not have these stages ({type(error).__name__}: {error}): give it the code of this checkout"]
    found = []
    for name, extractor, said, upstream in stages:
        try:
            apart = differences(said.identity, fingerprint(extractor, upstream).identity)
            if apart:
                found.append(f"{name} differs there ({'; '.join(apart)}): give it the code, libraries and weights of this checkout")
            else:
                refuse_changed(name, extractor, said)
        except UserError as error:
            found.append(f"{error} (restart the worker where it has loaded older code)")
    return found


def _glimpse(path: str) -> list[object]:
    """Size and a sum of the first bytes of a file; empty where it cannot be read."""
    if not path:
        return []
    try:
        with open(path, "rb") as file:
            return [Path(path).stat().st_size, xxhash.xxh3_64_hexdigest(file.read(GLIMPSE_BYTES))]
    except OSError:
        return []


def _refused(folder: Path) -> str:
    """Why nothing can be written to a folder, or nothing."""
    mine = folder / f"{PROBE}-{secrets.token_hex(4)}"
    try:
        mine.touch()
        mine.unlink()
    except OSError as error:
        return error.strerror or str(error)
    return ""
