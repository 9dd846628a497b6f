"""The page as a person uses it, in a headless Chromium before whose camera a drawn clip plays."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.runs.training import train
from pipeline.serving.app import COMING
from pipeline.spotting.files import read
from tests.checkout import PATIENCE
from tests.commands import said
from tests.serving.chromium import CHROMIUM, browsing
from tests.serving.started import Serving, started
from tests.video_files import Image as Picture
from tests.video_files import write_clip

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
    """Before its camera: WAVES and a rest, again and again, both so long that a slow machine sees them."""
    plays = enumerate([WAVES] * 150 + [REST] * 90)
    with browsing((drawn(label, number, (320, 240)) for number, label in plays), serving.root) as found:
        yield found


@pytest.fixture
def page(serving: Serving, browser: Browser) -> Iterator[Page]:
    """The page, opened anew; it fails where its scripts did, the policy forbade them something, or they asked another server."""
    shown, faults = browser.new_page(), list[str]()
    shown.set_default_timeout(1000 * PATIENCE)
    expect.set_options(timeout=1000 * PATIENCE)
    shown.on("pageerror", lambda error: faults.append(str(error)))
    shown.on("console", lambda told: faults.append(told.text) if told.type == "error" and "load resource" not in told.text else None)
    shown.on("request", lambda asked: None if asked.url.startswith((serving.url, "blob:")) else faults.append(asked.url))
    shown.goto(serving.url)
    expect(shown.locator("#model")).to_contain_text("lstm_late on signs: 3 signs")
    yield shown
    assert shown.title() == "signcache"
    shown.close()
    assert faults == []


def test_every_answer_forbids_code_and_frames_of_others(serving: Serving) -> None:
    for path in ("/", "/page/page.js", "/card", "/no-such"):
        try:
            with urlopen(f"{serving.url}{path}", timeout=PATIENCE) as answer:  # noqa: S310
                headers = answer.headers
        except HTTPError as error:
            headers = error.headers
            error.close()
        policy = headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_the_words_that_a_camera_sees_appear_and_become_a_sentence(page: Page) -> None:
    page.get_by_role("button", name="Start the camera").click()
    expect(page.locator("#history li").first).to_contain_text(f"{WAVES} (")
    expect(page.locator("#sentence")).to_have_text("Waves.")
    page.get_by_role("button", name="Stop the camera").click()
    expect(page.locator("#camera-state")).to_contain_text("frames seen")


def test_an_uploaded_clip_gets_the_likeliest_labels_as_text(page: Page, serving: Serving) -> None:
    chosen = clip(serving.root / "<b onclick=x>.mp4", (HOSTILE, 24))
    page.get_by_label("Choose a video").set_input_files(chosen)
    expect(page.locator("#file-state")).to_have_text(chosen.name)
    page.get_by_role("button", name="Label as one clip").click()
    rows = page.get_by_role("region", name="The label of the clip").get_by_role("row")
    expect(rows).to_have_count(3)
    top = serving.send(chosen.read_bytes())[1]["top"]
    assert [row.get_by_role("rowheader").text_content() for row in rows.all()] == [label for label, _ in top]
    assert [row.locator("td").last.text_content() for row in rows.all()] == [f"{100 * share:.1f} %" for _, share in top]
    assert top[0][0] == HOSTILE
    expect(page.get_by_role("caption")).to_have_text(f"{chosen.name} may be")


def test_the_signs_of_a_long_video_are_moved_by_key_and_mouse_and_asked_again(page: Page, serving: Serving) -> None:
    long = clip(serving.root / "long.mp4", (REST, 30), (WAVES, 60), (REST, 45), (HOSTILE, 60), (REST, 30))
    page.get_by_label("Choose a video").set_input_files(long)
    page.get_by_role("button", name="Find the signs in it").click()
    signs = page.get_by_role("region", name="Signs in the video")
    expect(signs.get_by_role("slider", name=f"Start of {WAVES}")).to_be_visible()
    expect(signs.get_by_role("slider", name=f"End of {HOSTILE}")).to_be_visible()
    start = signs.get_by_role("slider", name=f"Start of {WAVES}")
    before = float(start.get_attribute("aria-valuenow") or "nan")
    start.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert float(start.get_attribute("aria-valuenow") or "nan") == pytest.approx(before + 0.3, abs=0.02)
    expect(signs.get_by_role("row", name=WAVES).first).to_contain_text("moved: ask again")
    page.keyboard.press("Enter")
    expect(signs.get_by_role("table", name=re.compile("may be"))).to_be_visible()
    held(signs, serving, long, WAVES)

    end = signs.get_by_role("slider", name=f"End of {WAVES}")
    box, track = end.bounding_box(), signs.locator(".track").bounding_box()
    assert box
    assert track
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(track["x"] + 0.8 * track["width"], box["y"] + 20, steps=3)
    page.mouse.up()
    assert float(end.get_attribute("aria-valuenow") or "nan") == pytest.approx(0.8 * 9, abs=0.2)
    signs.get_by_role("button", name=re.compile(f"Ask again about {WAVES}")).click()
    expect(signs.locator("tr", has_text="moved: ask again")).to_have_count(0)
    held(signs, serving, long, None)

    page.get_by_role("button", name="Add a segment").click()
    expect(signs.get_by_role("row", name="not asked yet")).to_be_visible()
    signs.get_by_role("button", name=re.compile("Remove not asked yet")).click()
    expect(signs.get_by_role("row", name="not asked yet")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a segment")).to_be_focused()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as CSV").click()
    labels = [gloss.label for gloss in read(Path(saved.value.path()).rename(serving.root / "saved.csv"))]
    assert HOSTILE in labels


def held(signs: Locator, serving: Serving, video: Path, label: str | None) -> None:
    """The first sign is shown as the server labels just that part."""
    cells = [cell.text_content() or "" for cell in signs.locator(".rows tbody tr").first.locator("td").all()]
    first, last = (float(cell.removesuffix(" s")) for cell in cells[1:3])
    said = serving.send(video.read_bytes(), path=f"/predict?start={first}&end={last}")[1]
    assert (cells[0], cells[3]) == (said["label"], f"{100 * said['probability']:.1f} %")
    assert label in (None, said["label"])


def test_what_the_server_refuses_is_said_in_words(page: Page, serving: Serving) -> None:
    alert = page.get_by_role("alert")
    good = clip(serving.root / "good.mp4", (WAVES, 24)).read_bytes()
    for content, words in [
        (bytes(1_200_000), "The file is too large. (1.2 MB, at most 1.0 MB are taken)"),
        (b"no video at all", "This is no video that the server reads. (this is no video that is read here: send mp4,"),
        (good[:40] + bytes(2000), "The server cannot label this. (the clip"),
    ]:
        page.get_by_label("Choose a video").set_input_files({"name": "a.mp4", "mimeType": "video/mp4", "buffer": content})
        page.get_by_role("button", name="Label as one clip").click()
        expect(alert).to_contain_text(words)
    page.get_by_label("Choose a video").set_input_files({"name": "a.mp4", "mimeType": "video/mp4", "buffer": good})
    expect(alert).to_be_empty()
    with unfinished_uploads(serving):
        page.get_by_role("button", name="Label as one clip").click()
        expect(alert).to_have_text("The server is busy. Try again in a moment. (too much is waiting; ask again later)")
    for status, words in [
        (413, "The file is too large. (why)"),
        (503, "is starting or ending"),
        (504, "took too long"),
        (418, "status 418"),
    ]:
        page.route("**/predict", partial(Route.fulfill, status=status, json={"detail": "why"}))
        page.get_by_role("button", name="Label as one clip").click()
        expect(alert).to_contain_text(words)
        page.unroute("**/predict")
    page.route("**/predict", lambda route: route.abort())
    page.get_by_role("button", name="Label as one clip").click()
    expect(alert).to_have_text("The server cannot be reached. Does it still run?")


@contextmanager
def unfinished_uploads(serving: Serving) -> Iterator[None]:
    """While inside, as many clips as may be on their way do not come whole."""
    place = urlsplit(serving.url)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000\r\n\r\n--x\r\n"
    with ExitStack() as stack:
        for _ in range(COMING):
            upload = stack.enter_context(socket.create_connection((place.hostname, place.port)))
            upload.sendall(head.encode())
        while serving.send(b"")[0] != 429:
            pass
        yield


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_that_bars_anybody_from_the_page(page: Page, serving: Serving, colours: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=colours)
    page.route("**/spot", lambda route: route.fulfill(json={"glosses": [{"label": WAVES, "start": 0.2, "end": 1, "probability": 0.9}]}))
    page.get_by_label("Choose a video").set_input_files(clip(serving.root / "short.mp4", (WAVES, 40)))
    page.get_by_role("button", name="Label as one clip").click()
    expect(page.locator("#answer")).to_contain_text(WAVES)
    page.get_by_role("button", name="Find the signs in it").click()
    page.get_by_role("button", name="Add a segment").click()
    page.get_by_text("Its card").click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_all_that_can_be_done_is_reached_by_the_tab_key_in_the_order_of_the_page(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the camera")).to_be_focused()
    reached = []
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached[:6] == ["camera-switch", "devices", "mirror", "log", "clear", "file"]
    assert reached[6].startswith("Its card")
