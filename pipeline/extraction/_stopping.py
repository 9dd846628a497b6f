"""Ctrl-C, and SIGTERM as a batch system sends it before it takes a machine away: what is whole is sealed, then the run ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from pipeline.errors import Terminated

SEAL_SECONDS = 4.0
"""After SIGTERM, until what is whole is sealed beside a computation that goes on."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


STOPS = {signal.SIGINT: (signal.default_int_handler, KeyboardInterrupt), signal.SIGTERM: (_terminate, Terminated)}


@contextmanager
def terminable(rescue: Callable[[], None]) -> Iterator[None]:
    """SIGTERM raises Terminated meanwhile, as Ctrl-C raises KeyboardInterrupt; not where it means something else already.

    Where the main thread is then at something that no signal interrupts, a long forward pass, another does `rescue` and ends the process.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    heard, told = os.pipe()
    os.set_blocking(told, False)
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(heard, ended, rescue), name="sigterm", daemon=True)
    watch.start()
    before = signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.set_wakeup_fd(before)
        ended.set()
        os.close(told)
        watch.join()
        os.close(heard)


def _watch(heard: int, ended: threading.Event, rescue: Callable[[], None]) -> None:
    """The kernel tells of a signal here, whatever the main thread is at."""
    while numbers := os.read(heard, 64):
        if signal.SIGTERM in numbers and not ended.wait(SEAL_SECONDS):
            try:
                rescue()
            finally:
                os._exit(Terminated.status)


@contextmanager
def between_clips(stop: Callable[[type[KeyboardInterrupt]], None]) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM stops between two clips, where no lock is held; the second at once. In other threads: as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = {number: said for number, said in STOPS.items() if signal.getsignal(number) is said[0]}

    def as_before() -> None:
        for number, (handler, _) in heard.items():
            signal.signal(number, handler)

    def first(number: int, frame: FrameType | None) -> None:
        as_before()
        stop(heard[signal.Signals(number)][1])

    for number in heard:
        signal.signal(number, first)
    try:
        yield
    finally:
        as_before()
