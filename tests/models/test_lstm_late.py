"""The LIS system's late fusion as its source has it, and what it may read otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from models._inputs import Inputs
from models._rows import within_clips
from models.lstm_late import LstmLate
from pipeline import registry
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.recipe import Recipe
from pipeline.testing.models import Rows
from tests.feature_cache import table_of

torch.set_num_threads(1)
DIMS = {"resnet50": 2048, "radar_cnn": 96}


def batch_of(recipe: Recipe, lengths: list[int], seed: int = 0) -> Batch:
    """Random clips of these lengths in every stage."""
    random = torch.Generator().manual_seed(seed)
    features = {}
    for stage in recipe.stages:
        features[stage] = torch.zeros(len(lengths), max(lengths), DIMS[stage])
        for rows, length in zip(features[stage], lengths, strict=True):
            rows[:length] = torch.randn(length, DIMS[stage], generator=random)
    each = {stage: torch.tensor(lengths) for stage in recipe.stages}
    return Batch(tuple(map(str, range(len(lengths)))), features, each, torch.zeros(len(lengths), dtype=torch.int64))


def built(recipe: Recipe, classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return recipe.build({stage: DIMS[stage] for stage in recipe.stages}, classes).eval()


def test_lstm_late_has_the_sources_7609470_parameters() -> None:
    module = LstmLate().build(DIMS, 126)
    assert sum(parameter.numel() for parameter in module.parameters()) == 7_609_470


def test_lstm_late_has_the_sources_settings() -> None:
    recipe = LstmLate()
    found = (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.dropout, recipe.weight_decay, recipe.normalize)
    assert found == ("adam", 1e-4, 64, 150, 0.3, 0.0, "none")
    assert (recipe.stages, recipe.hidden, recipe.layers, recipe.patience) == (("resnet50", "radar_cnn"), 512, 2, 0)


def test_lstm_late_equals_torchs_stacked_lstm_at_the_last_real_step() -> None:
    recipe = LstmLate(hidden=16)
    module = built(recipe)
    stacked = nn.LSTM(2144, 16, 2, batch_first=True, dropout=0.3).eval()
    for number, layer in enumerate(module.get_submodule("lstm").children()):
        for name, values in layer.named_parameters():
            stacked.get_parameter(name.replace("l0", f"l{number}")).data.copy_(values)
    batch = batch_of(recipe, [4, 1, 7])
    rows = torch.cat([batch.features[stage] for stage in recipe.stages], 2)
    packed = pack_padded_sequence(rows, batch.lengths["resnet50"], batch_first=True, enforce_sorted=False)
    with torch.inference_mode():
        expected = module.get_submodule("head")(stacked(packed)[1][0][-1])
        torch.testing.assert_close(module(batch), expected)


def test_normalize_train_takes_its_statistics_from_the_training_rows() -> None:
    table = table_of([3, 5, 0, 2], width=4)
    recipe = LstmLate(stages=("a",), normalize="train", hidden=4)
    module = recipe.build(table.dims, 2)
    recipe.prepare(module, table)
    rows = np.concatenate(list(table.stages["a"].values()))
    np.testing.assert_allclose(module.get_buffer("inputs.mean"), rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(module.get_buffer("inputs.deviation"), rows.std(0), rtol=1e-5)


def test_normalize_clip_gives_every_value_of_a_clip_mean_zero_and_deviation_one() -> None:
    rows = torch.randn(2, 9, 5) * torch.tensor([1.0, 10, 100, 1000, 0]) + 7
    lengths = torch.tensor([9, 4])
    rows[1, 4:] = float("nan")  # padding is never read
    normal = within_clips(rows, lengths)
    for clip, length in enumerate(lengths.tolist()):
        values = normal[clip, :length]
        torch.testing.assert_close(values.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(0, correction=0)[1:4], torch.ones(3), atol=0.1, rtol=0)
        assert not values[:, 4].any()
        assert not normal[clip, length:].any()


def test_motion_adds_to_each_row_its_difference_from_the_row_before() -> None:
    recipe = LstmLate(stages=("radar_cnn",), motion=3.0)
    inputs, batch = Inputs(recipe, DIMS), batch_of(recipe, [5, 1, 0])
    rows, _ = inputs(batch)
    assert rows.shape == (3, 5, inputs.width) == (3, 5, 2 * 96)
    given = batch.features["radar_cnn"]
    torch.testing.assert_close(rows[0, :, :96], given[0])
    torch.testing.assert_close(rows[0, 1:, 96:], 3 * (given[0, 1:] - given[0, :-1]))
    assert not rows[0, 0, 96:].any()
    assert not rows[1, 1:].any()  # nor is the end of a clip a movement
    assert not rows[2].any()


def test_feature_maps_are_refused_in_one_line() -> None:
    table = table_of([2, 2])
    table.stages = {"map": Rows({clip: np.zeros((2, 4, 7, 7), np.float32) for clip in table.ids}, (4, 7, 7))}  # type: ignore[dict-item]
    with pytest.raises(UserError, match="the rows of stage 'map' are 4x7x7, and this model takes vectors; choose other stages"):
        LstmLate(stages=("map",)).fit(table, table, "cpu")


@pytest.mark.parametrize(("field", "value"), [("lr", "0"), ("lr", "inf"), ("dropout", "1"), ("epochs", "0"), ("optimizer", "sgd")])
def test_a_setting_out_of_range_is_one_line_with_its_value(field: str, value: str) -> None:
    with pytest.raises(UserError, match=f"model 'lstm_late': {field}='{value}'"):
        registry.create("model", "lstm_late", {field: value})
