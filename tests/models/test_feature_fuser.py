"""The ensemble's fuser: attention beside a BiLSTM on what it gives."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.feature_fuser import FeatureFuser, Fuser
from pipeline.errors import UserError
from pipeline.testing.models import batch_of

torch.set_num_threads(1)


def test_it_has_what_the_source_states() -> None:
    recipe = FeatureFuser()
    assert (recipe.width, recipe.heads, recipe.hidden, recipe.frames) == (512, 8, 256, 64)
    module = recipe.build({"kinematics": 490}, 50)
    attention, lstm = 4 * 512 * 513, 2 * 4 * 256 * (512 + 256 + 2)
    assert sum(p.numel() for p in module.parameters()) == 491 * 512 + attention + lstm + 2 * 1024 + 1025 * 50


def test_its_rows_are_attention_and_torchs_bilstm_of_it_side_by_side() -> None:
    recipe = FeatureFuser(width=8, heads=2, hidden=3)
    torch.manual_seed(0)
    module = recipe.build({"kinematics": 4}, 3).eval()
    assert isinstance(module, Fuser)
    batch = batch_of(recipe, [6])
    with torch.inference_mode():
        rows = module.project(module.inputs(batch)[0])
        attended = module.attend(rows, rows, rows)[0]
        plain = nn.LSTM(8, 3, batch_first=True, bidirectional=True)
        plain.load_state_dict(module.lstm.lstm[0].state_dict())
        expected = torch.cat([attended, plain(attended)[0]], 2)
        torch.testing.assert_close(module.encoded(batch)[0], expected)
        torch.testing.assert_close(module(batch), module.head(expected.mean(1)))


def test_a_width_that_its_heads_cannot_share_is_one_line() -> None:
    with pytest.raises(UserError, match="model 'feature_fuser': width=100 is to be a multiple of heads=8"):
        FeatureFuser(width=100).build({"kinematics": 4}, 3)
