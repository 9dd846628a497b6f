"""Pixels, tables and weights that stages get are those of NUMBERS_VERSION: where one of these fails, raise it and write the file anew.

What is read is written without an encoder, byte by byte, so that it is the same on every machine; one JPEG lies here.
`python -m tests.test_golden` writes `golden/numbers.json` with today's numbers.
"""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pipeline.cache import weights
from pipeline.cache.identity import NUMBERS_VERSION
from pipeline.decoding.decode import gray, nearest, open_clip, resized
from pipeline.decoding.mosaic import developer
from pipeline.types import Array, evenly
from tests.video_files import write_planes

GOLDEN = Path(__file__).parent / "golden" / "numbers.json"
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
    found["mosaic developed"] = digest(developer("bayer_grbg")(gray(image)))
    found["nearest"] = digest(nearest(gray(image), (224, 224)))
    return found


def tables(folder: Path) -> dict[str, str]:
    """What a track that is no video gives today, from files of every form, and from two of different lengths zipped."""
    rows = np.arange(33 * 4).reshape(33, 4) ** 2 % 97 / 8 - 3
    np.save(folder / "rows.npy", rows.astype(np.float32))
    scipy.io.savemat(folder / "rows.mat", {"d_iner": np.moveaxis(rows.reshape(33, 2, 2), 0, 2)})
    (folder / "rows.txt").write_text("# t x y z\n" + "\n".join(" ".join(map(str, row)) for row in rows.tolist()))
    (folder / "rows.csv").write_text("t,x,y,z\n" + "\n".join(f"{t},,{y:.3e},{z}" for t, _, y, z in rows.tolist()))
    lists = {"hand": [None, *rows[1:].tolist()], "time": [None, *rows[1:, 0].tolist()]}
    (folder / "rows.json").write_text(json.dumps(lists))
    for number, row in enumerate(rows[:12]):
        (folder / "frames").mkdir(exist_ok=True)
        np.save(folder / "frames" / f"{number}.npy", row)
    for number in (2, 10, 9):
        (folder / f"clip.{number}.jpg").write_bytes((GOLDEN.parent / "frame.jpg").read_bytes())
        image = np.stack([plane.repeat(2, 0).repeat(2, 1)[:HEIGHT, :WIDTH] for plane in planes(number)[1:] + planes(number)[1:2]], axis=-1)
        Image.fromarray(image).save(folder / f"still.{number}.png")
    found = {}
    for name in ("rows.npy", "rows.mat", "rows.txt", "rows.csv", "rows.json", "frames", "clip.*.jpg", "still.*.png"):
        clip = open_clip([folder / name], decord=True, lengths={})
        values = np.stack([row for (row,) in clip.frames(np.arange(clip.length))])
        found[f"table {name}: {values.dtype.kind}{values.dtype.itemsize} {values.shape}"] = digest(values)
    clip = open_clip([folder / "rows.npy", folder / "frames"], decord=True, lengths={})
    found["tables aligned on the first track"] = digest(np.stack([second for _, second in clip.frames(np.arange(clip.length))]))
    return found


def networks() -> dict[str, str]:
    """The weights into which batch norms are folded today."""
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1, bias=False), nn.BatchNorm2d(4)).eval()
    for number, values in enumerate(network.state_dict().values()):
        values.copy_(torch.arange(1, 1 + values.numel()).reshape(values.shape) % (11 + number) / 8 + 1)
    folded = weights.folded(network).state_dict().values()
    assert [values.numel() for values in folded] == [8 * 27, 8, 4 * 8, 4]
    return {"weights folded": digest(np.concatenate([values.numpy().ravel() for values in folded]))}


def numbers(folder: Path) -> dict[str, str | list[int]]:
    """All of these."""
    return {**pixels(folder), **tables(folder), **networks()}


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | list[int]]:
    return numbers(tmp_path_factory.mktemp("golden"))


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="FFmpeg turns YUV into RGB by other instructions here")
@pytest.mark.parametrize("step", json.loads(GOLDEN.read_text())["steps"] if GOLDEN.exists() else [])
def test_numbers_are_those_of_the_numbers_version(step: str, today: dict[str, str | list[int]]) -> None:
    golden = json.loads(GOLDEN.read_text())
    assert golden["numbers_version"] == NUMBERS_VERSION, "write the golden file anew: python -m tests.test_golden"
    assert today[step] == golden["steps"][step], f"{step!r} gives other numbers: raise NUMBERS_VERSION, then python -m tests.test_golden"


def test_the_golden_file_holds_every_step(today: dict[str, str | list[int]]) -> None:
    assert list(json.loads(GOLDEN.read_text())["steps"]) == list(today)


def test_both_decoders_give_the_golden_pixels(today: dict[str, str | list[int]]) -> None:
    for step in ("decoded", "aligned on the first track"):
        assert today[f"decord: {step}"] == today[f"pyav: {step}"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(json.dumps({"numbers_version": NUMBERS_VERSION, "steps": numbers(Path(folder))}, indent=1) + "\n")
