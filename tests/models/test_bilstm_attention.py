"""Insignia's BiLSTM with attention: as its source has it, and the ensemble's form of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models._pooling import Pooling
from models._recurrent import BiLstm
from models.bilstm_attention import BilstmAttention
from pipeline.data.batch import Batch
from pipeline.testing.models import batch_of, with_padding

torch.set_num_threads(1)


def parameters(module: nn.Module) -> int:
    return sum(values.numel() for values in module.parameters())


def test_it_has_the_sources_1871769_parameters_at_1662_values_and_24_classes() -> None:
    assert parameters(BilstmAttention().build({"holistic": 1662}, 24)) == 1_871_769


def test_it_has_the_sources_training() -> None:
    recipe = BilstmAttention()
    assert (recipe.stages, recipe.hidden, recipe.layers, recipe.dropout, recipe.zoneout) == (("holistic",), 128, 1, 0.4, 0.0)
    assert (recipe.optimizer, recipe.lr, recipe.weight_decay) == ("adamw", 3e-4, 2e-4)
    assert (recipe.schedule, recipe.warmup, recipe.best_by, recipe.min_improvement) == ("cosine", 8, "loss", 1e-4)
    assert (recipe.normalize, recipe.frames, recipe.label_smoothing, recipe.clip_norm) == ("none", 0, 0.0, 0.0)


def test_its_logits_are_those_of_the_sources_formula() -> None:
    torch.manual_seed(0)
    module = BilstmAttention(hidden=8).build({"holistic": 5}, 3).eval()
    lstm = module.get_submodule("lstm").get_submodule("lstm.0")
    rows = torch.randn(2, 6, 5)
    batch = Batch(("a", "b"), {"holistic": rows}, {"holistic": torch.tensor([6, 6])}, torch.zeros(2))
    with torch.inference_mode():
        states, _ = lstm(rows)
        weights = module.get_submodule("pooling").get_submodule("score")(states).squeeze(-1).softmax(1)
        pooled = (states * weights.unsqueeze(-1)).sum(1)
        expected = module.get_submodule("head")(module.get_submodule("norm")(pooled))
        torch.testing.assert_close(module(batch), expected)


@pytest.mark.parametrize("pooling", ["linear", "query", "mean"])
def test_attention_sums_to_one_over_real_steps_and_is_zero_beyond(pooling: str) -> None:
    recipe = BilstmAttention(hidden=4, pooling=pooling)
    module = recipe.build({"holistic": 4}, 3).eval()
    batch = with_padding(batch_of(recipe, [5, 1, 9, 0]), float("nan"))
    weights = module.attention(batch)  # type: ignore[operator]
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    for row, length in zip(weights, [5, 1, 9, 1], strict=True):
        assert not row[length:].any()


def test_the_ensembles_form_is_a_set_of_fields() -> None:
    recipe = BilstmAttention(hidden=256, layers=2, zoneout=0.1, pooling="query")
    module = recipe.build({"holistic": 489}, 50)
    layers = [4 * 256 * (width + 256 + 2) * 2 for width in (489, 512)]
    assert parameters(module) == sum(layers) + 512 + 2 * 512 + (512 * 256 + 256) + (256 * 50 + 50)


def test_the_lstm_step_by_step_is_torchs_where_nothing_is_kept() -> None:
    torch.manual_seed(0)
    packed = BiLstm(5, 4, 2)
    stepped = BiLstm(5, 4, 2, zoneout=1e-12)
    stepped.load_state_dict(packed.state_dict())
    rows, lengths = torch.randn(3, 7, 5), torch.tensor([7, 1, 4])
    rows = rows * (torch.arange(7) < lengths[:, None])[:, :, None]
    torch.testing.assert_close(stepped(rows, lengths), packed(rows, lengths))
    torch.testing.assert_close(stepped.eval()(rows, lengths), packed(rows, lengths))


def test_zoneout_keeps_this_share_of_the_state_while_training_and_mixes_it_afterwards() -> None:
    torch.manual_seed(0)
    lstm = BiLstm(5, 500, zoneout=0.3)
    rows, lengths = torch.randn(1, 2, 5), torch.tensor([2])
    kept = (lstm(rows, lengths)[0, :, :500].diff(dim=0) == 0).float().mean()
    assert 0.2 < float(kept) < 0.4
    before, after = torch.zeros(3), torch.ones(3)
    torch.testing.assert_close(lstm.eval()._zone(before, after), torch.full((3,), 0.7))


def test_the_greatest_of_a_clip_is_taken_over_its_real_rows() -> None:
    rows = torch.tensor([[[-3.0], [-2.0], [9.0]]])
    assert Pooling("max", 1)(rows, torch.tensor([[True, True, False]])).item() == -2
