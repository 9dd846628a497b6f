"""A whole network that generates sensor features: taught by a sensor classifier, scored without sensors, its rows for the fusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models._members import Member
from models._transfer import Generator
from models.finetuned_generator import FinetunedGenerator
from pipeline import registry
from pipeline.errors import UserError
from tests.models.test_self_learning_fusion import QUICK, TEACHER, Lacking, table_of

torch.set_num_threads(1)


def recipe_of(**fields: object) -> FinetunedGenerator:
    """Without a network below: rows are taken as they are."""
    settings = {"stages": ("video",), "sensor": "sensor", "teacher": TEACHER, "epochs": 12, "lr": 0.003, **fields}
    made = registry.create("model", "finetuned_generator", settings).adapted({})
    assert isinstance(made, FinetunedGenerator)
    return made


def test_it_has_the_sources_training_and_loss() -> None:
    recipe = FinetunedGenerator()
    assert (recipe.alpha, recipe.beta, recipe.lr, recipe.beta1, recipe.batch_size, recipe.epochs) == (100, 30, 1e-4, 0.5, 16, 150)
    assert (recipe.dropout, recipe.hidden, recipe.head_epochs, recipe.backbone_rate, recipe.batch_norm) == (0.4, 128, 0, 1.0, "moving")
    assert recipe.aids == ("inertial",)
    outputs, batch = torch.randn(4, 3 + 256), table_of(4).gather(np.arange(4))
    plain = Generator(stages=("video",), sensor="sensor")
    torch.testing.assert_close(recipe_of().losses(outputs, batch), plain.losses(outputs, batch))


def test_it_learns_from_the_sensor_and_scores_without_it(tmp_path: Path) -> None:
    table = table_of(24, unpaired=6)
    table.stages = {**table.stages, "sensor": Lacking(dict(table.stages["sensor"].items()), (2,))}  # type: ignore[dict-item]
    paired = table.part({clip for clip in table.ids if clip in table.stages["sensor"]})
    taught: list[Any] = []

    class Watching:
        def whole(self, model: str, recipe: Any, seed: int) -> Any:
            taught.append(recipe.fit(paired.part(stages=recipe.stages), table_of(9, seed=1).part(stages=recipe.stages), "cpu"))
            return taught[0]

        def fold(self, model: str, recipe: Any, seed: int, held: Any) -> Any:
            raise AssertionError

    table.trainer = Watching()
    recipe = recipe_of(epochs=40)
    before = recipe.predictor({"video": 6}, 3)
    found: Any = recipe.fit(table, table_of(9, seed=1), "cpu")
    assert found.glimpses.teacher is None
    said = taught[0].module.get_submodule("head").state_dict()
    torch.testing.assert_close(found.glimpses.head[1].state_dict(), said)
    scored = table_of(9, seed=2).part(stages=["video"])
    batch = scored.gather(np.arange(9))
    logits = found.logits(batch)
    assert logits.shape == before.logits(batch).shape == (9, 3)
    assert (logits.argmax(1) == scored.labels).mean() > 0.8
    found.save(tmp_path)
    again = recipe.predictor({"video": 6}, 3)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.logits(batch), logits)


def test_what_it_generates_comes_near_what_the_sensor_says() -> None:
    """Nearer than what a network that was not taught gives."""
    recipe = recipe_of(epochs=40)
    teacher: list[Any] = []

    class Keeping:
        def whole(self, model: str, recipe: Any, seed: int) -> Any:
            teacher.append(recipe.fit(table_of(24).part(stages=recipe.stages), table_of(9, 1).part(stages=recipe.stages), "cpu"))
            return teacher[0]

        def fold(self, model: str, recipe: Any, seed: int, held: Any) -> Any:
            raise AssertionError

    train = table_of(24)
    train.trainer = Keeping()
    found: Any = recipe.fit(train, table_of(9, seed=1), "cpu")
    untaught: Any = recipe.predictor({"video": 6}, 3)
    batch = table_of(9, seed=2).gather(np.arange(9))
    with torch.inference_mode():
        felt = teacher[0].module.features(batch)
        apart = [(one.glimpses.head[0](one.glimpses.means(batch)) - felt).norm() for one in (found, untaught)]
    assert apart[0] < 0.7 * apart[1]


def test_the_fusion_generates_from_its_rows_and_watches_the_others() -> None:
    """`sensor` stands for the sensor, `video` for the classifier's rows, `generated` for those of the generator's I3D."""
    fields = {"stages": ("video", "generated"), "generator_stages": ("generated",), "sensor": "sensor", "teacher": TEACHER, **QUICK}
    dims = {"video": 6, "generated": 5, "sensor": 2}
    for name in ("self_learning_fusion", "self_learning_feature_fusion"):
        recipe = registry.create("model", name, fields).adapted({})
        assert recipe._generator().stages == ("generated",)
        assert recipe.classifier().stages == ("video",)
        widths = [part.inputs.width for part in recipe._student().build(dims, 3).modules() if hasattr(part, "inputs")]
        assert widths == ([5] if name == "self_learning_fusion" else [6, 5])
        train, val = (with_generated(table_of(count, seed)) for count, seed in ((24, 0), (9, 1)))
        found = recipe.fit(train, val, "cpu")
        scored = with_generated(table_of(9, seed=2)).part(stages=["video", "generated"])
        assert (found.logits(scored.gather(np.arange(9))).argmax(1) == scored.labels).mean() > 0.9


def with_generated(table: Any) -> Any:
    rows = {clip: values[:, :5] for clip, values in table.stages["video"].items()}
    table.stages = {**table.stages, "generated": type(table.stages["video"])(rows, (5,))}
    table.__post_init__()
    return table


@pytest.mark.parametrize("own", [("other",), ("video",)])
def test_stages_of_the_generator_that_are_not_some_of_the_stages_are_one_line(own: tuple[str, ...]) -> None:
    fields = {"stages": ("video",), "generator_stages": own, "sensor": "sensor", "teacher": TEACHER}
    with pytest.raises(UserError, match=rf"generator_stages={own[0]}: these are to be some of stages=video, and to leave the classifier"):
        registry.create("model", "self_learning_fusion", fields).adapted({})


def test_a_teacher_without_features_is_one_line() -> None:
    with pytest.raises(UserError, match="teacher=lstm_late: a teacher is to have features of 128 values; use inception_time"):
        recipe_of(teacher=Member(model="lstm_late"))
