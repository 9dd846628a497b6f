"""The micro-gesture system's head on maps: as its source has it, a clip's score from its frames."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from models.frame_cnn import FrameCnn
from pipeline.errors import UserError
from pipeline.testing.models import batch_of, built, with_padding

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
