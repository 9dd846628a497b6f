"""The self-learning fusion: what teaches, what is generated, and that sensors are read in training only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import cross_entropy, huber_loss

from models._members import Member
from models._transfer import Generator, Student, VideoEncoder
from models.inception_time import InceptionTime
from models.self_learning_fusion import SelfLearningFusion
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.recipe import Training
from pipeline.runs.training import evaluate, train
from pipeline.testing.models import Rows
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
TEACHER = Member(model="inception_time", settings={"epochs": 3, "filters": 32, "steps": 8, "kernel": 4, "modules": 3})
QUICK = {"mlp_hidden": (16, 8), "epochs": 12, "generator_epochs": 8, "generator_lr": 0.003, "lr": 0.01, "normalize": "train"}


def recipe_of(**fields: object) -> SelfLearningFusion:
    made = SelfLearningFusion.model_validate({"stages": ("video",), "sensor": "sensor", "teacher": TEACHER, **QUICK, **fields}).adapted({})
    assert isinstance(made, SelfLearningFusion)
    return made


def table_of(count: int, seed: int = 0, *, unpaired: int = 0) -> Training:
    """Clips whose video and sensor rows tell their class; the last `unpaired` ones have no sensor rows."""
    random, labels = np.random.default_rng(seed), np.arange(count) % 3
    ids = tuple(f"clip{number}" for number in range(count))
    stages = {}
    for stage, width in (("video", 6), ("sensor", 2)):
        centres = np.random.default_rng(width).normal(size=(3, width))
        rows = {
            clip: (centres[label] + 0.3 * random.normal(size=(3 + number % 4, width))).astype(np.float32)
            for number, (clip, label) in enumerate(zip(ids, labels, strict=True))
            if stage == "video" or number < count - unpaired
        }
        stages[stage] = Rows(rows, (width,))
    return Training(ids, labels.astype(np.int64), ("a", "b", "c"), stages, seed)  # type: ignore[arg-type]


class Lacking(Rows):
    """Rows that a clip may lack, as the reader gives those of an aid."""

    def length(self, clip: str) -> int:
        return len(self[clip]) if clip in self else 0

    def __getitem__(self, clip: str) -> Any:
        return super().__getitem__(clip) if clip in self else np.empty((0, *self.row_shape), self.dtype)


def test_the_score_is_the_sum_of_two_softmaxes_that_need_no_sensor(tmp_path: Path) -> None:
    recipe = recipe_of()
    found: Any = recipe.fit(table_of(24), table_of(9, seed=1), "cpu")
    scored = table_of(9, seed=2).part(stages=["video"])
    batch = scored.gather(np.arange(9))
    logits = found.logits(batch)
    assert (logits.argmax(1) == scored.labels).mean() > 0.9
    parts = [softmax(member.logits(batch), 1) for member in found.models]
    np.testing.assert_allclose(np.exp(logits), sum(parts) / 2, rtol=1e-4)
    found.save(tmp_path)
    again = recipe.predictor({"video": 6}, 3)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.logits(batch), logits)


def test_a_clip_without_sensor_rows_trains_the_video_side_only() -> None:
    table = table_of(24, unpaired=6)
    table.stages = {**table.stages, "sensor": Lacking(dict(table.stages["sensor"].items()), (2,))}  # type: ignore[dict-item]
    seen: list[int] = []

    class Watching:
        def whole(self, model: str, recipe: Any, seed: int) -> Any:
            part = table.part({clip for clip in table.ids if clip in table.stages["sensor"]}, recipe.stages)
            seen.append(len(part))
            return recipe.fit(part, table_of(9, seed=1).part(stages=recipe.stages), "cpu")

        def fold(self, model: str, recipe: Any, seed: int, held: Any) -> Any:
            raise AssertionError

    table.trainer = Watching()
    recipe_of(epochs=1, generator_epochs=1).fit(table, table_of(9, seed=1), "cpu")
    assert seen == [18]


def test_the_generators_loss_is_the_sources() -> None:
    generator = Generator(stages=("video",), sensor="sensor")
    outputs = torch.randn(3, 5 + 256)
    labels, lengths = torch.tensor([0, 4, 2]), torch.tensor([7, 0, 3])
    batch = Batch(("a", "b", "c"), {}, {"sensor": lengths}, labels)
    said, seen, felt = outputs[:, :5], outputs[:, 5:133], outputs[:, 133:]
    for clip, paired in enumerate([1, 0, 1]):
        apart = huber_loss(seen[clip], felt[clip]) + (seen[clip].norm() - felt[clip].norm()).abs()
        expected = 100 * paired * apart + 30 * cross_entropy(said[clip : clip + 1], labels[clip : clip + 1])
        torch.testing.assert_close(generator.losses(outputs, batch)[clip], expected)
    torch.testing.assert_close(generator.scores(outputs), said)


def test_the_generator_learns_by_adam_with_the_sources_beta_and_leaves_its_teacher_as_it_is() -> None:
    teacher = InceptionTime(stages=("sensor",), modules=3, steps=8).build({"sensor": 2}, 3)
    generator = Generator(stages=("video",), sensor="sensor").taught(teacher)
    module = generator.build({"video": 6, "sensor": 2}, 3).train()
    optimizer = generator.optimise(module)
    assert optimizer.param_groups[0]["betas"] == (0.5, 0.999)
    learning = {values for values in optimizer.param_groups[0]["params"] if values.requires_grad}
    assert learning == set(module.get_submodule("encoder").parameters())
    before = {name: values.clone() for name, values in teacher.state_dict().items()}
    batch = table_of(6).gather(np.arange(6))
    torch.autograd.backward(generator.losses(module(batch), batch).mean())
    optimizer.step()
    assert all(torch.equal(values, before[name]) for name, values in teacher.state_dict().items())


def test_it_has_the_sources_sizes_and_training() -> None:
    recipe = SelfLearningFusion()
    assert (recipe.alpha, recipe.beta, recipe.generator_lr, recipe.generator_beta1) == (100, 30, 1e-4, 0.5)
    assert (recipe.batch_size, recipe.epochs, recipe.lr, recipe.slope, recipe.dropout) == (16, 100, 1e-3, 0.2, 0.4)
    assert (recipe.generator_batch_size, recipe.generator_epochs) == (16, 150)
    student = Student(stages=("i3d",)).build({"i3d": 1024}, 27)
    mlp = (128 * 1024 + 1024) + 2 * 1024 + (1024 * 512 + 512) + (512 * 27 + 27)
    assert sum(values.numel() for values in student.parameters() if values.requires_grad) == mlp
    encoder = VideoEncoder(Student(stages=("i3d",)), {"i3d": 1024})
    assert sum(values.numel() for values in encoder.parameters()) == 1025 * 128
    whole = recipe.predictor({"i3d": 1024}, 27)
    # the frozen encoder predicts too, beside the video classifier: 128 values, then classes
    assert whole.parameters == mlp + 1025 * 128 + (1025 * 128 + 129 * 27)


def test_the_video_classifier_has_the_end_of_the_sources_i3d() -> None:
    """Average pool, dropout 0.4, 128 values, classes: nothing between the two layers."""
    recipe = recipe_of(normalize="none", encoder_dropout=0.4)
    module: Any = recipe.classifier().build({"video": 6}, 3)
    dropped = [part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)]
    assert (dropped, SelfLearningFusion().encoder_dropout) == ([0.4], 0.4)
    batch = table_of(4).part(stages=["video"]).gather(np.arange(4))
    with torch.inference_mode():
        means = torch.stack([rows[:n].mean(0) for rows, n in zip(batch.features["video"], batch.lengths["video"].tolist(), strict=True)])
        values = means @ module.encoder.project.weight.T + module.encoder.project.bias
        assert values.shape == (4, 128)
        torch.testing.assert_close(module.eval()(batch), values @ module.head.weight.T + module.head.bias)


def test_its_own_networks_may_keep_their_last_weights_and_learn_from_every_clip() -> None:
    recipe = recipe_of(best_by="last", learn="all", schedule="cosine", warmup=2, motion=2.0)
    for part in (recipe._generator(), recipe._student()):
        assert (part.best_by, part.learn, part.schedule, part.warmup, part.motion) == ("last", "all", "cosine", 2, 2.0)
    assert (recipe_of()._generator().best_by, recipe_of()._student().best_by) == ("loss", "top1")
    with pytest.raises(UserError, match="learn=all leaves no clips to select weights on"):
        recipe_of(learn="all")


def test_a_last_batch_of_one_clip_trains() -> None:
    student = Student(stages=("video",), hidden=(8, 4)).build({"video": 6}, 3).train()
    assert student(table_of(1).part(stages=["video"]).gather(np.arange(1))).isfinite().all()


def test_padding_never_reaches_its_logits() -> None:
    for encoder in ("linear", "bilstm"):
        student = Student(stages=("video",), encoder=encoder, normalize="clip").build({"video": 6}, 3).eval()
        batch = table_of(4).part(stages=["video"]).gather(np.arange(4))
        wider = torch.full((4, 12, 6), float("nan"))
        for own, rows, length in zip(wider, batch.features["video"], batch.lengths["video"].tolist(), strict=True):
            own[:length] = rows[:length]
        with torch.inference_mode():
            torch.testing.assert_close(student(Batch(batch.ids, {"video": wider}, batch.lengths, batch.labels)), student(batch))


def test_what_cannot_be_is_one_line() -> None:
    with pytest.raises(UserError, match="the sensor stage 'video' teaches and is not to be read as video"):
        recipe_of(sensor="video")
    with pytest.raises(UserError, match="teacher=lstm_late: a teacher is to have features of 128 values; use inception_time"):
        recipe_of(teacher=Member(model="lstm_late"))


def test_in_a_run_the_sensor_aids_where_a_clip_has_it_and_scoring_reads_video_alone(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    sensor = signals(table, width=1024, seed=3)
    for clip in ("sign0/train0", "sign1/train1", "sign2/test0"):
        del sensor[clip]
    publish(home, table, sensor, stage="i3d")
    settings = {"stages": "resnet50", "sensor": "i3d", "epochs": "2", "generator_epochs": "2", "mlp_hidden": "8,4"}
    settings |= {"jitter": "0.1", "teacher": "inception_time:epochs=2:steps=8", "video": "lstm_late:epochs=2:hidden=8:normalize=none"}
    run = train(home, table, "self_learning_fusion", settings, seed=1, device="cpu")
    assert run.record["clips"] == {"train": 18, "val": 6, "test": 6}
    assert set(run.record["stages"]) == {"resnet50", "i3d"}
    teachers = list((home.cache / "runs" / "signs" / "inception_time").glob("*/run.json"))
    assert len(teachers) == 1
    assert '"train": 16' in teachers[0].read_text()
    assert not list(run.folder.glob("*/checkpoint.pt"))
    assert evaluate(home, run.folder, "test", device="cpu")["top1"] == run.scores["top1"]
    alone = {"stages": "resnet50", "epochs": "2", "hidden": "8", "normalize": "none"}
    same = train(home, table, "lstm_late", alone, seed=1, device="cpu").folder
    assert list((home.cache / "runs" / "signs" / "lstm_late").glob("*")) == [same]
