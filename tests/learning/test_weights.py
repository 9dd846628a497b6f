"""Weights that are averaged, perturbed and dropped out late, beside the same in plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.bilstm_attention import BilstmAttention
from models.inception_time import InceptionTime
from models.transformer import Transformer
from pipeline.errors import UserError
from pipeline.learning import fitting
from pipeline.learning.fitting import Fitting
from pipeline.learning.network import Network
from pipeline.testing.models import table_of
from tests.learning.test_fitting import LENGTHS, fitted, small_lstm, stopping_at

torch.set_num_threads(1)
SMALL = {"steps": 6, "filters": 2, "bottleneck": 2, "kernel": 4, "modules": 3, "epochs": 5, "batch_size": 6, "best_by": "last"}


def small_inception(**fields: object) -> InceptionTime:
    return InceptionTime.model_validate({**SMALL, **fields})


def fitting_of(recipe: Network) -> Fitting:
    torch.manual_seed(0)
    return Fitting(recipe, table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:6], seed=1), "cpu")


def parameters(module: nn.Module) -> dict[str, Tensor]:
    return {name: values.detach().clone() for name, values in module.named_parameters()}


def weights_after(fit: Fitting, each: str) -> list[dict[str, Tensor]]:
    """The module's own weights after every step, or after every pass over the clips, of a training that is run."""
    found: list[dict[str, Tensor]] = []
    before = getattr(fit, each)

    def noted(*given: Any) -> Any:
        result = before(*given)
        found.append(parameters(fit.module))
        return result

    setattr(fit, each, noted)
    fit.run()
    return found


def test_the_running_average_is_kept() -> None:
    fit = fitting_of(small_lstm(lr=0.05, ema=0.8, best_by="last"))
    steps = weights_after(fit, "_step")
    assert len(steps) == 12
    expected = steps[0]
    for weights in steps[1:]:
        expected = {name: 0.8 * values + 0.2 * weights[name] for name, values in expected.items()}
    for name, values in parameters(fit.module).items():
        torch.testing.assert_close(values, expected[name])
    assert any(not torch.allclose(values, steps[-1][name]) for name, values in expected.items())


def test_the_mean_of_late_epochs_is_kept_with_statistics_of_its_own() -> None:
    fit = fitting_of(small_inception(lr=0.05, swa_from=3))
    ends = weights_after(fit, "_learn")
    for name, values in parameters(fit.module).items():
        torch.testing.assert_close(values, torch.stack([ends[epoch][name] for epoch in (2, 3, 4)]).mean(0))
    statistics = {name: values.clone() for name, values in fit.module.state_dict().items()}
    norm = fit.module.get_submodule("inception.blocks.0.norm")
    seen: list[Tensor] = []
    norm.register_forward_hook(lambda _, given, __: seen.append(given[0].detach().clone()))
    fit.module.train()
    for batch in fit.train.batches(6, seed=fit.train.seed, epoch=4, alike_from=0):
        fit.module(batch)
    mean = torch.stack([rows.mean((0, 2)) for rows in seen]).mean(0)
    variance = torch.stack([rows.var((0, 2)) for rows in seen]).mean(0)
    torch.testing.assert_close(statistics["inception.blocks.0.norm.running_mean"], mean)
    torch.testing.assert_close(statistics["inception.blocks.0.norm.running_var"], variance)


def test_an_average_leaves_the_training_as_it_is() -> None:
    plain, averaged = (weights_after(fitting_of(small_lstm(lr=0.05, best_by="last", **fields)), "_step") for fields in ({}, {"ema": 0.9}))
    for one, other in zip(plain, averaged, strict=True):
        assert all(torch.equal(values, other[name]) for name, values in one.items())


def test_what_validates_is_the_average() -> None:
    fit = fitting_of(small_lstm(lr=0.05, ema=0.9, best_by="last", epochs=1))
    fit.run()
    fit.module.eval()
    batch = fit.val.gather(np.arange(6))
    expected = cross_entropy(fit.module(batch), batch.labels).item()
    assert fit.state.figures[0].val_loss == pytest.approx(expected, rel=1e-5)


def test_a_step_goes_by_the_gradient_at_the_weights_that_cost_more() -> None:
    recipe = small_lstm(lr=0.05, awp=0.3, batch_size=18, epochs=1, pooling="mean")
    fit, plain = fitting_of(recipe), fitting_of(recipe).module.train()
    plain.load_state_dict(fit.module.state_dict())
    batch, optimizer = next(fit.train.batches(18, seed=fit.train.seed)), torch.optim.AdamW(plain.parameters(), lr=0.05, weight_decay=2e-4)

    def gradients() -> list[Tensor]:
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(plain(batch), batch.labels))
        return [values.grad.clone() for values in plain.parameters() if values.grad is not None]

    before, uphill = [values.detach().clone() for values in plain.parameters()], gradients()
    with torch.no_grad():
        for values, gradient in zip(plain.parameters(), uphill, strict=True):
            values.add_(0.3 * gradient / gradient.norm())
    gradients()
    with torch.no_grad():
        for values, own in zip(plain.parameters(), before, strict=True):
            values.copy_(own)
    optimizer.step()
    fit.optimizer.param_groups[0]["lr"] = 0.05
    fit.module.train()
    fit._step([batch])
    for found, expected in zip(fit.module.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_weights_are_perturbed_from_an_epoch_on() -> None:
    late, never = (weights_after(fitting_of(small_lstm(best_by="last", awp=awp, awp_from=3)), "_learn") for awp in (0.3, 0.0))
    same = [all(torch.equal(values, other[name]) for name, values in one.items()) for one, other in zip(late, never, strict=True)]
    assert same == [True, True, False, False]


def test_dropout_begins_late_and_in_attention_too() -> None:
    recipe = Transformer(
        stages=("kinematics",), layers=1, width=8, heads=2, feed_forward=8, dropout=0.5, epochs=4, schedule="constant", patience=0
    )
    fit = fitting_of(recipe.model_copy(update={"dropout_from": 3}))
    on: list[set[bool]] = []
    step = fit._step

    def noted(group: Any) -> Tensor:
        on.append({part.training for part in fit.module.modules() if isinstance(part, nn.Dropout | nn.MultiheadAttention)})
        return step(group)

    fit._step = noted  # type: ignore[method-assign]
    fit.run()
    assert on == [{False}] * 2 + [{True}] * 2


@pytest.mark.parametrize("fields", [{"ema": 0.9}, {"swa_from": 2}], ids=["ema", "swa"])
def test_an_interrupted_average_with_batch_norm_goes_on_to_the_same_weights(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
    recipe = small_inception(lr=0.01, dropout=0.3, **fields)
    whole = fitted(recipe, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "_keep", stopping_at(4))
        with pytest.raises(KeyboardInterrupt):
            fitted(recipe, tmp_path / "parts")
    for name, values in fitted(recipe, tmp_path / "parts").items():
        np.testing.assert_array_equal(values, whole[name])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ema": 0.9, "swa_from": 2}, r"ema=0\.9 and swa_from=2 are two averages of the weights; set one of them to 0"),
        ({"swa_from": 50, "epochs": 40}, "swa_from=50 comes after the last of epochs=40; set swa_from=30"),
    ],
)
def test_averages_that_cannot_be_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        BilstmAttention.model_validate(fields)
