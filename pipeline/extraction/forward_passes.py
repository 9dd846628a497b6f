"""Forward passes on the device: of how many rows, how many at a time, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np

from pipeline.cache.stage import Stage
from pipeline.errors import UserError
from pipeline.types import Array, Forward

DEVICE_BATCH: Mapping[str, int] = {"cpu": 8, "cuda": 64}
"""Most rows of a forward pass: small batches stay in the caches of a CPU. Which is fastest is not tried out by the clock, for
kernels of some sizes (1, 3 and 16 of ResNet50) differ in the last bit, and two runs are to give equal bytes."""
IN_FLIGHT: Mapping[str, int] = {"cpu": 0, "cuda": 1}
"""Passes that the device is at while the next is gathered; a CPU does that itself."""
Landed: TypeAlias = Callable[[], Array]
"""Waits for a pass and gives its rows."""


@contextmanager
def own_mistakes(stage: Stage, act: str, passing: type[Exception] = UserError) -> Iterator[None]:
    """Raises what a stage's own code raises, an exit too, as UserError that names the stage and what it was to do; `passing` as it is."""
    try:
        yield
    except (UserError, KeyboardInterrupt, passing):
        raise
    except BaseException as error:  # a stage that somebody is writing may raise anything
        said = str(error).partition("\n")[0]
        raise UserError(f"stage {stage.name!r} cannot {act}: {type(error).__name__}: {said}; look at {stage.file}") from error


def launched(forward: Forward, items: Array, device: str, most: int) -> Landed:
    """The pass of `(B, *item_shape)` items to `(B, *row_shape)` rows, begun.

    It has a power of two of rows, at least 2 (the last repeated), for the kernels of these agree to the bit.
    On CUDA both copies are asynchronous, from and to pinned memory. Raises torch.OutOfMemoryError.
    """
    import torch

    count = len(items)
    full = min(max(2, 1 << (count - 1).bit_length()), max(most, count))
    given = torch.from_numpy(items[np.minimum(np.arange(full), count - 1)] if full > count else items)
    with torch.inference_mode():
        if device != "cuda":
            rows: Array = forward(given).numpy()[:count]
            return lambda: rows
        made = forward(given.pin_memory().to(device, non_blocking=True))
        here = torch.empty(made.shape, dtype=made.dtype, pin_memory=True)
        here.copy_(made, non_blocking=True)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()

    def landed() -> Array:
        done.synchronize()
        found: Array = here.numpy()[:count]
        return found

    return landed
