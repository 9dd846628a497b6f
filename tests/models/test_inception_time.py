"""The sensor classifier of the self-learning fusion, layer by layer as its source builds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models._inception import Block, Shape, _padded
from models.inception_time import InceptionTime, fixed
from pipeline.testing.models import batch_of

torch.set_num_threads(1)


def test_it_has_the_sources_parameters_for_utd_mhad_and_for_vsl() -> None:
    first, block = 6 * 32 * 70 + 6 * 32 + 256, 128 * 32 + 32 * 32 * 70 + 128 * 32 + 256
    shortcuts = 6 * 128 + 256 + 128 * 128 + 256
    module = InceptionTime().build({"inertial": 6}, 27)
    assert sum(p.numel() for p in module.parameters()) == first + 5 * block + shortcuts + 129 * 27 == 435_675


def test_it_has_the_sources_training() -> None:
    recipe = InceptionTime()
    assert (recipe.optimizer, recipe.lr, recipe.batch_size, recipe.epochs, recipe.best_by) == ("adam", 1e-3, 8, 100, "top1")
    assert (recipe.steps, recipe.modules, recipe.bottleneck, recipe.kernel, recipe.average) == (180, 6, 32, 40, "all")
    assert (recipe.schedule, recipe.patience, recipe.weight_decay) == ("constant", 0, 0.0)


def test_a_bottleneck_is_only_where_there_is_something_to_narrow() -> None:
    assert isinstance(Block(32, Shape()).bottleneck, torch.nn.Identity)
    assert isinstance(Block(33, Shape()).bottleneck, torch.nn.Conv1d)
    assert Block(6, Shape()).kernels == [40, 20, 10]


@pytest.mark.parametrize(("kernel", "left", "right"), [(40, 19, 20), (20, 9, 10), (5, 2, 2), (1, 0, 0)])
def test_the_odd_zero_of_an_even_kernel_is_at_the_end_as_in_keras(kernel: int, left: int, right: int) -> None:
    padded = _padded(torch.ones(1, 1, 3), kernel)
    assert padded.flatten().tolist() == [0] * left + [1] * 3 + [0] * right


def test_its_feature_is_128_values() -> None:
    recipe = InceptionTime(steps=12)
    module = recipe.build({"inertial": 4}, 3).eval()
    assert module.features(batch_of(recipe, [5, 30])).shape == (2, 128)  # type: ignore[operator]


@given(length=st.integers(0, 400), steps=st.integers(1, 300))
def test_rows_are_the_sources_choice(length: int, steps: int) -> None:
    rows = np.arange(1, length + 1, dtype=np.float32)[:, None]
    if length < steps:
        expected = np.concatenate([rows, np.zeros((steps - length, 1), np.float32)])
    else:
        expected = rows[[int(step * length / steps) for step in range(steps)]]
    given_rows = torch.cat([torch.from_numpy(rows), torch.full((3, 1), -1.0)])[None]
    found, lengths = fixed(given_rows, torch.tensor([length]), steps)
    np.testing.assert_array_equal(found[0], expected)
    assert int(lengths) == min(length, steps)


def test_the_mean_counts_the_sources_zeros_unless_it_is_of_real_rows() -> None:
    torch.manual_seed(0)
    batch = batch_of(InceptionTime(), [6])
    found = {}
    for average in ("all", "real"):
        torch.manual_seed(0)
        module = InceptionTime(steps=24, average=average).build({"inertial": 4}, 3).eval()
        rows, _ = fixed(batch.features["inertial"], batch.lengths["inertial"], 24)
        maps = module.get_submodule("inception")(rows.transpose(1, 2))
        found[average] = module.features(batch), maps  # type: ignore[operator]
    torch.testing.assert_close(found["all"][0], found["all"][1].mean(2))
    torch.testing.assert_close(found["real"][0], found["real"][1][:, :, :6].mean(2))
