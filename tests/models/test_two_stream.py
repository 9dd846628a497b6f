"""Two streams are trained each for itself, and their logits are added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.two_stream import TwoStream
from pipeline import registry
from pipeline.learning.recipe import Training
from tests.models.test_self_learning_fusion import table_of

torch.set_num_threads(1)
MEMBERS = "lstm_late:stages=video:hidden=8:epochs=8:lr=0.01:normalize=none,lstm_late:stages=sensor:hidden=8:epochs=8:lr=0.01:normalize=none"


def recipe_of(**fields: object) -> TwoStream:
    made = registry.create("model", "two_stream", fields).adapted({})
    assert isinstance(made, TwoStream)
    return made


def streams(count: int, seed: int = 0) -> Training:
    """Rows of two stages that tell the class."""
    return table_of(count, seed)


def test_the_score_is_the_sum_of_the_logits_of_two_trainings(tmp_path: Path) -> None:
    recipe = recipe_of(members=MEMBERS)
    assert recipe.stages == ("video", "sensor")
    found: Any = recipe.fit(streams(24), streams(9, seed=1), "cpu")
    batch = streams(9, seed=2).gather(np.arange(9))
    logits = found.logits(batch)
    alone = [part.fit(streams(24).part(stages=part.stages), streams(9, 1).part(stages=part.stages), "cpu") for part in recipe.parts]
    np.testing.assert_allclose(logits, sum(one.logits(batch) for one in alone), rtol=1e-5)
    assert (logits.argmax(1) == streams(9, seed=2).labels).mean() > 0.9
    found.save(tmp_path)
    again = recipe.predictor({"video": 6, "sensor": 2}, 3)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.logits(batch), logits)
    assert again.parameters == sum(one.parameters for one in alone)


def test_its_streams_are_i3d_on_rgb_and_on_flow_with_the_head_of_self_learning_fusion() -> None:
    recipe = recipe_of()
    assert recipe.stages == ("i3d", "i3d_flow")
    for part in recipe.parts:
        module: Any = part.build(dict.fromkeys(part.stages, 1024), 27)
        assert [tuple(values.shape) for values in module.head.parameters()] == [(128, 1024), (128,), (27, 128), (27,)]
        assert module.dropout.p == 0.4
