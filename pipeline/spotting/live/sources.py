"""Where live frames come from: a camera or stream, or a file at its own pace. What nobody took in time is gone."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, Protocol, TypeAlias, TypeVar

import numpy as np

from pipeline.decoding.decode import open_clip
from pipeline.decoding.video import Recounted, media_errors
from pipeline.errors import ClipError, UserError
from pipeline.types import Array

Numbered: TypeAlias = tuple[int, float, Array]
"""The number of a frame, the second at which it came by the clock, and its `(H, W, 3)` uint8 picture."""
Handed = TypeVar("Handed")
USUAL_HZ = 30.0
"""Of a camera that does not say."""


class Clock(Protocol):
    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """Seconds as they pass."""

    now = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)


class LiveSource(Protocol):
    """Frames as they come: numbers go up, and those that are left out were dropped."""

    rate_hz: float

    def frames(self) -> Iterator[Numbered]: ...


def opened(name: str, clock: Clock) -> LiveSource:
    """The camera of a number, the stream of an address, or the file of a path. Raises UserError where there is none."""
    if name.isdigit() or "://" in name:
        return Camera(name)
    return Played(Path(name), clock)


class Played:
    """A video file as if it were seen now: each frame comes when its time has come, and is gone with the next."""

    def __init__(self, path: Path, clock: Clock) -> None:
        if not path.is_file():
            raise UserError(f"--source {path}: no such file; name a video, a camera by its number (0), or an address (rtsp://...)")
        try:
            with media_errors(path):
                self.clip = open_clip([path], decord=False, lengths={})
        except ClipError as error:
            raise UserError(f"--source {path}: {error}") from error
        self.path, self.clock, self.rate_hz = path, clock, self.clip.rate_hz or USUAL_HZ

    def frames(self) -> Iterator[Numbered]:
        began = self.clock.now()
        pictures = enumerate(self.clip.frames(np.arange(self.clip.length)))
        try:
            for number, (picture,) in pictures:
                due = began + number / self.rate_hz
                if self.clock.now() < due:
                    self.clock.sleep(due - self.clock.now())
                if self.clock.now() < due + 1 / self.rate_hz or number == self.clip.length - 1:
                    yield number, due, picture
        except Recounted:  # its packets were counted wrongly: it ends here
            return
        except ClipError as error:
            raise UserError(f"--source {self.path}: {error}") from error


class Newest(Generic[Handed]):
    """Hands things over from one thread to another: what comes while another is looked at takes the place of what waits."""

    def __init__(self) -> None:
        self.changed, self.is_over = threading.Condition(), False
        self.waiting: Handed | None = None

    def give(self, thing: Handed) -> None:
        with self.changed:
            self.waiting = thing
            self.changed.notify()

    def end(self) -> None:
        """What waits is the last."""
        with self.changed:
            self.is_over = True
            self.changed.notify()

    def __iter__(self) -> Iterator[Handed]:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting is not None or self.is_over)
                taken, self.waiting = self.waiting, None
            if taken is None:
                return
            yield taken


class Camera:
    """OpenCV's camera or stream. A thread takes every frame as it comes and keeps the last, so nothing waits in a queue."""

    def __init__(self, name: str) -> None:
        import cv2

        self.name = name
        self.capture = cv2.VideoCapture(int(name) if name.isdigit() else name)
        if not self.capture.isOpened():
            what = "camera" if name.isdigit() else "stream"
            raise UserError(f"--source {name}: no {what} answers there; see that it is connected and not in use, or name a video file")
        self.rate_hz = float(self.capture.get(cv2.CAP_PROP_FPS) or USUAL_HZ)
        self.newest = Newest[Numbered]()

    def frames(self) -> Iterator[Numbered]:
        thread = threading.Thread(target=self._take, name="camera", daemon=True)
        thread.start()
        try:
            yield from self.newest
        finally:
            self.newest.end()
            thread.join()
            self.capture.release()

    def _take(self) -> None:
        import cv2

        for number in itertools.count():
            there, picture = self.capture.read()
            if not there or self.newest.is_over:
                return self.newest.end()
            self.newest.give((number, time.monotonic(), np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))))
