"""Fusion by attention: stages with any number of rows and none, and training clips that lose whole stages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from models.attention_fusion import AttentionFusion, ModalityDropout
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.testing.models import CLASSES, batch_of, built, table_of
from pipeline.types import Array

torch.set_num_threads(1)
RECIPE = AttentionFusion(width=8, heads=2, layers=1, feed_forward=8)
BOTH = ("resnet50", "radar_cnn")


def without(batch: Batch, stage: str) -> Batch:
    """The same clips without rows of a stage, whose padding holds anything."""
    features = {**batch.features, stage: torch.full_like(batch.features[stage], float("nan"))}
    return Batch(batch.ids, features, {**batch.lengths, stage: torch.zeros_like(batch.lengths[stage])}, batch.labels)


def cut(batch: Batch, clip: int) -> Batch:
    """One clip alone, without padding."""
    lengths = {stage: own[clip : clip + 1] for stage, own in batch.lengths.items()}
    features = {stage: values[clip : clip + 1, : int(lengths[stage])] for stage, values in batch.features.items()}
    return Batch(batch.ids[clip : clip + 1], features, lengths, batch.labels[clip : clip + 1])


def test_it_has_as_many_parameters_as_it_says() -> None:
    module = AttentionFusion().build({"resnet50": 2048, "radar_cnn": 96}, 126)
    count = sum(values.numel() for values in module.parameters())
    assert f"{count:,} parameters" in str(AttentionFusion.__doc__)


@pytest.mark.parametrize("stage", BOTH)
def test_a_clip_without_a_stage_is_scored_as_by_the_same_weights_that_read_the_other_alone(stage: str) -> None:
    module, batch = built(RECIPE).eval(), batch_of(RECIPE, [5, 3, 9])
    other = next(name for name in BOTH if name != stage)
    alone = RECIPE.alone(other).build({other: batch.features[other].shape[2]}, CLASSES).eval()
    weights = {key.replace(f"streams.{BOTH.index(other)}.", "streams.0."): value for key, value in module.state_dict().items()
               if not key.startswith(f"streams.{BOTH.index(stage)}.")}  # fmt: skip
    alone.load_state_dict(weights)
    with torch.inference_mode():
        torch.testing.assert_close(module(without(batch, stage)), alone(batch))
        assert not torch.allclose(module(without(batch, stage)), module(batch), atol=1e-3)


def test_a_clip_without_radar_is_scored_alike_alone_and_beside_one_with_radar() -> None:
    module, batch = built(RECIPE).eval(), batch_of(RECIPE, [5, 3])
    batch.lengths["radar_cnn"][0] = 0
    with torch.inference_mode():
        torch.testing.assert_close(module(cut(batch, 0))[0], module(batch)[0])


def test_stages_of_other_rates_meet_at_the_same_normalised_time() -> None:
    module, batch = built(RECIPE).eval(), batch_of(RECIPE, [6])
    half = Batch(batch.ids, {**batch.features, "radar_cnn": batch.features["radar_cnn"][:, ::2]},
                 {**batch.lengths, "radar_cnn": torch.tensor([3])}, batch.labels)  # fmt: skip
    with torch.inference_mode():
        attention = module.attention(half)  # type: ignore[operator]
        *_, own, times = module.encoded(half)  # type: ignore[operator]
    assert own.all()
    torch.testing.assert_close(times[0], torch.tensor([1, 3, 5, 7, 9, 11, 2, 6, 10]) / 12)
    assert attention.shape == (1, 6)
    torch.testing.assert_close(attention.sum(1), torch.ones(1))


def test_attention_of_a_clip_without_a_stage_is_on_the_other_alone() -> None:
    module, batch = built(RECIPE).eval(), batch_of(RECIPE, [6, 4])
    with torch.inference_mode():
        found = module.attention(without(batch, "radar_cnn"))  # type: ignore[operator]
    torch.testing.assert_close(found.sum(1), torch.ones(2))
    assert not found[1, 4:].any()


def rows(count: int = 4) -> dict[str, Array]:
    return {"a": np.ones((count, 2)), "b": np.ones((count, 3)), "c": np.ones((count, 1))}


def kept(dropout: ModalityDropout, clip: str, given: dict[str, Array] | None = None) -> set[str]:
    found = dropout(clip, rows() if given is None else given)
    assert {len(values) for values in found.values()} <= {0, 4}
    return {stage for stage, values in found.items() if len(values)}


def test_dropped_stages_come_from_seed_epoch_and_clip_and_one_always_stays() -> None:
    clips = [f"clip{number}" for number in range(200)]
    drawn = {(seed, epoch): [kept(ModalityDropout(0.4, seed, epoch, None), clip) for clip in clips] for seed in (0, 1) for epoch in (0, 1)}
    assert drawn[0, 0] == [kept(ModalityDropout(0.4, 0, 0, None), clip) for clip in reversed(clips)][::-1], "whatever was drawn before"
    assert len({str(found) for found in drawn.values()}) == 4
    counts = np.array([len(found) for found in drawn[0, 0]])
    assert counts.min() == 1
    assert 0.35 < 1 - (counts.mean() - 0.4**3 / 1) / 3 < 0.45, "each stage with its probability, but for the last that stays"


def test_the_only_stage_of_a_clip_is_never_dropped() -> None:
    given = {**rows(), "a": np.ones((0, 2)), "c": np.ones((0, 1))}
    assert all(kept(ModalityDropout(0.9, 0, 0, None), f"clip{number}", given) == {"b"} for number in range(50))
    empty = {stage: values[:0] for stage, values in rows().items()}
    assert kept(ModalityDropout(0.9, 0, 0, None), "clip", empty) == set()


def test_clips_lose_stages_in_training_and_never_where_they_are_judged() -> None:
    train = table_of(RECIPE, [4] * 40)
    change = RECIPE.model_copy(update={"modality_dropout": 0.5}).change(train, 0)
    lengths = [own for batch in train.batches(8, change=change) for own in zip(*(batch.lengths[s].tolist() for s in BOTH), strict=True)]
    assert {(0, 4), (4, 0), (4, 4)} == set(lengths)
    assert RECIPE.model_copy(update={"modality_dropout": 0.0}).change(train, 0) is None


def test_each_stage_is_normalised_by_its_own_training_rows() -> None:
    recipe = RECIPE.model_copy(update={"normalize": "train"})
    train, module = table_of(recipe, [5, 0, 7]), built(recipe)
    recipe.prepare(module, train)
    for number, stage in enumerate(BOTH):
        inputs = module.get_submodule(f"streams.{number}.inputs")
        torch.testing.assert_close(inputs.get_buffer("mean"), torch.from_numpy(train.moments(stage)[0]).float())


def test_a_width_that_its_heads_cannot_share_is_one_line() -> None:
    with pytest.raises(UserError, match="model 'attention_fusion': width=10 is to be even and a multiple of heads=4"):
        AttentionFusion(width=10).build({"resnet50": 4, "radar_cnn": 3}, 3)


def test_more_stages_are_fused_by_naming_them() -> None:
    recipe = AttentionFusion(stages=(*BOTH, "holistic"), width=8, heads=2, layers=1, feed_forward=8)
    module = built(recipe).eval()
    assert isinstance(module, nn.Module)
    with torch.inference_mode():
        assert module(batch_of(recipe, [5, 0, 2])).shape == (3, CLASSES)
