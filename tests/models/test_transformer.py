"""The ensemble's transformer: what its source states, and what is chosen here."""

from __future__ import annotations

import pytest
import torch

from models._encoder import places
from models._rows import thinned
from models.transformer import Transformer
from pipeline.errors import UserError
from pipeline.testing.models import batch_of, with_padding

torch.set_num_threads(1)


def test_it_has_what_the_source_states() -> None:
    recipe = Transformer()
    assert (recipe.layers, recipe.width, recipe.heads, recipe.dropout, recipe.frames) == (6, 256, 8, 0.2, 64)
    assert (recipe.lr, recipe.accumulate, recipe.patience) == (1e-4, 4, 15)


def test_what_the_source_does_not_state_is_chosen_and_said() -> None:
    recipe = Transformer()
    assert (recipe.feed_forward, recipe.pooling, recipe.hybrid) == (1024, "mean", "none")
    assert (recipe.optimizer, recipe.weight_decay, recipe.schedule, recipe.epochs) == ("adamw", 0.01, "plateau", 50)
    assert recipe.batch_size * recipe.accumulate == 128
    assert "Not stated, so chosen here" in str(Transformer.__doc__)


def test_its_parameters_are_those_of_torchs_encoder() -> None:
    layer = 3 * 256 * 257 + 256 * 257 + (256 * 1024 + 1024) + (1024 * 256 + 256) + 4 * 256
    assert sum(p.numel() for p in Transformer().build({"kinematics": 489}, 50).parameters()) == 490 * 256 + 6 * layer + 512 + 257 * 50


def test_the_hybrid_has_a_bilstm_on_top() -> None:
    recipe = Transformer(layers=1, width=8, heads=2, feed_forward=8, hybrid="bilstm", lstm_hidden=3)
    module = recipe.build({"kinematics": 4}, 3).eval()
    assert module.get_submodule("head").in_features == 6
    batch = batch_of(recipe, [5, 0, 9])
    with torch.inference_mode():
        torch.testing.assert_close(module(with_padding(batch, float("nan"))), module(batch), rtol=1e-5, atol=1e-6)


def test_longer_clips_give_64_rows_from_the_first_to_the_last() -> None:
    rows = torch.arange(200.0)[None, :, None].repeat(3, 1, 1)
    found, lengths = thinned(rows, torch.tensor([200, 64, 10]), 64)
    assert found.shape == (3, 64, 1)
    assert lengths.tolist() == [64, 64, 10]
    assert (found[0, 0, 0].item(), found[0, -1, 0].item()) == (0, 199)
    assert set(found[0, :, 0].diff().tolist()) == {3, 4}
    assert found[1, :, 0].tolist() == list(range(64))
    assert found[2, :10, 0].tolist() == list(range(10))


def test_places_are_sines_and_cosines_of_the_step() -> None:
    found = places(torch.arange(50), 16)
    assert found.shape == (50, 16)
    torch.testing.assert_close(found[:, 0], torch.arange(50).sin())
    torch.testing.assert_close(found[:, 15], (torch.arange(50) / 10_000 ** (14 / 16)).cos())


def test_a_width_that_its_heads_cannot_share_is_one_line() -> None:
    with pytest.raises(UserError, match="model 'transformer': width=250 is to be even and a multiple of heads=8"):
        Transformer(width=250).build({"kinematics": 4}, 3)


def test_learned_places_start_as_the_fixed_ones_and_are_trained() -> None:
    recipe = Transformer(layers=1, width=8, heads=2, feed_forward=8, dropout=0.0, positions="learned", frames=12)
    batch = batch_of(recipe, [5, 20])
    torch.manual_seed(0)
    learned = recipe.build({"kinematics": 4}, 3).eval()
    torch.manual_seed(0)
    fixed = recipe.model_copy(update={"positions": "sinusoidal"}).build({"kinematics": 4}, 3).eval()
    torch.testing.assert_close(learned(batch), fixed(batch))
    torch.autograd.backward(learned(batch).sum())
    gradient = learned.get_parameter("places").grad
    assert gradient is not None
    assert gradient.shape == (12, 8)
    assert gradient.any()
    with pytest.raises(UserError, match="positions=learned has one for each of frames=N steps; set frames, as in frames=64"):
        Transformer(positions="learned", frames=0).build({"kinematics": 4}, 3)
