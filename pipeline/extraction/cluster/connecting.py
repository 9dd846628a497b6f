"""A cluster: workers of this machine that end with the run, or those of a scheduler that somebody has started."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Security
from distributed.core import rpc
from distributed.versions import VersionMismatchWarning, get_versions

from pipeline.errors import UserError

CONNECT_SECONDS = 10.0
"""After which there is no scheduler."""
ALIKE = ("dask", "distributed", "cloudpickle", "python")
"""What a scheduler has in the same version, lest the two do not understand each other."""


@contextmanager
def local(workers: int, threads: int, folder: Path) -> Iterator[Client]:
    """Processes of this machine; what they prepare lies in `folder`."""
    settings = {
        "distributed.worker.daemon": False,  # workers start decode processes
        "distributed.scheduler.work-stealing": False,
        "distributed.worker.memory.terminate": False,
        "distributed.scheduler.worker-ttl": None,  # a pause of all is the end of none
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": ":0"},  # any port: another cluster may have the usual one
            silence_logs=logging.CRITICAL,
            local_directory=str(folder),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def connected(scheduler: str) -> Iterator[Client]:
    """The cluster of a scheduler, given by its address or its file; raises UserError where there is none, or another version's."""
    address = _address(scheduler)
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what matters is said in one line
    try:
        packages = asyncio.run(asyncio.wait_for(_packages(address), CONNECT_SECONDS))
        _refuse_other_versions(address, packages)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)
            client = Client(address, timeout=CONNECT_SECONDS, name="signcache")
    except UserError:
        raise
    except Exception as error:  # what is no scheduler may answer anything
        said = str(error).partition("\n")[0] or f"no answer in {CONNECT_SECONDS:g} s"
        raise UserError(
            f"--scheduler {scheduler}: nothing to work with answers at {address} ({said}); start one: dask scheduler --scheduler-file FILE"
        ) from error
    with client:
        yield client


async def _packages(address: str) -> dict[str, Any]:
    """The versions that a scheduler tells, of its own packages; those of other times do so as well."""
    async with rpc(address, connection_args=Security().get_connection_args("client")) as scheduler:
        told = await scheduler.versions()
    return dict(told["packages"])


def _address(scheduler: str) -> str:
    """`tcp://host:8786` as it is, `host:8786` as that, or what a scheduler wrote in its file."""
    if "://" in scheduler:
        return scheduler
    if re.fullmatch(r"[^/]+:[0-9]+", scheduler) and not Path(scheduler).exists():
        return f"tcp://{scheduler}"
    try:
        return str(json.loads(Path(scheduler).read_text(encoding="utf-8"))["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it holds no address"
        wanted = "an address (tcp://host:8786) or the file of: dask scheduler --scheduler-file FILE"
        raise UserError(f"--scheduler {scheduler}: {reason}; expected {wanted}") from error


def _refuse_other_versions(address: str, there: Mapping[str, Any]) -> None:
    here = get_versions()["packages"]
    apart = [name for name in ALIKE if _release(name, there.get(name)) != _release(name, here.get(name))]
    if apart:
        theirs, ours = (", ".join(f"{name} {_release(name, found.get(name))}" for name in apart) for found in (there, here))
        raise UserError(f"the scheduler at {address} runs {theirs}; this is {ours}: start both, and the workers, from one environment")


def _release(name: str, version: Any) -> str:
    """A version as far as it matters: of Python, `3.11`."""
    return ".".join(str(version).split(".")[:2]) if name == "python" else str(version)
