"""What a finetuning takes of a device: batches in parts where there is too little, the same up to rounding, and `--max-memory`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import registry
from pipeline.commands.finetuning import size_of
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.learning.backbones import backbone as backbones
from pipeline.learning.epochs import read_figures
from pipeline.runs import run_folder
from pipeline.runs.run_folder import Run
from tests.small_network import STAGE, finetuned, prepared

Fixture = tuple[Home, Manifest]


@pytest.fixture
def images(tmp_path: Path) -> Fixture:
    return prepared(tmp_path)


def out_of_memory(most: int) -> type[nn.Module]:
    """In place of a stage's network: one that has memory for so many rows at a time where gradients are to follow."""

    class Small(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.inner = network

        def forward(self, rows: Tensor) -> Tensor:
            if len(rows) > most and torch.is_grad_enabled():
                raise torch.OutOfMemoryError("no memory")
            found: Tensor = self.inner(rows)
            return found

    return Small


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that has memory for five rows."""
    small, forward = out_of_memory(5), backbones.Backbone.forward

    def squeezed(self: backbones.Backbone, items: Tensor) -> Tensor:
        network = self.network
        self.network = small(network)
        try:
            return forward(self, items)
        finally:
            self.network = network

    monkeypatch.setattr(backbones.Backbone, "forward", squeezed)


def test_a_network_that_is_computed_in_parts_has_the_same_gradient() -> None:
    stage = registry.create("stage", "radar_cnn", {**STAGE, "weights": "random:0"})
    items = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (7, *stage.item_shape), np.uint8))
    found = []
    for at_once in (None, 3):
        backbone = backbones.Backbone(stage, "all", keeps_statistics=True).train()
        backbone.rests, backbone.at_once = False, at_once
        backbone(items).square().sum().backward()
        found.append([values.grad for values in backbone.parameters()])
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def assert_close(run: Run, other: Run) -> None:
    """Two trainings that differ by rounding, as the losses of their epochs do."""
    one, two = (np.array([(row.loss, row.val_loss) for row in read_figures(each.folder)]) for each in (run, other))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


def test_too_little_memory_changes_rounding_alone(images: Fixture, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = {"dropout": "0.3"}
    whole = shutil.copytree(finetuned(*images, settings).folder, tmp_path / "whole")
    request.getfixturevalue("cramped")
    assert_close(finetuned(*images, settings, again=True), run_folder.read(whole))


def test_statistics_that_move_cannot_be_taken_of_parts(images: Fixture, cramped: None) -> None:
    with pytest.raises(
        UserError, match=r"the device has no memory for a batch of 6 clips; halve it, .*--set batch_size=N --set accumulate=2"
    ):
        finetuned(*images, {"batch_norm": "moving"})


def test_on_a_cpu_the_most_memory_bounds_what_a_step_keeps(
    images: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = shutil.copytree(finetuned(*images).folder, tmp_path / "whole")
    compute: Any = torch.utils.checkpoint.checkpoint
    together = set[int]()

    def counted(network: nn.Module, rows: Tensor, **options: Any) -> Any:
        together.add(len(rows))
        return compute(network, rows, **options)

    monkeypatch.setattr(backbones, "checkpoint", counted)
    assert_close(finetuned(*images, again=True, max_memory=100_000), run_folder.read(whole))
    assert max(together) in range(1, 10)
    assert "--max-memory 100 kB: on a CPU it bounds what a step keeps for its gradient, not the process" in capsys.readouterr().err


@pytest.mark.parametrize(("said", "size"), [("5G", 5 * 10**9), ("500M", 500 * 10**6), ("2GiB", 2 << 30)])
def test_the_most_memory_is_said_as_people_say_it(said: str, size: int) -> None:
    assert size_of(said) == size


@pytest.mark.parametrize(
    ("said", "why"), [("5 apples", "is no size; as in 5G, 500M or 5GiB"), ("0", "a training needs some memory; as in 5G")]
)
def test_a_size_that_is_none_is_one_line(said: str, why: str) -> None:
    with pytest.raises(UserError, match=f"--max-memory '{said}':? {why}"):
        size_of(said)
