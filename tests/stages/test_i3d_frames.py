"""Which frames I3D takes, how they are cut, and the windows they are read in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pipeline import registry
from pipeline.types import Array
from tests.stages.test_i3d import frames, stage


@pytest.mark.parametrize("source_hz", [12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0])
def test_frames_are_the_nearest_in_time(source_hz: float) -> None:
    for length in (1, 2, 17, 100):
        wanted = stage().select(length, source_hz)
        times = np.arange(length) / source_hz
        for instant, index in enumerate(wanted):
            distances = np.abs(times - instant / 25)
            assert distances[index] <= distances.min() + 1e-9
        following = len(wanted) / 25
        assert following >= times[-1] + 0.5 / source_hz - 1e-9, "one more instant would still have a frame"


def test_rates_that_are_unknown_or_not_wanted_keep_every_frame() -> None:
    assert stage().select(40, 0.0).tolist() == stage(rate_hz=0).select(40, 30.0).tolist() == list(range(40))
    assert stage().select(6, 50.0).tolist() == [0, 2, 4]
    assert stage().select(3, 12.5).tolist() == [0, 1, 1, 2, 2]


def test_a_fixed_number_of_frames_is_the_fusion_systems_rule() -> None:
    made = stage(frames=24, window=24)
    for length in range(1, 200):
        assert made.select(length, 30.0).tolist() == [int(i * length / 24) for i in range(24)]
    assert list(made.rows(24)) == [slice(0, 24)]


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (225, 224), (1920, 1080), (100, 301), (300, 300)])
def test_items_are_the_centre_of_the_shrunk_frame(size: tuple[int, int]) -> None:
    width, height = size
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    item = next(stage().prepare(iter([(image,)])))
    short = min(size)
    small = Image.fromarray(image).resize((int(width * 256 / short), int(height * 256 / short)), Image.Resampling.BILINEAR)
    left, top = (small.width - 224) // 2, (small.height - 224) // 2
    np.testing.assert_array_equal(item, np.asarray(small.crop((left, top, left + 224, top + 224))))


def test_frames_of_the_size_that_it_takes_are_taken_whole() -> None:
    corpus = registry.create("dataset", "vsl").stages["i3d"]
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    np.testing.assert_array_equal(next(stage(**corpus).prepare(iter([(image,)]))), image)
    assert stage(**corpus).pool == 3


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_short_clips_repeat_their_last_frame_and_tails_are_dropped(count: int) -> None:
    images = frames(count, 256)
    items = np.stack(list(stage().prepare((image,) for image in images)))
    assert len(items) == max(count, 16)
    np.testing.assert_array_equal(items[:count], images[:, 16:240, 16:240])
    assert (items[count:] == items[count - 1]).all()
    windows = list(stage().rows(len(items)))
    assert [(window.start, window.stop) for window in windows] == [(start, start + 16) for start in range(0, len(items) - 15, 8)]
    assert windows, "a clip with frames has a row"


def test_items_come_one_by_one_however_long_the_clip() -> None:
    taken = 0

    def endless() -> Iterator[tuple[Array, ...]]:
        nonlocal taken
        while True:
            taken += 1
            yield (np.zeros((256, 256, 3), np.uint8),)

    items = stage().prepare(endless())
    for number in range(100):
        next(items)
        assert taken == number + 1
    assert len(stage().rows(15_000)) == 1874
