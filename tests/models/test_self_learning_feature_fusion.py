"""The fusion of features: one MLP on the classifier's 128 values and the generated 128, trained on video and scored without sensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models._members import Member
from models.self_learning_feature_fusion import SelfLearningFeatureFusion
from pipeline.errors import UserError
from tests.models.test_self_learning_fusion import QUICK, TEACHER, table_of

torch.set_num_threads(1)


def recipe_of(**fields: object) -> SelfLearningFeatureFusion:
    settings = {"stages": ("video",), "sensor": "sensor", "teacher": TEACHER, **QUICK, "fusion_epochs": 12, **fields}
    made = SelfLearningFeatureFusion.model_validate(settings).adapted({})
    assert isinstance(made, SelfLearningFeatureFusion)
    return made


def test_one_mlp_reads_both_features_and_needs_no_sensor(tmp_path: Path) -> None:
    recipe = recipe_of()
    train = table_of(24)
    train.folder = tmp_path / "run"
    found: Any = recipe.fit(train, table_of(9, seed=1), "cpu")
    assert not list(tmp_path.glob("run/*/checkpoint.pt"))
    scored = table_of(9, seed=2).part(stages=["video"])
    batch = scored.gather(np.arange(9))
    logits = found.logits(batch)
    assert (logits.argmax(1) == scored.labels).mean() > 0.9
    classifier, generator = found.module.encoder.encoders
    seen: list[torch.Tensor] = []
    found.module.first.register_forward_hook(lambda _, values, __: seen.append(values[0]))
    found.logits(batch)
    with torch.inference_mode():
        torch.testing.assert_close(seen[0], torch.cat([classifier(batch), generator(batch)], 1))
    assert seen[0].shape == (9, 256)
    found.save(tmp_path)
    again = recipe.predictor({"video": 6}, 3)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.logits(batch), logits)


def test_both_encoders_are_those_that_were_trained_and_stay_as_they_are(tmp_path: Path) -> None:
    """The classifier's is that of its own training, not another that starts at random."""
    recipe = recipe_of(fusion_epochs=3)
    generated, classified = (recipe.generating(table_of(24), table_of(9, seed=1), "cpu") for _ in range(2))
    torch.testing.assert_close(generated.state_dict(), classified.state_dict())
    found: Any = recipe.fit(table_of(24), table_of(9, seed=1), "cpu")
    torch.testing.assert_close(found.module.encoder.encoders[1].state_dict(), generated.state_dict())
    video = recipe.classifier().fit(table_of(24).part(stages=["video"]), table_of(9, seed=1).part(stages=["video"]), "cpu")
    torch.testing.assert_close(found.module.encoder.encoders[0].state_dict(), video.module.get_submodule("encoder").state_dict())


def test_it_has_the_sources_sizes_and_training() -> None:
    student = SelfLearningFeatureFusion()._student()
    assert (student.batch_size, student.epochs, student.lr) == (8, 150, 1e-3)
    module = student.build({"i3d": 1024}, 27)
    mlp = (256 * 1024 + 1024) + 2 * 1024 + (1024 * 512 + 512) + (512 * 27 + 27)
    assert sum(values.numel() for values in module.parameters() if values.requires_grad) == mlp
    assert sum(values.numel() for values in module.parameters()) == mlp + 2 * 1025 * 128


def test_a_video_model_of_another_kind_is_one_line() -> None:
    with pytest.raises(UserError, match="video=bilstm_attention: features are fused with those of the model's own classifier; leave video"):
        recipe_of(video=Member(model="bilstm_attention"))
