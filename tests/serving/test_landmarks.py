"""Landmarks that a browser makes are those of the stage: MediaPipe's package of npm beside that of PyPI, on a drawn clip."""

from __future__ import annotations

import os
from base64 import b64encode
from io import BytesIO
from itertools import islice
from mimetypes import guess_type
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route

from pipeline.datasets._drawing.clip import clip_motion
from pipeline.datasets._drawing.figure import pictures
from pipeline.datasets._drawing.signers import SIGNERS, generator
from pipeline.errors import UserError
from pipeline.serving import page as served
from pipeline.serving.landmarks import PACKAGE, VERSION, BrowserLandmarks, landmarks_of
from pipeline.serving.rows import form_of
from pipeline.types import Array
from stages.holistic import POINTS, Holistic, blocks, seen
from tests.checkout import PATIENCE
from tests.serving.chromium import CHROMIUM, browsing

FETCHED = os.environ.get("SIGNCACHE_LANDMARKS", "")
SOFTWARE = ("--enable-unsafe-swiftshader", "--use-gl=angle", "--use-angle=swiftshader")
"""WebGL without a graphics card."""
ROWS = """async ([form, settings, pictures]) => {
    const { Landmarks } = await import("/page/landmarks.js");
    const landmarks = new Landmarks(form, settings);
    await landmarks.start();
    const canvas = document.createElement("canvas");
    const rows = [];
    for (const png of pictures) {
        const image = await createImageBitmap(new Blob([Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0))]));
        Object.assign(canvas, { width: image.width, height: image.height }).getContext("2d").drawImage(image, 0, 0);
        rows.push(Array.from(await landmarks.row(canvas)));
    }
    return rows;
}"""


def trained(kind: str) -> Any:
    """What is asked of a model that reads the rows of Holistic by the stage of this kind."""
    return SimpleNamespace(
        chain=(SimpleNamespace(name="landmarks", kind=kind, upstream=None, extractor=Holistic(detection_confidence=0.4)),)
    )


def test_landmarks_are_offered_where_the_model_reads_holistic_and_npm_has_put_it_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"there is no holistic.js; run: npm install --prefix {tmp_path} {PACKAGE}@{VERSION}$"):
        landmarks_of(trained("holistic"), tmp_path)
    place = tmp_path / "node_modules" / PACKAGE
    place.mkdir(parents=True)
    (place / "holistic.js").touch()
    found = landmarks_of(trained("holistic"), tmp_path)
    assert found == landmarks_of(trained("holistic"), place)
    assert found.document() == {"detection_confidence": 0.4, "tracking_confidence": 0.5}
    with pytest.raises(UserError, match="--landmarks makes rows of holistic in the browser, and the model reads pose_hands; leave it out"):
        landmarks_of(trained("pose_hands"), tmp_path)


def test_only_where_landmarks_are_offered_may_the_page_compile_wasm(tmp_path: Path) -> None:
    assert "wasm" not in served.headers(None)["Content-Security-Policy"]
    policy = served.headers(BrowserLandmarks(tmp_path, 0.5, 0.5))["Content-Security-Policy"]
    assert "script-src 'self' 'wasm-unsafe-eval'" in policy


@pytest.mark.skipif(
    not (CHROMIUM and FETCHED), reason=f"needs a Chromium, and SIGNCACHE_LANDMARKS=DIR after: npm install --prefix DIR {PACKAGE}@{VERSION}"
)
def test_a_browser_makes_the_rows_of_the_stage(tmp_path: Path) -> None:
    drawn = pictures(clip_motion("SIGN", "signer1", 1), SIGNERS["signer1"], generator("SIGN", "signer1_rep1", "rgb"))
    frames = list(islice(drawn, 6, 24, 3))
    expected = np.stack(list(Holistic().prepare((frame,) for frame in frames)))
    landmarks = BrowserLandmarks(Path(FETCHED) / "node_modules" / PACKAGE, 0.5, 0.5)
    with browsing([], tmp_path, *SOFTWARE) as browser:
        found = rows_of(browser.new_page(), frames, landmarks)
    for part, block in blocks().items():
        both = seen(found, part)
        np.testing.assert_array_equal(both, seen(expected, part))
        points = [rows[both][:, block].reshape(-1, *POINTS[part])[..., :2] for rows in (found, expected)]
        difference = np.abs(points[0] - points[1])
        assert difference.max() < 0.03, part
        assert difference.mean() < 0.01, part


def rows_of(page: Page, frames: list[Array], landmarks: BrowserLandmarks) -> Array:
    """What the page's own code makes of frames, under its own policy."""
    places = {"": served.FILES, "/page": served.FILES, "/landmarks": landmarks.folder}

    def answer(route: Route) -> None:
        folder, _, name = urlsplit(route.request.url).path.rpartition("/")
        path = places.get(folder, Path()) / (name or "index.html")
        if path.is_file():
            route.fulfill(
                path=path, headers={**served.headers(landmarks), "Content-Type": guess_type(path)[0] or "application/octet-stream"}
            )
        else:
            route.fulfill(status=404)

    page.set_default_timeout(1000 * PATIENCE)
    page.route("**/*", answer)
    page.goto("http://localhost/")
    sources = [b64encode(png(frame)).decode() for frame in frames]
    return np.array(page.evaluate(ROWS, [form_of(trained("holistic")).document(), landmarks.document(), sources]), np.float32)


def png(frame: Array) -> bytes:
    content = BytesIO()
    Image.fromarray(frame).save(content, "PNG")
    return content.getvalue()
