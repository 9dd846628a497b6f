"""Convolutions with transformer blocks between: what is described of it, its pieces beside torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from models._convolution import CausalConvolution, ChannelAttention, ConvolutionBlock
from models._encoder import encoder_layers, through
from models._masked_norm import OwnNorm
from models._rows import real
from models.conv_transformer import ConvTransformer
from pipeline.errors import UserError
from pipeline.testing.models import batch_of, table_of

torch.set_num_threads(1)
LENGTHS = torch.tensor([5, 1, 9])


def rows_of(channels: int = 6) -> tuple[Tensor, Tensor]:
    """`(3, 9, C)` and which rows are a clip's own; padding is no number."""
    rows, own = torch.randn(3, 9, channels, generator=torch.Generator().manual_seed(0)), real(LENGTHS, 9)
    return rows.masked_fill(~own[:, :, None], torch.nan), own


def parameters(**fields: Any) -> int:
    recipe = ConvTransformer.model_validate({"stages": ("a",), **fields})
    return sum(values.numel() for values in recipe.build({"a": 60}, 27).parameters())


def test_it_has_what_is_described() -> None:
    recipe = ConvTransformer()
    assert (recipe.width, recipe.layers, recipe.kernel, recipe.drop_path, recipe.dropout) == (192, 2, 17, 0.2, 0.8)
    assert (recipe.awp, recipe.awp_from, recipe.dropout_from, recipe.label_smoothing, recipe.epochs) == (0.2, 15, 15, 0.1, 300)
    assert recipe.motion
    assert recipe.motion_two


def test_parameters_are_those_of_its_blocks() -> None:
    width, classes = 96, 27
    block = (width + 1) * 2 * width + 17 * 2 * width + 2 * 2 * width + 5 + (2 * width + 1) * width
    layer = 4 * width * (width + 1) + (width + 1) * 2 * width + (2 * width + 1) * width + 4 * width
    ends = 180 * width + 2 * width + (width + 1) * 2 * width + (2 * width + 1) * classes
    assert parameters(width=96) == 6 * block + 2 * layer + ends == 435_705
    assert parameters() > 1_500_000


def test_a_row_is_convolved_with_those_before_it_alone() -> None:
    torch.manual_seed(0)
    convolution, rows = CausalConvolution(6, 4), torch.randn(2, 12, 6)
    before = convolution(rows)
    for place in range(12):
        changed = rows.clone()
        changed[:, place:] += 1
        torch.testing.assert_close(convolution(changed)[:, :place], before[:, :place])
        assert (convolution(changed)[:, place] != before[:, place]).all()
    weights = convolution.weight[:, 0]  # the last weight is that of the row itself
    expected = sum(weights[:, 3 - back] * rows[:, 11 - back] for back in range(4))
    torch.testing.assert_close(before[:, 11], expected)


def test_channels_are_weighed_by_the_mean_of_a_clips_own_rows() -> None:
    torch.manual_seed(0)
    attention, (rows, own) = ChannelAttention(), rows_of()
    found = attention(rows, own)
    kernel = attention.weigh.weight[0, 0]
    for clip, length in enumerate(LENGTHS.tolist()):
        mean = nn.functional.pad(rows[clip, :length].mean(0), (2, 2))
        shares = torch.stack([(mean[channel : channel + 5] * kernel).sum() for channel in range(6)]).sigmoid()
        torch.testing.assert_close(found[clip, :length], rows[clip, :length] * shares)


@pytest.mark.parametrize("shape", [(), (4,)], ids=["rows", "joints"])
def test_batch_norm_of_padded_clips_is_torchs_of_their_own_rows(shape: tuple[int, ...]) -> None:
    own = real(LENGTHS, 9)
    rows = 3 * torch.randn(3, 9, *shape, 6, generator=torch.Generator().manual_seed(1)) + 2
    rows[~own] = torch.nan
    norm, plain = OwnNorm(6), nn.BatchNorm1d(6)
    for _ in range(3):
        found, expected = norm(rows, own), plain(rows[own].reshape(-1, 6))
        torch.testing.assert_close(found[own].reshape(-1, 6), expected)
        assert not found[~own].any()
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    torch.testing.assert_close(norm.eval()(rows, own)[own].reshape(-1, 6), plain.eval()(rows[own].reshape(-1, 6)))


def test_one_row_alone_is_normalised_by_the_running_statistics() -> None:
    norm, own = OwnNorm(6), real(torch.tensor([1]), 2)
    norm(*rows_of())
    mean, deviation = norm.get_buffer("running_mean").clone(), (norm.get_buffer("running_var") + norm.eps).sqrt()
    rows = torch.randn(1, 2, 6)
    torch.testing.assert_close(norm(rows, own)[0, 0], (rows[0, 0] - mean) / deviation)
    torch.testing.assert_close(norm.running_mean, mean)
    assert norm.training


def test_a_block_adds_all_it_computes_to_a_clip_or_nothing() -> None:
    torch.manual_seed(0)
    block, (rows, own) = ConvolutionBlock(6, 4, 0.4), rows_of()
    rows = rows.nan_to_num()
    kept = block.eval()(rows, own) - rows
    wide = block.norm(block.convolve(silu(block.widen(rows))), own)
    torch.testing.assert_close(kept, block.narrow(block.attend(wide, own)))
    block.drop.train()  # batch norm stays as it is
    found = torch.stack([(block(rows, own) - rows) for _ in range(200)])
    is_kept = (found != 0).flatten(2).any(2)
    torch.testing.assert_close(found[is_kept], (kept / 0.6).expand_as(found)[is_kept], rtol=1e-4, atol=1e-5)
    assert 0.5 < is_kept.float().mean() < 0.7


def test_a_transformer_layer_is_left_out_for_whole_clips_too() -> None:
    torch.manual_seed(0)
    layers, (rows, own) = encoder_layers(1, 6, 2, 8, 0.0), rows_of()
    rows = rows.nan_to_num()
    whole = through(layers, rows, own) - rows
    found = torch.stack([through(layers, rows, own, drop_path=0.4) - rows for _ in range(100)])
    is_kept = (found != 0).flatten(2).any(2)
    torch.testing.assert_close(found[is_kept], (whole / 0.6).expand_as(found)[is_kept], rtol=1e-4, atol=1e-5)
    assert 0.45 < is_kept.float().mean() < 0.75
    torch.testing.assert_close(through(layers.eval(), rows, own, drop_path=0.4), through(layers, rows, own))


def test_a_batch_of_one_row_trains() -> None:
    recipe = ConvTransformer(width=8, heads=2, layers=1, epochs=1, awp=0, batch_size=1)
    table = table_of(recipe, [1, 1])
    assert np.isfinite(recipe.fit(table, table, "cpu").logits(batch_of(recipe, [1, 3]))).all()


def test_a_width_that_its_heads_cannot_share_is_one_line() -> None:
    with pytest.raises(UserError, match="model 'conv_transformer': width=30 is to be a multiple of heads=4"):
        ConvTransformer(width=30).build({"holistic": 4}, 3)
