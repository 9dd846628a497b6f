"""Makes README's pictures of the page, a report and a spotted video: `make demo`, then `.venv/bin/python .readme/pictures.py`.

It needs a Chromium, as the tests of the page do, and calibrates the run that it shows, where that was not done.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline.corpus.manifest import Home, read
from pipeline.decoding.decode import Clip, decoded
from pipeline.runs.run_folder import REPORT
from pipeline.spotting import files
from pipeline.spotting.glosses import Gloss
from pipeline.testing.long_videos import compose
from pipeline.types import Array
from tests.serving.chromium import browsing
from tests.serving.started import started

MOST_BYTES = 150_000
COLOURS = 256
WAIT_MS = 600_000
PAGE_SIZE = {"width": 900, "height": 1000}
SIGNS = ("HELLO", "RAIN", "SIGN", "BOOK")
MODEL = "bilstm_attention"


def main() -> None:
    home = Home()
    table = read(home, "demo")
    runs = sorted((home.cache / "runs" / "demo" / MODEL).glob("*/result.json"), key=lambda path: path.stat().st_mtime)
    if not runs:
        sys.exit(f"there is no run of {MODEL} on demo yet; run: make demo")
    run = runs[-1].parent
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        clips = [(table.paths(each, "rgb")[0], str(each.label)) for each in table.samples if each.split == "test" and each.label in SIGNS]
        signs = {label: (path, label) for path, label in clips}
        compose(list(signs.values()), scratch / "talk.mp4", seed=3)
        if not (run / "thresholds.json").is_file():
            signcache("calibrate", run)
        signcache("spot", run, scratch / "talk.mp4", "--out", scratch / "spotted.mp4", "--out", scratch / "talk.csv")
        glosses = files.read(scratch / "talk.csv")
        save(Image.fromarray(frame_at(scratch / "spotted.mp4", middle(glosses[0]))).resize((480, 360)), "spotted.png")
        shots(run, scratch)


def signcache(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "pipeline", *map(str, words)], cwd=Path(__file__).parents[1], check=True)


def middle(gloss: Gloss) -> float:
    return (gloss.start + gloss.end) / 2


def frame_at(video: Path, seconds: float) -> Array:
    """`(H, W, 3)` uint8 of what a video shows then."""

    def take(clip: Clip) -> Array:
        wanted = np.array([round(seconds * clip.rate_hz)])
        return np.array(next(iter(clip.frames(wanted)))[0])

    return decoded([video], take)


def shots(run: Path, scratch: Path) -> None:
    """The report, and the page with what it found in the video, while the same plays before its camera."""
    plays = decoded([scratch / "talk.mp4"], lambda clip: [image for (image,) in clip.frames(np.arange(clip.length))])
    with started(run, scratch, "--sentence", "rules") as server, browsing(plays, scratch) as browser:
        page = browser.new_page(viewport=PAGE_SIZE)
        page.goto((run / REPORT).as_uri())
        shot(page, "report.png")
        page.goto(server.url)
        page.get_by_label("Choose a video").set_input_files(scratch / "talk.mp4")
        page.get_by_role("button", name="Find the signs in it").click()
        expect(page.locator(".segment").first).to_be_visible(timeout=WAIT_MS)
        page.get_by_role("button", name="Start the camera").click()
        expect(page.locator("#history li")).to_have_count(3, timeout=WAIT_MS)
        page.evaluate("document.querySelector('#devices').replaceChildren(new Option('Webcam'))")
        page.evaluate("document.querySelector('#preview').hidden = true")
        shot(page, "page.png")


def shot(page: Page, name: str) -> None:
    save(Image.open(io.BytesIO(page.screenshot())), name)


def save(image: Image.Image, name: str) -> None:
    """A small PNG; raises SystemExit where it is none."""
    path = Path(__file__).with_name(name)
    image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        sys.exit(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}: show less, or in fewer colours")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
