"""The training loop: rates, what counts as better, what a clip costs, and that every setting resumes to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch.nn.functional import cross_entropy

from models.bilstm_attention import BilstmAttention
from models.inception_time import InceptionTime
from models.transformer import Transformer
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning import fitting, losses
from pipeline.learning.augment import Blend
from pipeline.learning.epochs import Epoch
from pipeline.learning.fitting import Fitting
from pipeline.learning.network import Network
from pipeline.learning.recipe import Training
from pipeline.learning.schedule import drops, rate
from pipeline.testing.models import small, table_of

torch.set_num_threads(1)
LENGTHS = [4 + number % 5 for number in range(18)]


def epochs(bests: str) -> list[Epoch]:
    """An epoch a letter: `+` better than all before, `-` not."""
    return [Epoch(i + 1, 1.0, 1.0, 0.5, 1.0, 0.1, int(letter == "+")) for i, letter in enumerate(bests)]


def rates(recipe: Network, count: int) -> list[float]:
    return [rate(recipe, epochs("-" * number)) for number in range(count)]


def small_lstm(**fields: object) -> BilstmAttention:
    return BilstmAttention.model_validate({"hidden": 4, "dropout": 0, "epochs": 4, "batch_size": 6, **fields})


def test_the_rate_rises_in_equal_steps_and_then_follows_half_a_cosine() -> None:
    recipe = BilstmAttention(lr=0.8, warmup=8, epochs=18)
    found = rates(recipe, 18)
    assert found[:8] == pytest.approx([0.1 * step for step in range(1, 9)])
    assert found[8:] == pytest.approx([0.4 * (1 + math.cos(math.pi * step / 10)) for step in range(10)])


def test_a_plateau_is_counted_as_torch_counts_it() -> None:
    bests = "+-+---+----" + "-" * 9
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=2, threshold=0)
    recipe = Transformer(lr=1.0, schedule="plateau", plateau_factor=0.5, plateau_patience=2)
    best = 100.0
    for number, letter in enumerate(bests):
        assert rate(recipe, epochs(bests[:number])) == pytest.approx(optimizer.param_groups[0]["lr"])
        best -= letter == "+"
        torchs.step(best if letter == "+" else best + 1)
    assert drops(epochs(bests), 2) == 5


def test_the_rate_of_each_epoch_is_used_and_recorded() -> None:
    recipe = small_lstm(lr=0.01, warmup=2, epochs=5)
    fit = Fitting(recipe, table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:6], seed=1), "cpu")
    fit.run()
    assert [row.lr for row in fit.state.figures] == pytest.approx(rates(recipe, 5))
    assert fit.optimizer.param_groups[0]["lr"] == pytest.approx(rates(recipe, 5)[-1])


@pytest.mark.parametrize(
    ("best_by", "least", "figures", "expected"),
    [
        ("loss", 1e-4, [(1.0, 0.5), (0.99995, 0.9), (0.9998, 0.1), (0.99975, 0.1)], [1, 0, 1, 0]),
        ("loss", 0.0, [(1.0, 0.5), (0.99995, 0.1), (1.0, 0.9)], [1, 1, 0]),
        ("top1", 0.0, [(1.0, 0.5), (0.9, 0.5), (0.95, 0.5), (2.0, 0.6)], [1, 1, 0, 1]),
        ("last", 0.0, [(1.0, 0.5), (0.5, 0.9), (2.0, 0.1)], [1, 1, 1]),
        ("top1", 0.05, [(1.0, 0.5), (0.9, 0.54), (0.9, 0.56), (0.8, 0.6)], [1, 0, 1, 0]),
    ],
)
def test_what_counts_as_better(best_by: str, least: float, figures: list[tuple[float, float]], expected: list[int]) -> None:
    recipe = small_lstm(best_by=best_by, min_improvement=least)
    fit = Fitting(recipe, table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:6]), "cpu")
    for number, (loss, top1) in enumerate(figures):
        fit._judge(Epoch(number + 1, 1.0, loss, top1, 0.1, 0.1))
    assert [row.best for row in fit.state.figures] == expected


def test_the_last_epochs_weights_are_kept_where_nothing_selects() -> None:
    recipe = small_lstm(best_by="last", lr=0.05)
    fit = Fitting(recipe, table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:6], seed=1), "cpu")
    after: list[dict[str, torch.Tensor]] = []
    judge = fit._judge

    def judged(figures: Epoch) -> None:
        after.append({name: values.clone() for name, values in fit.module.state_dict().items()})
        judge(replace(figures, val_loss=float(len(after)), val_top1=1 / len(after)))  # worse and worse

    fit._judge = judged  # type: ignore[method-assign]
    kept = fit.run().state_dict()
    assert len(after) == recipe.epochs
    for name, values in kept.items():
        assert torch.equal(values, after[-1][name])
    assert any(not torch.equal(values, after[0][name]) for name, values in kept.items())


def test_learning_all_is_training_on_a_train_split_that_holds_the_validation_clips() -> None:
    recipe = small_lstm(best_by="last", class_weights="balanced", normalize="train")
    whole = table_of(recipe, LENGTHS)
    train, val = whole.part(whole.ids[:11]), whole.part(whole.ids[11:])
    both = recipe.model_copy(update={"learn": "all"}).fit(train, val, "cpu").module.state_dict()
    one = recipe.fit(whole, val, "cpu").module.state_dict()
    for name, values in one.items():
        assert torch.equal(both[name], values)
    assert not all(torch.equal(both[name], values) for name, values in recipe.fit(train, val, "cpu").module.state_dict().items())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"best_by": "last", "patience": 3}, "best_by=last never looks at validation, which patience and schedule=plateau go by; "),
        ({"best_by": "last", "schedule": "plateau"}, "set patience=0 schedule=cosine"),
        ({"learn": "all", "best_by": "top1"}, "learn=all leaves no clips to select weights on, as best_by=top1 does; set best_by=last"),
        ({"learn": "all", "best_by": "loss"}, "as best_by=loss does; set best_by=last"),
    ],
)
def test_settings_that_select_on_clips_that_are_not_there_are_refused(fields: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small_lstm(**fields)


def test_focal_loss_is_cross_entropy_times_the_doubt() -> None:
    logits, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0])
    entropy = cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(losses.each(logits, labels, gamma=2.0), (1 - (-entropy).exp()) ** 2 * entropy)
    torch.testing.assert_close(losses.each(logits, labels, smoothing=0.1).mean(), cross_entropy(logits, labels, label_smoothing=0.1))


def test_balanced_weights_make_every_class_count_the_same() -> None:
    labels = np.array([0, 0, 0, 1, 3, 3])
    weights = losses.balanced(labels, 5)
    assert weights.tolist() == pytest.approx([2 / 3, 2, 1, 1, 1])
    sums = [float(weights[labels[labels == number]].sum()) for number in (0, 1, 3)]
    assert sums == pytest.approx([2, 2, 2])


def test_a_weighted_loss_is_torchs() -> None:
    recipe = small_lstm(class_weights="balanced")
    table = table_of(recipe, [3, 4, 5, 6, 7])
    fit = Fitting(recipe, table, table, "cpu")
    logits = fit.module.eval()(table.gather(np.arange(5)))
    expected = cross_entropy(logits.detach(), torch.from_numpy(table.labels), weight=fit.class_weights)
    assert fit._validate()[0] == pytest.approx(float(expected), rel=1e-5)


def test_balanced_classes_weigh_the_same_where_clips_are_blended() -> None:
    recipe = small_lstm(class_weights="balanced")
    table = table_of(recipe, [5] * 8)
    table.labels[:], table.labels[3] = 0, 1  # 7 to 1
    fit = Fitting(recipe, table, table, "cpu")
    batch = table.gather(np.arange(8))
    blend = Blend(batch, batch.labels.roll(1), torch.full((8,), 0.6))
    sums = []
    for label in (0, 1):
        fit.recipe = Costing(asked=label)
        sums.append(float(fit._losses(batch, blend).sum()))
    assert sums == pytest.approx([4, 4])


class Costing(BilstmAttention):
    """A clip costs 1 where its label is the one that is asked for, and nothing else."""

    asked: int

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return (batch.labels == self.asked).float()


def gradients(recipe: Network, groups: list[list[int]]) -> list[torch.Tensor]:
    table = table_of(recipe, LENGTHS)
    torch.manual_seed(0)
    fit = Fitting(recipe, table, table, "cpu")
    fit.stepper.step = lambda: None
    fit._step([table.gather(np.array(numbers)) for numbers in groups])
    return [values.grad.clone() for values in fit.module.parameters() if values.grad is not None]


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_accumulated_batches_give_the_gradient_of_the_one_large_batch(weights: str) -> None:
    recipe = small_lstm(class_weights=weights)
    one = gradients(recipe, [list(range(12))])
    three = gradients(recipe, [list(range(5)), [5], list(range(6, 12))])
    for large, parts in zip(one, three, strict=True):
        torch.testing.assert_close(parts, large, rtol=1e-4, atol=1e-6)


def test_an_epoch_takes_a_step_for_every_few_batches_and_one_for_the_rest() -> None:
    recipe = small_lstm(batch_size=4, accumulate=2)
    table = table_of(recipe, LENGTHS)
    fit = Fitting(recipe, table, table, "cpu")
    steps: list[int] = []
    fit._step = lambda group: steps.append(len(group)) or torch.zeros((), dtype=torch.float64)  # type: ignore[method-assign, func-returns-value]
    fit._learn(0)
    assert steps == [2, 2, 1]


@pytest.mark.parametrize("name", ["bilstm_attention", "transformer", "inception_time"])
def test_bfloat16_trains_and_leaves_weights_and_features_in_float32(name: str) -> None:
    recipe = small(name).model_copy(update={"precision": "bfloat16", "epochs": 2, "normalize": "train"})
    seen: list[Batch] = []
    table = table_of(recipe, LENGTHS)
    assert isinstance(recipe, Network)
    fit = Fitting(recipe, table, table, "cpu")
    fit.module.get_submodule("inputs").register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fit.run()
    assert {str(values.dtype) for batch in seen for values in batch.features.values()} == {"torch.float32"}
    assert {values.dtype for values in fit.module.parameters()} == {torch.float32}
    assert all(np.isfinite(row.loss) for row in fit.state.figures)


def test_float32_is_float32_on_cuda_too(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small_lstm()
    table = table_of(recipe, LENGTHS)
    for use in (lambda: Fitting(recipe, table, table, "cpu"), lambda: recipe.predictor(table.dims, 3)):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        use()
        assert not torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("recipe", [small_lstm(frames=6), InceptionTime(steps=5, epochs=1, filters=2)], ids=["frames", "steps"])
def test_clips_that_are_read_as_equally_long_are_not_bucketed_by_their_length(recipe: Network) -> None:
    table = table_of(recipe, [6 + 10 * (number % 3) + number % 2 for number in range(60)])  # a class has its own length
    alike = table_of(recipe, [6] * 60)
    seen: list[tuple[str, ...]] = []
    fit = Fitting(recipe, table, table, "cpu")
    fit._step = lambda group: seen.extend(batch.ids for batch in group) or torch.zeros((), dtype=torch.float64)  # type: ignore[method-assign, func-returns-value]
    fit._learn(0)
    assert seen == [batch.ids for batch in alike.batches(recipe.batch_size, seed=table.seed)]
    assert seen != [batch.ids for batch in table.batches(recipe.batch_size, seed=table.seed)]


def test_float16_is_refused_on_the_cpu_in_one_line() -> None:
    recipe = small_lstm(precision="float16")
    table = table_of(recipe, LENGTHS)
    with pytest.raises(UserError, match="precision=float16 needs a CUDA device; use --set precision=bfloat16, or float32"):
        recipe.fit(table, table, "cpu")


def stopping_at(place: int) -> Callable[[Fitting], None]:
    keep = Fitting._keep

    def stop(fit: Fitting) -> None:
        if len(fit.state.figures) == place:
            raise KeyboardInterrupt
        keep(fit)

    return stop


def fitted(recipe: Network, folder: Path) -> dict[str, np.ndarray]:
    folder.mkdir(exist_ok=True)
    train, val = table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:9], seed=1)
    with_folder = Training(train.ids, train.labels, train.classes, train.stages, 3, folder)
    recipe.fit(with_folder, val, "cpu").save(folder)
    return load_file(folder / "weights.safetensors")


FEATURES: dict[str, dict[str, object]] = {
    "cosine": {"schedule": "cosine", "warmup": 2},
    "plateau": {"schedule": "plateau", "plateau_patience": 0, "plateau_factor": 0.5},
    "accumulated": {"batch_size": 3, "accumulate": 4, "class_weights": "balanced", "focal_gamma": 2.0},
    "bfloat16": {"precision": "bfloat16"},
    "zoneout": {"zoneout": 0.2, "layers": 2, "lstm_dropout": 0.3, "dropout": 0.4},
    "running average": {"ema": 0.9, "dropout": 0.4, "dropout_from": 3},
    "late mean": {"swa_from": 3, "awp": 0.1, "awp_from": 2, "dropout": 0.4},
}


@pytest.mark.parametrize("kind", FEATURES)
def test_an_interrupted_training_goes_on_to_the_same_weights(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
    recipe = small_lstm(lr=0.01, **FEATURES[kind])
    whole = fitted(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_keep", stopping_at(3))
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, tmp_path / "parts")
    resumed = fitted(recipe, tmp_path / "parts")
    for name, values in resumed.items():
        np.testing.assert_array_equal(values, whole[name])
