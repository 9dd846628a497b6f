"""Images of training clips are varied by (seed, epoch, id) alone, all of a clip alike; which rows a step sees comes from there too."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline import registry
from pipeline.learning.augment import generator_of
from pipeline.learning.backbones.backbone import glimpsed, spread, windows_of
from pipeline.learning.backbones.pixels import Pixels
from pipeline.types import Array, Extractor

OFF = {"crop": 0.0, "jitter": 0.0}


def clip(axes: str, frames: int = 3) -> Array:
    """The same smooth image in every frame."""
    image = np.add.outer(np.arange(0, 160, 8), np.arange(0, 80, 4)).astype(np.uint8)
    shape = {"HWC": (20, 20, 3), "CHW": (3, 20, 20)}[axes]
    one = np.broadcast_to(image[:, :, None] if axes == "HWC" else image, shape) + np.arange(3, dtype=np.uint8).reshape(
        (1, 1, 3) if axes == "HWC" else (3, 1, 1)
    )
    return np.stack([one] * frames).astype(np.uint8)


def varied(how: Pixels, items: Array, axes: str, *, seed: int = 0, epoch: int = 0, name: str = "a") -> Array:
    return how.altered(items, axes, generator_of(seed, epoch, name))


@pytest.mark.parametrize("axes", ["HWC", "CHW"])
def test_images_are_varied_by_seed_epoch_and_clip_alone(axes: str) -> None:
    how, items = Pixels(crop=0.3, jitter=0.3), clip(axes)
    first = varied(how, items, axes)
    assert (first.shape, first.dtype) == (items.shape, items.dtype)
    assert not (first == items).all()
    np.testing.assert_array_equal(varied(how, items, axes), first)
    for other in ({"seed": 1}, {"epoch": 1}, {"name": "b"}):
        assert not (varied(how, items, axes, **other) == first).all()


@pytest.mark.parametrize("axes", ["HWC", "CHW"])
def test_all_images_of_a_clip_change_alike(axes: str) -> None:
    found = varied(Pixels(crop=0.4, jitter=0.4, mirror=0.5, erase=0.9), clip(axes), axes)
    assert (found == found[:1]).all()


def test_radar_maps_stay_as_they_are_unless_it_is_asked() -> None:
    assert (varied(Pixels(), clip("CHW"), "CHW") == clip("CHW")).all()
    assert not (varied(Pixels(), clip("HWC"), "HWC") == clip("HWC")).all()
    assert not (varied(Pixels(crop=0.3), clip("CHW"), "CHW") == clip("CHW")).all()


@pytest.mark.parametrize("axes", ["HWC", "CHW"])
def test_a_mirror_turns_left_and_right_and_nothing_else(axes: str) -> None:
    found = varied(Pixels(**OFF, mirror=0.999), clip(axes), axes)
    np.testing.assert_array_equal(found, np.flip(clip(axes), 2 if axes == "HWC" else 3))
    assert Pixels().mirror == 0, "a mirrored sign may be another"


def test_a_covered_part_is_black_and_the_rest_stays() -> None:
    items = clip("HWC") + 1
    found = varied(Pixels(**OFF, erase=0.999), items, "HWC")
    covered = found == 0
    assert 0.01 < covered.mean() < 0.25
    assert (found[~covered] == items[~covered]).all()


def test_items_that_are_no_images_are_never_changed() -> None:
    items = np.arange(24).reshape(2, 3, 4).astype(np.uint8)
    assert varied(Pixels(crop=0.5, jitter=0.5, mirror=0.999, erase=0.999), items, "") is items


def stage(name: str, **fields: object) -> Extractor:
    made: Extractor = registry.create("stage", name, fields)
    return made


def test_a_step_sees_some_rows_and_of_windows_some_that_follow_one_another() -> None:
    resnet50, i3d = stage("resnet50"), stage("i3d", window=16, stride=8)
    for epoch in range(20):
        random = generator_of(0, epoch, "a")
        frames = glimpsed(resnet50, 30, 8, random)
        assert len(set(frames.tolist())) == 8
        assert (np.diff(frames) > 0).all()
        items = glimpsed(i3d, 64, 2, random)
        assert items[0] % 8 == 0
        assert (items == np.arange(items[0], items[0] + 24)).all()
        assert len(windows_of(i3d, len(items))) == 2, "two rows of the clip, as the stage cuts them"
    assert glimpsed(resnet50, 5, 8, generator_of(0, 0, "a")).tolist() == [0, 1, 2, 3, 4]


def test_where_a_clip_scores_its_rows_are_spread_over_it() -> None:
    assert spread(stage("resnet50"), 30, 4)[:, 0].tolist() == [0, 9, 19, 29]
    assert spread(stage("i3d", window=16, stride=8), 64, 2)[:, 0].tolist() == [0, 48]
    assert spread(stage("resnet50"), 0, 4).shape == (0, 1)
