"""Several processes that train one model, each on a device of its own: who they are, what one does for all, how they end together.

They are told by the environment variables of torchrun, whichever started them: `torchrun -m pipeline train ...`, or `--devices N`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError
from pipeline.learning import training_processes
from pipeline.machine import chosen_device, shown_size

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")
TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PATIENCE = timedelta(days=2)
"""How long processes wait for one that scores, boosts trees or writes; one that ends is noticed at once."""
GONE = re.compile(r"(?i)connection (closed|reset|refused)|broken pipe|remote process|socket closed|NCCL.*abort")


def count() -> int:
    """Processes that train together."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in TOLD) else 1


def rank() -> int:
    """This process' number among them; 0 is the one that writes and speaks."""
    return int(os.environ["RANK"]) if count() > 1 else 0


def _here() -> int:
    """How many of them are on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if count() > 1 else 1


def fabric(device: str, *plugins: Any) -> Fabric:
    """Fabric on one device, or on this process' among several; raises UserError where there are not so many."""
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    if count() == 1:  # said, or it would count the tasks of a SLURM job as its own and warn wherever there is an `srun`
        return Fabric(accelerator=device, devices=1, plugins=[LightningEnvironment(), *plugins])
    _check_cuda(device)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # modules may leave out weights in a batch; and buckets that never change add up in one order, resumed or not
    strategy = DDPStrategy(find_unused_parameters=True, timeout=PATIENCE)
    plugged = [TorchElasticEnvironment(), *plugins]
    found = Fabric(accelerator=device, devices=_here(), num_nodes=count() // _here(), strategy=strategy, plugins=plugged)
    found.launch()
    return found


def _check_cuda(device: str) -> None:
    import torch

    there = torch.cuda.device_count()
    if device == "cuda" and there < _here():
        raise UserError(
            f"--devices {_here()}: torch sees {there} CUDA device{'s' * (there != 1)} here; use --devices {there}, or --device cpu"
        )


@contextlib.contextmanager
def joined(asked: int | None, device: str) -> Iterator[None]:
    """Inside, this process is one of those that train together, all but the first without a word; alone where `asked` is 1.

    Where `asked` processes are still to be started, this starts them on the same command and ends with their exit status.
    """
    if count() == 1 and (asked or 1) > 1:
        raise SystemExit(training_processes.supervise(asked or 1))
    if asked not in (None, count()):
        raise UserError(f"--devices {asked}: {count()} processes were started; leave --devices out, or start {asked}")
    if count() == 1:
        yield
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch advises against find_unused_parameters in every training
    group = fabric(chosen_device(device))
    with _silent() if rank() else contextlib.nullcontext(), _ending_with_the_others():
        yield
        group.barrier()


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """What is printed goes nowhere; what is raised is told as ever."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


@contextlib.contextmanager
def _ending_with_the_others() -> Iterator[None]:
    """A process that loses another ends without a word: the lost one, or whoever started both, says why."""
    try:
        yield
    except RuntimeError as error:
        if not GONE.search(str(error)):
            raise
        raise SystemExit(training_processes.LOST) from error


def noise(device: str) -> dict[str, Any]:
    """The state of the generators that a module draws from."""
    import torch

    return {"generator": torch.get_rng_state(), "cuda_generator": torch.cuda.get_rng_state() if device == "cuda" else None}


def make_noise(state: Mapping[str, Any]) -> None:
    """From now on draw what was drawn after that state."""
    import torch

    torch.set_rng_state(state["generator"])
    if state["cuda_generator"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda_generator"])


def limit(device: str, most: int) -> None:
    """From now on this process takes at most so many bytes of a CUDA device; a CPU has no such limit, and a line says so."""
    import torch

    if device == "cuda":
        whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / whole))
    elif rank() == 0:
        print(f"--max-memory {shown_size(most)}: on a CPU it bounds what a step keeps for its gradient, not the process", file=sys.stderr)


def once(make: Callable[[], T]) -> T:
    """What the first process makes, in all of them; the others wait."""
    if count() == 1:
        return make()
    import torch.distributed

    made: list[Any] = [make() if rank() == 0 else None]
    torch.distributed.broadcast_object_list(made, 0)
    found: T = made[0]
    return found


def may_speak() -> bool:
    """Whether no other process has said yet what ends the training: where all find the same fault, one line tells it."""
    if count() == 1:
        return True
    import torch.distributed

    if not torch.distributed.is_initialized():
        return rank() == 0
    try:
        store = torch.distributed.distributed_c10d._get_default_store()
        return int(store.add("signcache/said", 1)) == 1
    except RuntimeError:
        return False  # the first process keeps the count: it has ended, and said why
