"""Buffers that are used again when nobody holds them, and the thread that fills them ahead of their consumer."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from pipeline.types import Array

T = TypeVar("T")
AHEAD = 2
"""Batches that wait for the consumer."""
BUFFERS = AHEAD + 3
"""Those ahead, one being filled, and two in the consumer's hands while it goes from one batch to the next."""
PAGE = 4096


class Ring:
    """A few flat arrays, given out again only when nobody holds them: not as a tensor, a view, numpy, nor for backward.

    `torch.from_numpy` keeps its array alive as long as any storage does, so the array's reference count tells.
    """

    def __init__(self, dtype: str, size: int = BUFFERS) -> None:
        self.dtype, self.size = np.dtype(dtype), size
        self.arrays: list[Array] = []
        self.lock = threading.Lock()

    def take(self, count: int) -> Array:
        """`(count,)` values of an array that is nobody else's, their content undefined."""
        with self.lock:
            for i in range(len(self.arrays)):
                if sys.getrefcount(self.arrays[i]) == 2:  # the list's and the call's own
                    if self.arrays[i].nbytes < self._bytes(count):
                        self.arrays[i] = np.empty(self._bytes(count), np.uint8)
                    return self._aligned(self.arrays[i], count)
            if len(self.arrays) >= self.size:
                del self.arrays[0]  # whoever keeps it frees it
            self.arrays.append(np.empty(self._bytes(count), np.uint8))
            return self._aligned(self.arrays[-1], count)

    def _bytes(self, count: int) -> int:
        return count * self.dtype.itemsize + PAGE

    def _aligned(self, array: Array, count: int) -> Array:
        """Values from a page's beginning on: a target a few bytes off its mapped source in the page is copied at a third of the speed."""
        first = -array.ctypes.data % PAGE
        return array[first : first + count * self.dtype.itemsize].view(self.dtype)


def ahead(source: Iterator[T]) -> Iterator[T]:
    """The items of `source`, made in a thread that is at most AHEAD of the consumer, and ends when this iterator is closed."""
    ready: queue.Queue[T | BaseException | None] = queue.Queue(AHEAD)
    stop = threading.Event()

    def fill() -> None:
        end: BaseException | None = None
        try:
            for item in source:
                ready.put(item)
                if stop.is_set():
                    return
        except BaseException as error:
            end = error
        ready.put(end)

    thread = threading.Thread(target=fill, name="signcache-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while not ready.empty():  # a waiting put goes through, then the thread sees the stop
            ready.get()
        if thread is not threading.current_thread():  # a garbage collection may close this anywhere
            thread.join()
