"""A headless Chromium before whose camera pictures play, again and again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from pipeline.types import Array

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
"""The browser of this machine, if it has one: none is fetched."""


@contextmanager
def browsing(plays: Iterable[Array], scratch: Path, *switches: str) -> Iterator[Browser]:
    """A browser whose camera shows these `(H, W, 3)` uint8 pictures, 30 a second, and which pages may use unasked."""
    video = scratch / "camera.mjpeg"
    with open(video, "wb") as file:
        for picture in plays:
            Image.fromarray(picture).save(file, "JPEG")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={video}"]
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=[*camera, *switches])
        yield browser
        browser.close()
