"""A stage that somebody writes with a network is finetuned with no other edit, and only what stands on it is rebuilt."""

from __future__ import annotations

import json
from pathlib import Path

from tests.checkout import Checkout

TINTED = '''"""Colours of a few points by a network of one layer."""

from pipeline.cache import weights as checkpoint
from pipeline.types import Extractor


class Tinted(Extractor):
    """`(T, H, W, 3)` uint8 frames -> `(T, 4)` float32."""

    item_axes = "HWC"
    source: str = "rgb"
    weights: str = "random:0"
    step: int = 8

    @property
    def row_shape(self):
        return (4,)

    @property
    def item_shape(self):
        return (48 // self.step, 64 // self.step, 3)

    def prepare(self, frames):
        for (image,) in frames:
            yield image[:: self.step, :: self.step]

    def network(self):
        return checkpoint.initialised(layer, self.weights, lambda: checkpoint.read_checkpoint(self.weights))

    def load(self, device):
        return self.network().to(device)


def layer():
    from torch import nn

    class Layer(nn.Linear):
        def forward(self, images):
            return super().forward(images.float().mean((1, 2)) / 255)

    return Layer(3, 4)


stage = Tinted
'''
SUMMED = '''"""Sums of tinted rows."""

from pipeline.types import Extractor


class Summed(Extractor):
    """`(T, 4)` rows of `tinted` -> `(T, 1)` float32."""

    source: str = "stage:tinted"

    @property
    def row_shape(self):
        return (1,)

    def prepare(self, frames):
        for (row,) in frames:
            yield row.sum(keepdims=True)


stage = Summed
'''
QUICK = ("--set", "epochs=2", "--set", "head_epochs=0", "--set", "batch_norm=moving", "--set", "best_by=last", "--device", "cpu")


def test_a_stage_that_is_one_new_file_is_finetuned_and_only_what_stands_on_it_is_rebuilt(tmp_path: Path) -> None:
    checkout = Checkout.make(tmp_path / "checkout", clips=12)
    for name, text in (("tinted", TINTED), ("summed", SUMMED)):
        (checkout.folder / "stages" / f"{name}.py").write_text(text)
    checkout.ok("extract", "tiny", "colour", "tinted", "summed")
    before = checkout.rows("tinted")
    made = json.loads(checkout.ok("finetune", "tiny", "tinted", *QUICK, "--json").stdout.splitlines()[-1])
    assert Path(made["weights"]) == Path(made["run"]) / "backbone.safetensors"
    prepared = checkout.markers("tinted.items")
    assert sum(len(marker["rows"]) for marker in prepared.values()) == 12

    other = json.loads(checkout.ok("finetune", "tiny", "tinted", *QUICK, "--depth", "head", "--json").stdout.splitlines()[-1])
    assert other["run"] != made["run"]
    assert checkout.markers("tinted.items") == prepared, "nothing is decoded again"

    plan = checkout.plan("tinted", "summed", "colour", "--set", f"tinted.weights=run:{made['run']}")
    assert {stage: (said["fresh"], said["todo"]) for stage, said in plan.items()} == {
        "tinted": (0, 12), "summed": (0, 12), "colour": (12, 0),
    }  # fmt: skip
    assert checkout.extracted("tinted", "--set", f"weights=run:{made['run']}") == {"tinted": 12}
    assert checkout.extracted("tinted", "summed", "colour") == {"summed": 12}
    after = checkout.rows("tinted")
    assert after.keys() == before.keys()
    assert all(after[clip] != before[clip] for clip in before)
