"""The page as a person uses it, in a headless Chromium before whose camera a drawn clip plays."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.runs.training import train
from tests.checkout import PATIENCE
from tests.commands import said
from tests.serving.started import Serving, started
from tests.video_files import Image as Picture
from tests.video_files import write_clip

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is found; Debian's: apt-get install chromium")

HOSTILE = "<img src=x onerror=document.title='owned'>"
"""The name of a class."""
WAVES = "WAVES"
REST = "REST"
SIZE = (64, 48)
RATE = 25


def drawn(label: str, number: int, size: tuple[int, int] = SIZE) -> Picture:
    """Upright stripes are WAVES, level ones HOSTILE, a grey picture is REST."""
    width, height = size
    lines = np.arange(width)[None, :].repeat(height, 0) if label == WAVES else np.arange(height)[:, None].repeat(width, 1)
    wide = width // 8
    light = np.full(lines.shape, 120) if label == REST else np.where(lines // wide % 2, 230, 20)
    noise = np.random.default_rng(number).integers(-6, 7, lines.shape)
    return np.repeat(np.clip(light + noise, 0, 255).astype(np.uint8)[..., None], 3, 2)


def clip(path: Path, *signs: tuple[str, int], start: int = 0) -> Path:
    """A clip of signs that last so many frames each."""
    labels = [label for label, frames in signs for _ in range(frames)]
    return write_clip(path, len(labels), rate=RATE, draw=lambda number, size: drawn(labels[number], start + number, size))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that knows the signs above, and makes sentences by rules; one request may be under way."""
    root = tmp_path_factory.mktemp("page")
    home, lines = Home(root / "cache", root / "manifests"), ["file,split,signer"]
    for place, label in enumerate((WAVES, HOSTILE, REST)):
        for take in range(9):
            clip(root / "data" / label / f"{take}.mp4", (label, 20 + take), start=100 * place + 1000 * take)
            split = "train" if take < 5 else "val" if take < 8 else "test"
            lines.append(f"{label}/{take}.mp4,{split},{split}")
    (root / "data" / "split.csv").write_text("\n".join(lines) + "\n")
    said(home, "manifest", "signs", "--corpus", "folder", "--root", root / "data")
    stage = ("source=rgb", "receivers=1", "max_frames=8", "resize=24,32")
    said(home, "extract", "signs", "radar_cnn", *(word for each in stage for word in ("--set", each)), "--device", "cpu")
    settings = {"stages": "radar_cnn", "hidden": "16", "epochs": "12", "lr": "0.02", "normalize": "train"}
    learned = train(home, manifest.read(home, "signs"), "lstm_late", settings, device="cpu").folder  # without its report, which costs more
    said(home, "calibrate", learned)
    said(home, "package", learned, root / "signs.zip")
    with started(root / "signs.zip", root, "--sentence", "rules", "--max-mb", "1", "--waiting", "1") as server:
        yield server


@pytest.fixture(scope="module")
def browser(serving: Serving) -> Iterator[Browser]:
    """Before its camera: a rest, WAVES and a rest, again and again."""
    plays = serving.root / "camera.mjpeg"
    with open(plays, "wb") as file:
        for number, label in enumerate([REST] * 30 + [WAVES] * 75 + [REST] * 45):
            content = BytesIO()
            Image.fromarray(drawn(label, number, (320, 240))).save(content, "JPEG")
            file.write(content.getvalue())
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", f"--use-file-for-fake-video-capture={plays}"]
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=camera)
        yield started
        started.close()


@dataclass
class Person:
    """A page and what went wrong on it."""

    page: Page
    faults: list[str]


@pytest.fixture
def page(serving: Serving, browser: Browser) -> Iterator[Page]:
    """The page, opened anew; it fails where scripts of the page failed, or the policy forbade them something."""
    shown, faults = browser.new_page(), list[str]()
    shown.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda told: faults.append(told.text) if told.type == "error" and "status of" not in told.text else None)
    shown.goto(serving.url)
    expect(shown.locator("#model")).to_contain_text("lstm_late on signs: 3 signs")
    yield shown
    assert shown.title() == "signcache"
    shown.close()
    assert faults == []


def test_the_words_that_a_camera_sees_appear_and_become_a_sentence(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#history li").first).to_contain_text(f"{WAVES} (")
    expect(page.locator("#sentence")).to_have_text("Waves.")
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#camera-state")).to_contain_text("frames seen")
