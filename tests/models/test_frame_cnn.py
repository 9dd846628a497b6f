"""The micro-gesture system's head on maps: as its source has it, a clip's score from its frames."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models._varied import moved
from models.frame_cnn import FrameCnn
from pipeline.errors import UserError
from pipeline.testing.models import batch_of, built, table_of, with_padding
from pipeline.types import Array

torch.set_num_threads(1)


def test_it_has_the_sources_18910240_parameters_for_32_classes() -> None:
    with torch.device("meta"):
        module = FrameCnn().build({"resnet50_map": 2048 * 7 * 7}, 32)
    assert sum(p.numel() for p in module.parameters()) == 18_910_240


def test_it_has_the_sources_training() -> None:
    recipe = FrameCnn()
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.patience) == ("adam", 1e-3, 32, 20, 3)
    assert (recipe.best_by, recipe.min_improvement, recipe.class_weights, recipe.focal_gamma) == ("loss", 0.0, "none", 0.0)


def test_a_clips_score_is_the_mean_of_its_real_frames() -> None:
    recipe = FrameCnn(channels=4)
    module, batch = built(recipe).eval(), batch_of(recipe, [3, 1, 2])
    every = module.get_submodule("head")(
        module.get_submodule("norm")(module.get_submodule("conv")(batch.features["resnet50_map"].flatten(0, 1))).relu().mean((2, 3))
    ).view(3, 3, 3)
    for clip, length in enumerate([3, 1, 2]):
        torch.testing.assert_close(module(batch)[clip], every[clip, :length].mean(0))
    of_shares = built(FrameCnn(channels=4, score="probabilities")).eval()(batch)
    torch.testing.assert_close(of_shares[0].exp(), every[0].softmax(1).mean(0))


def test_the_loss_in_training_is_that_of_the_frames_every_clip_counting_the_same() -> None:
    recipe = FrameCnn(channels=4)
    module, batch = built(recipe).train(), batch_of(recipe, [3, 0, 2])
    frames = module(batch)
    found = recipe.losses(frames, batch)
    torch.testing.assert_close(found[0], cross_entropy(frames[0], batch.labels[0].expand(3)))
    torch.testing.assert_close(found[2], cross_entropy(frames[2, :2], batch.labels[2].expand(2)))
    assert found[1] == 0


def test_padding_enters_no_statistics_of_the_batch_norm() -> None:
    recipe = FrameCnn(channels=4)
    module, batch = built(recipe).train(), batch_of(recipe, [3, 1])
    maps = torch.cat([batch.features["resnet50_map"][0], batch.features["resnet50_map"][1, :1]])
    expected = 0.1 * module.get_submodule("conv")(maps).mean((0, 2, 3))
    module(with_padding(batch, float("nan")))
    torch.testing.assert_close(module.get_buffer("norm.running_mean"), expected)


def test_pooled_features_are_refused_with_the_line_that_makes_maps() -> None:
    with pytest.raises(UserError, match=r"the rows of stage 'resnet50' are no maps of 7x7: extract resnet50 with --as resnet50_map"):
        FrameCnn(stages=("resnet50",)).build({"resnet50": 2048}, 3)
    with pytest.raises(UserError, match="model 'frame_cnn' reads one stage of maps, not a,b"):
        FrameCnn(stages=("a", "b")).build({"a": 49, "b": 49}, 3)


def maps_of(frames: int) -> Array:
    """Maps that tell their frame, channel and place."""
    return np.arange(frames * 2 * 7 * 7, dtype=np.float32).reshape(frames, 2, 7, 7) + 1


def changed(recipe: FrameCnn, maps: Array, epoch: int = 0, clip: str = "clip0") -> Array:
    change = recipe.change(table_of(recipe, [len(maps)]), epoch)
    assert change is not None
    return change(clip, {"resnet50_map": maps})["resnet50_map"]


def test_maps_are_varied_in_time_by_whole_frames_from_seed_epoch_and_id() -> None:
    recipe = FrameCnn(time_warp=0.5, crop=0.3, resample=0.4, frame_drop=0.2)
    maps, found = maps_of(20), {}
    for epoch in range(5):
        found[epoch] = changed(recipe, maps, epoch)
        frames = [int(np.flatnonzero((maps == one).all((1, 2, 3)))[0]) for one in found[epoch]]
        assert frames == sorted(frames), "time goes on, and each frame is one of the clip"
        np.testing.assert_array_equal(found[epoch], changed(recipe, maps, epoch))
    assert len({values.tobytes() for values in found.values()}) == 5
    assert not np.array_equal(found[0], changed(recipe, maps, 0, clip="clip1"))


def test_all_maps_of_a_clip_are_mirrored_and_moved_alike() -> None:
    maps, found = maps_of(4), set()
    for epoch in range(40):
        varied = changed(FrameCnn(map_mirror=0.5, map_shift=2), maps, epoch)
        ways = [
            (is_mirrored, down, right)
            for is_mirrored in (False, True)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if np.array_equal(varied, plainly_moved(maps[..., ::-1] if is_mirrored else maps, down, right))
        ]
        assert len(ways) == 1, "one way for all frames and channels"
        found |= set(ways)
    assert len(found) > 20
    assert {is_mirrored for is_mirrored, _, _ in found} == {False, True}


def plainly_moved(maps: Array, down: int, right: int) -> Array:
    wide = np.pad(maps, ((0, 0), (0, 0), (2, 2), (2, 2)))
    return wide[:, :, 2 - down : 9 - down, 2 - right : 9 - right]


def test_maps_that_move_further_than_they_are_wide_are_zero() -> None:
    assert not moved(maps_of(1), 9, 0).any()
    assert not moved(maps_of(1), 0, -9).any()


def test_what_varies_maps_is_off_by_default_and_what_bodies_take_is_refused() -> None:
    recipe = FrameCnn(channels=4)
    assert recipe.change(table_of(recipe, [3]), 0) is None
    text = r"rows of stage 'resnet50_map' cannot take mirror=0.5 \(they are no points that it knows\); leave it out: --set mirror=0"
    with pytest.raises(UserError, match=text):
        FrameCnn(mirror=0.5).check({"resnet50_map": None})


def test_it_learns_from_blended_and_varied_maps_and_scores_the_clips_as_they_are() -> None:
    recipe = FrameCnn(channels=16, epochs=20, lr=1e-2, time_warp=0.3, frame_drop=0.2, mixup=0.2, map_mirror=0.1, batch_size=4, patience=0)
    train, val = table_of(recipe, [4, 5, 6] * 4), table_of(recipe, [3, 4, 5], seed=1)
    predictor = recipe.fit(train, val, "cpu")
    scores = val.each(predictor.logits)
    assert (scores.argmax(1) == val.labels).all()
    np.testing.assert_array_equal(scores, val.each(predictor.logits))
