"""What this machine offers a run: processors, a device, room; and amounts as people read them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import stat
from pathlib import Path

from pipeline.errors import UserError

PR_SET_PDEATHSIG = 1
WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""How long a thread spins at a barrier before it sleeps, of either OpenMP. Their own 300,000 turns take the cores from whoever has work:
beside one busy process on two cores ResNet50 ran 1.3 times as fast with 1,000, beside many 3 times; alone it is as fast, as is an LSTM,
which has a barrier a step and ran at a third without any spinning."""


def cores() -> int:
    """Processors that this process may use: no more than a container's quota, or LOKY_MAX_CPU_COUNT where set, allows."""
    from joblib import cpu_count

    return int(cpu_count())


def threads(otherwise: int) -> int:
    """Threads that a process computes with: OMP_NUM_THREADS, as `--threads` sets it, else so many."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) else otherwise


def wait_briefly() -> None:
    """Before torch is loaded: its threads, and those of processes that are started from now on, soon sleep where they wait.

    Where the environment says how they are to wait, they do that.
    """
    if not {"OMP_WAIT_POLICY", *WAITING} & os.environ.keys():
        os.environ.update(WAITING)


def share_with_group(folder: Path) -> None:
    """From now on what this process makes may be changed by its group, where the folder may."""
    if folder.is_dir() and folder.stat().st_mode & stat.S_IWGRP:
        os.umask(os.umask(0) & ~stat.S_IWGRP)


def free_bytes(place: Path) -> int:
    """Free on the disk that a path lies on, or would."""
    place = place.absolute()
    return shutil.disk_usage(next(folder for folder in [place, *place.parents] if folder.exists())).free


def chosen_device(asked: str) -> str:
    """`cpu` or `cuda`; raises UserError where it is not there."""
    import torch

    if asked not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {asked}: no such device; use auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA device here; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


def use_float32() -> None:
    """From now on CUDA computes in float32 what is float32: torch lets convolutions and LSTMs round to TF32, unless told."""
    import torch

    torch.backends.cudnn.allow_tf32 = False


def die_with_parent() -> None:
    """From now on the kernel kills this process when the one that started it ends."""
    with contextlib.suppress(AttributeError):  # not Linux: forkserver children end when their pipe closes
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def shown_size(size: float) -> str:
    """`512 B`, `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def shown_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
