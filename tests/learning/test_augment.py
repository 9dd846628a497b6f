"""Augmentation: from (seed, epoch, id) alone, in training only, and each change what its name says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bilstm_attention import BilstmAttention
from pipeline import registry
from pipeline.learning import fitting
from pipeline.learning.augment import Augmentation, Variation
from pipeline.learning.fitting import Fitting
from pipeline.learning.recipe import Training
from pipeline.testing.models import Rows
from pipeline.types import Array
from tests.learning.test_fitting import stopping_at

torch.set_num_threads(1)
EVERYTHING: dict[str, float] = {
    "time_warp": 0.3, "crop": 0.2, "resample": 0.3, "frame_drop": 0.1, "mirror": 0.5, "rotate": 10.0, "turn": 20.0, "scale": 0.2,
    "shift": 0.1, "jitter": 0.02, "part_dropout": 0.1, "mixup": 0.2, "bones": 0.1, "limbs": 10.0,
    "shear": 0.15, "time_mask": 0.4, "box_mask": 0.4,
}  # fmt: skip


def rows_of(length: int, width: int = 60, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(length, width)).astype(np.float32)


def landmarks(stage: str, rows: Mapping[str, Array], row_shape: tuple[int, ...]) -> Rows:
    """Rows in memory that are what the rows of a stage are, with its defaults."""
    found = Rows(rows, row_shape)
    layout = registry.create("stage", stage).row_layout if stage in registry.names("stage") else None
    found.layout = layout if layout and (layout.width,) == row_shape else None
    return found


def table_of(lengths: list[int], stage: str = "skeleton", width: int = 60, **more: int) -> Training:
    ids = tuple(f"clip{number}" for number in range(len(lengths)))
    stages = {
        name: landmarks(name, {clip: rows_of(n, size, seed) for seed, (clip, n) in enumerate(zip(ids, lengths, strict=True))}, (size,))
        for name, size in {stage: width, **more}.items()
    }
    labels = np.arange(len(lengths), dtype=np.int64) % 2
    return Training(ids, labels, ("a", "b"), stages, seed=3)  # type: ignore[arg-type]


def variation(epoch: int = 0, seed: int = 3, stage: str = "skeleton", **settings: float) -> Variation:
    table = table_of([5], stage, {"skeleton": 60, "keypoints": 150, "inertial": 6}[stage])
    table.seed = seed
    found = Augmentation(**settings).variation(table, epoch)
    assert found is not None
    return found


def varied(rows: Array, clip: str = "clip0", stage: str = "skeleton", settings: Mapping[str, Any] | None = None, **options: Any) -> Array:
    return variation(stage=stage, **{**(settings or {}), **options})(clip, {stage: rows})[stage]


def test_it_is_off_by_default_and_then_nothing_is_touched() -> None:
    assert Augmentation().variation(table_of([4]), 0) is None
    assert all(field.default == 0 for field in Augmentation.model_fields.values())


def test_a_clip_is_varied_by_seed_epoch_and_id_alone() -> None:
    rows = rows_of(20)
    one = varied(rows, settings=EVERYTHING)
    np.testing.assert_array_equal(varied(rows, settings=EVERYTHING), one)
    others: list[dict[str, Any]] = [{"epoch": 1}, {"seed": 4}, {"clip": "clip1"}]
    for other in others:
        found = varied(rows, settings=EVERYTHING, **other)
        assert found.shape != one.shape or not np.array_equal(found, one)


def test_batches_of_any_size_hold_the_same_clips() -> None:
    table = table_of([6 + number % 7 for number in range(20)])
    change = Augmentation(**EVERYTHING).variation(table, 2)
    found: list[dict[str, Array]] = []
    for size in (3, 20):
        clips = {}
        for batch in table.batches(size, epoch=2, change=change):
            for clip, rows, length in zip(batch.ids, batch.features["skeleton"], batch.lengths["skeleton"].tolist(), strict=True):
                clips[clip] = rows[:length].numpy().copy()
                assert not rows[length:].any()
        found.append(clips)
    assert found[0].keys() == found[1].keys() == set(table.ids)
    for clip, rows in found[0].items():
        np.testing.assert_array_equal(rows, found[1][clip])


def test_what_is_in_the_cache_is_never_changed() -> None:
    table = table_of([9] * 4)
    before = {clip: rows.copy() for clip, rows in table.stages["skeleton"].items()}
    list(table.batches(2, change=Augmentation(**EVERYTHING).variation(table, 0)))
    for clip, rows in before.items():
        np.testing.assert_array_equal(table.stages["skeleton"][clip], rows)


def places(settings: dict[str, float], length: int = 60, clips: int = 40) -> list[list[float]]:
    """Of many clips the numbers of their rows after a change of time."""
    rows = np.repeat(np.arange(1, length + 1, dtype=np.float32)[:, None], 60, 1)
    return [varied(rows, f"clip{number}", settings=settings)[:, 0].tolist() for number in range(clips)]


def test_a_warp_keeps_length_and_order() -> None:
    for found in places({"time_warp": 0.4}):
        assert len(found) == 60
        assert found == sorted(found)
    assert len({tuple(found) for found in places({"time_warp": 0.4})}) == 40


def test_a_crop_is_a_stretch_of_the_clip() -> None:
    for found in places({"crop": 0.3}):
        assert 60 * 0.7 - 1 <= len(found) <= 60
        assert found[-1] - found[0] <= len(found)
    assert min(found[0] for found in places({"crop": 0.3})) < 3 < max(found[0] for found in places({"crop": 0.3}))


def test_resampling_changes_the_length_and_keeps_both_ends() -> None:
    lengths = [len(found) for found in places({"resample": 0.5})]
    assert 30 <= min(lengths) < 50 < 70 < max(lengths) <= 120
    assert all(found[0] <= 2 and found[-1] >= 59 for found in places({"resample": 0.5}))


def test_dropped_frames_leave_the_others_in_order_and_never_none() -> None:
    found = places({"frame_drop": 0.3})
    assert 0.6 * 60 < np.mean([len(rows) for rows in found]) < 0.8 * 60
    assert all(rows == sorted(set(rows)) for rows in found)
    assert all(len(rows) == 1 for rows in places({"frame_drop": 0.99}, length=1))


def test_stages_of_a_clip_change_their_time_together() -> None:
    table = table_of([30], inertial=6)
    change = Augmentation(time_warp=0.5, crop=0.3, resample=0.3, frame_drop=0.2).variation(table, 0)
    assert change is not None
    clock = {
        stage: np.repeat(np.arange(1, 31, dtype=np.float32)[:, None], width, 1) for stage, width in (("skeleton", 60), ("inertial", 6))
    }
    found = change("clip0", clock)
    np.testing.assert_array_equal(found["skeleton"][:, 0], found["inertial"][:, 0])


def test_what_is_not_seen_stays_zero() -> None:
    rows = rows_of(12, 150)
    rows[:, 66:108] = 0  # the first hand
    rows[3:5, 108:] = 0  # the second one in two frames
    found = varied(rows, stage="keypoints", scale=0.2, shift=0.5, jitter=0.1)
    assert not found[:, 66:108].any()
    assert not found[3:5, 108:].any()
    assert (found[:3] != 0).sum() == 3 * 108


def test_dropped_parts_are_zero_in_the_whole_clip() -> None:
    found = [varied(rows_of(4, 150), f"clip{number}", stage="keypoints", part_dropout=0.4) for number in range(60)]
    hidden = np.mean([[not rows[:, part].any() for part in (slice(0, 66), slice(66, 108), slice(108, 150))] for rows in found], 0)
    assert (np.abs(hidden - 0.4) < 0.2).all()
    assert all(rows[:, part].any() == rows[:, part].all() for rows in found for part in (slice(66, 108), slice(108, 150)))


def test_jitter_is_in_deviations_of_each_value() -> None:
    rows = rows_of(500) * np.linspace(0.1, 10, 60).astype(np.float32)
    noise = varied(rows, jitter=0.1) - rows
    np.testing.assert_allclose(noise.std(0) / rows.std(0), 0.1, rtol=0.2)


def test_gaps_do_not_count_as_deviations() -> None:
    rows = rows_of(600, 150) + 100
    rows[::2, 66:108] = 0
    noise = (varied(rows, stage="keypoints", jitter=0.1) - rows)[1::2]
    np.testing.assert_allclose(noise.std(0), 0.1, rtol=0.35)


def recipe_of() -> BilstmAttention:
    return BilstmAttention.model_validate({"stages": ("skeleton",), "hidden": 4, "epochs": 4, "batch_size": 4, "lr": 0.01, **EVERYTHING})


def test_clips_that_validate_are_never_varied() -> None:
    val = table_of([5, 6, 7])
    fit = Fitting(recipe_of(), table_of([5] * 8), val, "cpu")
    assert fit._validate() == fit._validate()
    fit.module.eval()
    seen: list[Array] = []
    fit.module.get_submodule("inputs").register_forward_pre_hook(lambda _, given: seen.append(given[0].features["skeleton"].numpy().copy()))
    fit._validate()
    assert all((rows[:5] == val.stages["skeleton"]["clip0"]).all() for rows in (seen[0][0],))


def test_a_varied_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
    found = []
    for name in ("whole", "parts"):
        train = table_of([5 + number % 4 for number in range(10)]).part(folder=tmp_path / name)
        with monkeypatch.context() as patch:
            if name == "parts":
                patch.setattr(Fitting, "_keep", stopping_at(3))
                with pytest.raises(KeyboardInterrupt):
                    recipe_of().fit(train, table_of([5, 6]), "cpu")
        found.append(recipe_of().fit(train, table_of([5, 6]), "cpu").module.state_dict())
    for key, values in found[0].items():
        assert torch.equal(values, found[1][key])


def test_blended_clips_are_shares_of_two_on_one_time_and_so_is_their_loss() -> None:
    table = table_of([6, 3, 0, 4])
    batch = table.gather(np.arange(4))
    blend = Augmentation(mixup=0.4).blended(batch, table, 0)
    assert blend is not None
    assert blend.labels.tolist() == batch.labels.roll(1).tolist()
    assert (blend.shares >= 0.5).all()
    assert blend.shares[2:].tolist() == [1, 1]  # one has no rows, one a partner without
    share, rows = float(blend.shares[1]), batch.features["skeleton"]
    expected = share * rows[1, :3] + (1 - share) * rows[0, [1, 3, 5]]
    torch.testing.assert_close(blend.batch.features["skeleton"][1, :3], expected)
    assert not blend.batch.features["skeleton"][1, 3:].any()
    again = Augmentation(mixup=0.4).blended(batch, table, 0)
    assert again is not None
    assert torch.equal(again.shares, blend.shares)
    assert Augmentation().blended(batch, table, 0) is None
    assert Augmentation(mixup=0.4).variation(table, 0) is None
    fit = Fitting(recipe_of().model_copy(update={"mixup": 0.4, "dropout": 0.0}), table, table, "cpu")
    outputs = fit.module.train()(blend.batch)
    losses = [torch.nn.functional.cross_entropy(outputs, labels, reduction="none") for labels in (batch.labels, blend.labels)]
    shared = blend.shares * losses[0] + (1 - blend.shares) * losses[1]
    torch.testing.assert_close(fit._losses(blend.batch, blend), shared, rtol=1e-3, atol=1e-3)
