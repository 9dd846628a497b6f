"""Optical flow of frames, and I3D on it: what moves is found, bytes mean pixels, and the second stream is I3D with two channels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import ClipError, UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array
from stages import _i3d
from stages.flow import Flow
from stages.i3d_flow import I3DFlow
from tests.stages.test_i3d import Reference, assert_near
from tests.video_files import coloured, write_clip

METHODS = ("tvl1", "farneback", "dis")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stage(name: str = "flow", **fields: Any) -> Any:
    return registry.create("stage", name, fields)


def moving(steps: list[tuple[int, int]], side: int = 64) -> list[Array]:
    """A smooth texture seen through a window that moves: the picture goes the other way by (x, y) pixels a frame."""
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (160, 160, 3), np.uint8))
    texture = np.asarray(noise.filter(ImageFilter.GaussianBlur(2)))
    texture = np.clip((texture.astype(float) - 127) * 4 + 127, 0, 255).astype(np.uint8)
    x, y, images = 40, 40, []
    for dx, dy in [(0, 0), *steps]:
        x, y = x - dx, y - dy
        images.append(np.ascontiguousarray(texture[y : y + side, x : x + side]))
    return images


def rows(images: list[Array], **fields: Any) -> Array:
    made = stage(**{"short_side": 64, "side": 48, **fields})
    assert isinstance(made, Flow)
    return np.stack(list(made.prepare((image,) for image in images)))


@pytest.mark.parametrize("method", METHODS)
def test_bytes_are_the_pixels_that_each_place_moves_x_then_y(method: str) -> None:
    found = rows(moving([(3, 0), (0, -2)]), method=method)
    assert (found.shape, found.dtype.name) == ((3, 48, 48, 2), "uint8")
    pixels = np.median(found.astype(float) / 255 * 40 - 20, axis=(1, 2))
    np.testing.assert_allclose(pixels, [[3, 0], [0, -2], [0, -2]], atol=0.3)


def test_flow_is_cut_at_the_bound_and_i3d_reads_it_from_minus_1_to_1() -> None:
    still, fast = rows(moving([(0, 0)]), method="dis"), rows(moving([(3, -3)]), method="dis", bound=1.0)
    assert (still == 128).all()
    assert (fast[:, 16:32, 16:32] == [255, 0]).all()
    scaled = fast[0, 20, 20].astype(float) * 2 / 255 - 1
    assert scaled.tolist() == [1, -1]


def test_one_frame_has_no_motion_and_none_has_no_rows() -> None:
    assert (rows(moving([])) == 128).all()
    assert list(stage().prepare(iter([]))) == []


def test_frames_are_those_that_i3d_chooses() -> None:
    for fields in ({}, {"rate_hz": 0.0}, {"frames": 24}):
        for length, rate in ((1, 0.0), (7, 12.5), (70, 29.97), (100, 60.0)):
            assert stage(**fields).select(length, rate).tolist() == stage("i3d", **fields).select(length, rate).tolist()


def test_the_flow_of_a_clip_does_not_depend_on_threads_or_the_clip_before() -> None:
    import cv2

    made = stage(short_side=64, side=48, method="dis")
    alone = np.stack(list(made.prepare((image,) for image in moving([(1, 2), (2, 2)]))))
    cv2.setNumThreads(4)
    list(made.prepare((image,) for image in moving([(-3, 0)])))
    np.testing.assert_array_equal(np.stack(list(made.prepare((image,) for image in moving([(1, 2), (2, 2)])))), alone)


def test_the_second_stream_is_i3d_with_two_channels(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        network = _i3d.plain(classes=6, channels=2)
    assert network.get_parameter("Conv3d_1a_7x7.conv3d.weight").shape == (64, 2, 7, 7, 7)
    torch.save(network.state_dict(), tmp_path / "flow.pt")
    made = stage("i3d_flow", weights=str(tmp_path / "flow.pt"), window=9)
    assert isinstance(made, I3DFlow)
    window = np.random.default_rng(2).integers(0, 256, (9, 193, 193, 2), np.uint8)
    with torch.inference_mode():
        row = made.load("cpu")(torch.from_numpy(window[None])).numpy()[0]
    assert_near(row, Reference(dict(network.state_dict()), 1e-3).row(window))


def test_weights_of_the_other_stream_are_one_line(tmp_path: Path) -> None:
    torch.save(_i3d.plain(classes=6).state_dict(), tmp_path / "rgb.pt")
    with pytest.raises(UserError, match=r"do not fit InceptionI3D: .*size mismatch for Conv3d_1a_7x7\.conv3d\.weight"):
        stage("i3d_flow", weights=str(tmp_path / "rgb.pt")).load("cpu")


@pytest.mark.parametrize("shape", [(193, 193, 2), (224, 224, 3), (1024,)])
def test_rows_that_are_no_flow_fail_their_clip(shape: tuple[int, ...]) -> None:
    said = "x".join(map(str, shape))
    with pytest.raises(ClipError, match=rf"its rows are {said}, where flow of 224x224x2 is expected; give i3d_flow and flow the same side"):
        list(stage("i3d_flow").prepare(iter([(np.zeros(shape, np.uint8),)])))


def test_a_side_that_cannot_be_cut_is_one_line() -> None:
    with pytest.raises(UserError, match=r"stage 'flow': side=224 cannot be cut from short_side=200; give a larger short_side"):
        stage(short_side=200)


def test_flow_is_cached_and_the_second_stream_derives_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 1)
    write_clip(tmp_path / "data/a/one.mp4", 6, size=(64, 48), rate=30, draw=coloured)
    write_clip(tmp_path / "data/b/two.mp4", 3, size=(64, 48), rate=30, draw=coloured)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "small", corpus="folder", root=tmp_path / "data")
    now = {"method": "dis", "short_side": "194", "side": "193", "frames": "4"}
    flow = configure(home, table, "flow", now=now)
    stream = configure(home, table, "i3d_flow", now={"window": "9", "stride": "9", "side": "193"}, known={"flow": flow})
    outcome = extract(home, table, [flow, stream], Options(device="cpu"), Progress())
    assert (outcome.extracted, outcome.failed) == ({"flow": 2, "i3d_flow": 2}, {})
    maps, features = (open_stage("small", name, cache=home.cache, manifests=home.manifests) for name in ("flow", "i3d_flow"))
    assert maps["a/one"].shape == (4, 193, 193, 2)
    windows = np.stack(list(stream.extractor.prepare((row,) for row in maps["b/two"])))
    assert windows.shape[0] == 9
    assert (windows[4:] == windows[3]).all()
    with torch.inference_mode():
        wanted = stream.extractor.load("cpu")(torch.from_numpy(windows[None])).numpy()  # type: ignore[misc]
    np.testing.assert_allclose(features["b/two"], wanted, atol=1e-6 * np.abs(wanted).max())
