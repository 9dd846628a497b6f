"""The radar network is the source's: 4,800 parameters, shared by three receivers in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import registry
from pipeline.corpus.media import stat_of
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.types import Array, Extractor
from stages import radar_cnn
from tests.video_files import coloured, write_clip


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def stage(**fields: Any) -> Extractor:
    made: Extractor = registry.create("stage", "radar_cnn", fields)
    return made


def rows(maps: Array, **fields: Any) -> Array:
    forward = stage(**fields).load("cpu")
    assert forward is not None
    with torch.inference_mode():
        values: Array = forward(torch.from_numpy(maps)).numpy()
    return values


@pytest.fixture
def maps() -> Array:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), np.uint8)


def test_the_network_has_4800_parameters_and_gives_96_values(maps: Array) -> None:
    assert sum(values.numel() for values in radar_cnn._network().parameters()) == 4800
    assert rows(maps).shape == (2, 96)
    assert stage().row_shape == (96,)


def test_rows_are_those_of_the_sources_network_built_plainly(maps: Array) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.Conv2d(16, 32, 3, padding=1)
    expected = []
    with torch.no_grad():
        for receiver in range(3):
            image = torch.from_numpy(maps[0, receiver]).float()[None, None] / 255
            hidden = torch.nn.functional.max_pool2d(torch.relu(first(image)), 2)
            expected.append(torch.relu(second(hidden)).mean(dim=(2, 3))[0].numpy())
    np.testing.assert_allclose(rows(maps, weights="random:5")[0], np.concatenate(expected), rtol=1e-4, atol=1e-6)


def test_receivers_share_weights_and_keep_their_order(maps: Array) -> None:
    values, swapped = rows(maps).reshape(2, 3, 32), rows(maps[:, [1, 0, 2]]).reshape(2, 3, 32)
    np.testing.assert_allclose(swapped, values[:, [1, 0, 2]], rtol=1e-5, atol=1e-7)
    assert not np.allclose(values[:, 0], values[:, 1])


def test_items_are_gray_maps_taken_by_the_nearest_pixel() -> None:
    frame = tuple(np.random.default_rng(seed).integers(0, 256, (25, 102, 3), np.uint8) for seed in range(3))
    (item,) = stage(resize=(16, 40)).prepare(iter([frame]))
    assert item.shape == (3, 16, 40)
    assert item.dtype == np.uint8
    for image, got in zip(frame, item, strict=True):
        luma = torch.from_numpy(image.astype(np.float64) @ np.array([0.299, 0.587, 0.114]))[None, None]
        expected = torch.nn.functional.interpolate(luma, (16, 40), mode="nearest")[0, 0].numpy()
        assert np.abs(got - expected).max() <= 0.51


def test_weights_of_a_file_are_read(tmp_path: Path, maps: Array) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(9)
        torch.save(radar_cnn._network().state_dict(), tmp_path / "radar.pth")
    np.testing.assert_array_equal(rows(maps, weights=str(tmp_path / "radar.pth")), rows(maps, weights="random:9"))


def prepared(folder: Path, *paths: Path, **fields: Any) -> Prepared:
    (folder / "spool").mkdir()
    return prepare_clip(Job(0, "clip", {"radar_cnn": stage(**fields)}, folder / "spool", stat_of(paths), 60.0, paths))


def receivers(folder: Path, *lengths: int) -> list[Path]:
    return [write_clip(folder / f"S_RDM{i + 1}.mp4", count, draw=coloured) for i, count in enumerate(lengths)]


def test_a_missing_receiver_fails_the_clip_with_its_name(tmp_path: Path) -> None:
    paths = receivers(tmp_path, 8, 8, 8)
    paths[1].unlink()
    assert prepared(tmp_path, *paths).failures == {"radar_cnn": "S_RDM2.mp4 is missing"}


def test_two_receivers_are_not_three(tmp_path: Path) -> None:
    found = prepared(tmp_path, *receivers(tmp_path, 8, 8))
    assert found.failures == {"radar_cnn": "2 radar tracks where 3 receivers are expected"}


def test_receivers_of_other_lengths_are_aligned_and_recorded(tmp_path: Path) -> None:
    found = prepared(tmp_path, *receivers(tmp_path, 40, 20, 41), max_frames=30, resize=(16, 16))
    assert found.failures == {}
    assert found.tracks == (40, 20, 41)
    items = found.items["radar_cnn"][:]
    assert items.shape == (30, 3, 16, 16)
    np.testing.assert_array_equal(items[0, 0], items[0, 1])
