"""Pixels that stages get are those of NUMBERS_VERSION: where one of these fails, raise it and write the golden file anew.

The clips are written without an encoder, byte by byte, so that they are the same on every machine:
`python -m tests.test_golden` writes `golden/pixels.json` with today's numbers.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decode import gray, nearest, open_clip, resized
from pipeline.fingerprint import NUMBERS_VERSION
from pipeline.types import Array, evenly
from tests.video_files import write_planes

GOLDEN = Path(__file__).parent / "golden" / "pixels.json"
WIDTH, HEIGHT, FRAMES = 66, 50, 40


def planes(number: int) -> list[NDArray[np.uint8]]:
    """Y, U and V of a frame: waves that no library draws, by whole numbers only."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    luma = (x * x + 3 * y * (number + 1) + (x * y) // 7) % 220 + 16
    half_y, half_x = np.mgrid[: HEIGHT // 2, : WIDTH // 2]
    return [part.astype(np.uint8) for part in (luma, (half_x * 5 + number * 3) % 200 + 28, (half_y * 7 + number) % 200 + 28)]


def digest(values: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def pixels(folder: Path) -> dict[str, str | list[int]]:
    """What every step from file to item gives today."""
    one = write_planes(folder / "one.y4m", [planes(number) for number in range(FRAMES)])
    two = write_planes(folder / "two.y4m", [planes(number) for number in range(0, FRAMES, 2)])
    found: dict[str, str | list[int]] = {}
    for decoder in ("decord", "pyav"):
        clip = open_clip([one, two], decord=decoder == "decord", lengths={})
        wanted = evenly(clip.length, 30)
        instants = list(clip.frames(wanted))
        found["chosen frames"] = wanted.tolist()
        found[f"{decoder}: decoded"] = digest(np.stack([image for image, _ in instants]))
        found[f"{decoder}: aligned on the first track"] = digest(np.stack([image for _, image in instants]))
    image = instants[7][0]
    found["resized smaller"] = digest(resized(image, (20, 31)))
    found["resized larger"] = digest(resized(image, (224, 224)))
    found["gray"] = digest(gray(image))
    found["nearest"] = digest(nearest(gray(image), (224, 224)))
    return found


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | list[int]]:
    return pixels(tmp_path_factory.mktemp("golden"))


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="FFmpeg turns YUV into RGB by other instructions here")
@pytest.mark.parametrize("step", json.loads(GOLDEN.read_text())["pixels"] if GOLDEN.exists() else [])
def test_pixels_are_those_of_the_numbers_version(step: str, today: dict[str, str | list[int]]) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["numbers_version"] == NUMBERS_VERSION, "write the golden file anew: python -m tests.test_golden"
    assert today[step] == golden["pixels"][step], f"{step!r} gives other numbers: raise NUMBERS_VERSION, then python -m tests.test_golden"


def test_the_golden_file_holds_every_step(today: dict[str, str | list[int]]) -> None:
    assert list(json.loads(GOLDEN.read_text())["pixels"]) == list(today)


def test_both_decoders_give_the_golden_pixels(today: dict[str, str | list[int]]) -> None:
    for step in ("decoded", "aligned on the first track"):
        assert today[f"decord: {step}"] == today[f"pyav: {step}"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps({"numbers_version": NUMBERS_VERSION, "pixels": pixels(Path(folder))}, indent=1) + "\n")
