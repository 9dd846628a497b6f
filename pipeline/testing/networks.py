"""What every stage with a network keeps to: it makes the rows of the stage, learns, and comes back from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pipeline.cache import trained
from pipeline.testing._contract import Contract
from pipeline.testing._created import IMAGE, TRACKS, created, other_values
from pipeline.types import STAGE_PREFIX, Extractor, Frame, has_network

if TYPE_CHECKING:
    from torch import Tensor, nn

QUICK = {"weights": "random:0", "window": 9}
SMALL = {"resize": (64, 64), "short_side": 193, "side": 193}
"""Settings with which the network of any stage computes in a moment."""


class NetworkContract(Contract):
    """The network of a stage, where it has one, is that by which its rows are made."""

    def concerns(self, name: str, fixtures: Sequence[str]) -> bool:
        return "trainable" not in fixtures or has_network(created(name))

    def frames(self, stage: Extractor) -> list[Frame]:
        """What a clip of the stage's source would give: random images, radar maps of three receivers, sensor or upstream rows.

        Give your own for a modality that is not among them.
        """
        random, source = np.random.default_rng(0), stage.source
        if source.startswith(STAGE_PREFIX):
            upstream = created(source.removeprefix(STAGE_PREFIX))
            return [(random.random(upstream.row_shape).astype(upstream.dtype),) for _ in range(24)]
        if source not in TRACKS:
            pytest.skip(f"no synthetic {source!r} frames here")
        return [
            tuple(random.integers(0, 256, shape).astype(np.uint8 if shape == IMAGE else np.float32) for shape in TRACKS[source])
            for _ in range(24)
        ]

    @pytest.fixture
    def trainable(self, name: str) -> Extractor:
        """The stage, with random weights where it has any."""
        import torch

        torch.set_num_threads(1)
        return seeded(name)

    def inputs(self, stage: Extractor) -> Tensor:
        """The items of the first rows of a clip: two, or one where it is a window."""
        import torch

        items = [np.ascontiguousarray(item) for item in stage.prepare(iter(self.frames(stage)))]
        first, *others = stage.rows(len(items))
        windows = [items[window] for window in (first, *others[: 2 - (first.stop - first.start)])]
        return torch.from_numpy(np.stack([window[0] if len(window) == 1 else np.stack(window) for window in windows]))

    def test_items_have_the_shape_and_type_that_are_said(self, trainable: Extractor) -> None:
        items = list(trainable.prepare(iter(self.frames(trainable))))
        assert {(item.shape, str(item.dtype)) for item in items} == {(trainable.item_shape, trainable.item_dtype)}
        assert trainable.item_axes in ("", "HWC", "CHW")
        assert not trainable.item_axes or len(trainable.item_shape) == 3

    def test_fields_of_the_network_alone_change_no_items(self, trainable: Extractor, name: str) -> None:
        values = other_values(name)
        expected = list(trainable.prepare(iter(self.frames(trainable))))
        for field in trainable.after_items:
            if field in values:
                other = list(seeded(name, **{field: values[field]}).prepare(iter(self.frames(trainable))))
                assert len(other) == len(expected)
                assert all((one == two).all() for one, two in zip(other, expected, strict=True)), field

    def test_the_network_makes_the_rows_of_the_stage(self, trainable: Extractor) -> None:
        import torch

        inputs, forward = self.inputs(trainable), trainable.load("cpu")
        assert forward is not None
        with torch.inference_mode():
            assert_same(trainable.network()(inputs), forward(inputs).float())

    def test_weights_of_the_network_come_back_from_a_file(self, trainable: Extractor, name: str, tmp_path: Path) -> None:
        import torch

        inputs, network = self.inputs(trainable), changed(trainable.network())
        trained.write(tmp_path / "own.safetensors", network.state_dict(), {"stage": name})
        again = seeded(name, weights=str(tmp_path / "own.safetensors"))
        forward = again.load("cpu")
        assert forward is not None
        with torch.inference_mode():
            expected = network(inputs)
            assert_same(again.network()(inputs), expected)
            assert_same(forward(inputs).float(), expected)

    def test_all_blocks_of_the_network_take_part_in_its_rows(self, trainable: Extractor) -> None:
        from pipeline.learning.backbones.backbone import blocks_of

        network = trainable.network()
        blocks = blocks_of(network)
        for block in blocks:
            block.requires_grad_(True)
        network(self.inputs(trainable)).square().sum().backward()
        for number, block in enumerate(blocks):
            assert all(values.grad is not None for values in block.parameters()), f"block {number} of {len(blocks)}"


def seeded(name: str, **fields: object) -> Extractor:
    """The stage with random weights, small windows and, where it reads media, small images."""
    stage = created(name)
    small = {**QUICK, **({} if stage.source.startswith(STAGE_PREFIX) else SMALL)}
    return created(name, **{**{field: value for field, value in small.items() if field in type(stage).model_fields}, **fields})


def changed(network: nn.Module) -> nn.Module:
    """The network with other weights than any seed gives."""
    import torch

    with torch.no_grad():
        for values in network.parameters():
            values.mul_(1.01)
    return network


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Within 1e-3 of the largest value: batch norm that is folded rounds otherwise, and a map is float16."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()
