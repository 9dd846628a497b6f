"""Sensors teach a video model: the whole of ngoctuhan/Sign-Language-Recognition-with-Self-learning-Fusion-Models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import NonNegativeInt, PositiveInt
from torch import nn

from models._members import Member, trainer_of
from models._transfer import Classifier, Generator, Seeing, Student
from models.late_fusion import Fused
from pipeline.errors import UserError
from pipeline.layouts import Layout
from pipeline.learning.augment import Augmentation
from pipeline.learning.fitting import CHECKPOINT
from pipeline.learning.learner import Fraction, NonNegative, Positive
from pipeline.learning.network import Network, NetworkPredictor
from pipeline.learning.recipe import Between, Predictor, Recipe, Space, Training
from pipeline.learning.schedule import Kind as Schedule


class SelfLearningFusion(Augmentation, Recipe):
    """Video rows `(B, T, D)` -> softmax of a video classifier + softmax of an MLP on generated sensor features -> `(B, C)`.

    1. `teacher`: a sensor classifier on the clips that have sensor rows (InceptionTime: Adam 1e-3, batches of 8, 100 epochs).
    2. Generator: video -> its 128-d feature space; loss `100 * (Huber + | norm - norm |) + 30 * CE(sensor head)`, Adam 1e-4 with
       beta1 0.5, batches of 16, 150 epochs.
    3. The MLP on generated features: 1024, BN, LeakyReLU 0.2, dropout 0.4, 512; Adam 1e-3, batches of 16, 100 epochs.
    4. The video classifier: dropout 0.4, 128 values, classes; the score is the sum of both softmaxes.
    The sensor stage is read in training only, and a clip may lack it. Published: VSL 87.1 %, UTD-MHAD 91.9 %, Berkeley MHAD 95.6 %
    (Two-Stream I3D, of RGB and flow, 84.6, 90.3, 92.1; RGB alone has no figure). The fusion of features in place of scores is
    `self_learning_feature_fusion`.

    What differs: the source trains two I3D on the corpus, one as classifier, one as generator; here video features are cached rows,
    those of an I3D that `signcache finetune` trained where you say so, or of two (`generator_stages`), and classifier and generator
    are what stands on them: `encoder=linear`, the end of the source's I3D, or `bilstm`. Its code takes the cross entropy of the *real*
    sensor features, which sends the generator no gradient; ours takes that of the generated ones, as its paper says. Norms are compared
    clip by clip, where its code compares those of the batch. It selects every network on the test side, this one on validation. VSL has
    5,714 training and 2,215 test clips in its lists, 5,813 and 2,214 in its README.
    `video` names another model as the classifier, as in `--set video=bilstm_attention`; it is then the same run as that model's alone.
    Augmentation is of the generator, the MLP and the encoder's own classifier; teacher and named video model have theirs among their
    settings.
    """

    space: ClassVar[Space] = {
        "beta": Between(3.0, 300.0, log=True),
        "generator_lr": Between(1e-5, 1e-3, log=True),
        "lr": Between(1e-4, 3e-3, log=True),
        "dropout": Between(0.2, 0.6),
    }

    stages: tuple[str, ...] = ("i3d",)
    generator_stages: tuple[str, ...] = ()
    """Of `stages`, those that the generator reads, as rows of an I3D trained as one (`finetuned_generator`); the classifier reads the
    others. None: both read all."""
    sensor: str = "inertial"
    teacher: Member = Member(model="inception_time")
    video: Member | None = None
    """None: an encoder with a layer of classes, trained like the MLP."""
    encoder: Literal["linear", "bilstm"] = "linear"
    encoder_hidden: PositiveInt = 128
    encoder_dropout: Fraction = 0.4
    normalize: Literal["none", "train", "clip"] = "none"
    frames: NonNegativeInt = 0
    motion: NonNegative = 0.0
    schedule: Schedule = "constant"
    warmup: NonNegativeInt = 0
    best_by: Literal["top1", "last"] = "top1"
    """Of the MLP and the encoder's classifier; the generator goes by its loss. `last`: all three keep their last weights."""
    learn: Literal["train", "all"] = "train"
    """As in any network, for these three; teacher and named video model have their own."""
    alpha: NonNegative = 100.0
    beta: NonNegative = 30.0
    generator_lr: Positive = 1e-4
    generator_beta1: Fraction = 0.5
    generator_batch_size: PositiveInt = 16
    generator_epochs: PositiveInt = 150
    lr: Positive = 1e-3
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 100
    mlp_hidden: tuple[PositiveInt, PositiveInt] = (1024, 512)
    slope: NonNegative = 0.2
    dropout: Fraction = 0.4

    @property
    def aids(self) -> tuple[str, ...]:
        return (self.sensor,)

    @property
    def parts(self) -> tuple[Recipe, ...]:
        return (self.teacher.recipe, *([self.video.recipe] if self.video else []))

    def adapted(self, training: Mapping[str, Mapping[str, Any]]) -> Recipe:
        if self.sensor in self.stages:
            raise UserError(f"the sensor stage {self.sensor!r} teaches and is not to be read as video; name others: --set stages=a,b")
        if not (set(self.generator_stages) <= set(self.stages) and self.watched):
            said, own = ",".join(self.generator_stages), ",".join(self.stages)
            raise UserError(f"generator_stages={said}: these are to be some of stages={own}, and to leave the classifier others")
        video = self.video and _with_stages(self.video, self.watched).adapted(training)
        teacher = teaching(self.teacher, self.sensor, training)
        self._student()  # what its networks refuse is said before anything is trained
        return self.model_copy(update={"teacher": teacher, "video": video})

    def check(self, layouts: Mapping[str, Layout | None]) -> None:
        for recipe in (self._generator(), self.classifier()):
            recipe.check(layouts)
        super().check(layouts)

    @property
    def generated(self) -> tuple[str, ...]:
        """The stages of the generator."""
        return self.generator_stages or self.stages

    @property
    def watched(self) -> tuple[str, ...]:
        """The stages of the classifier."""
        return tuple(stage for stage in self.stages if stage not in self.generator_stages)

    def _seeing(self, stages: tuple[str, ...]) -> dict[str, Any]:
        """The settings of whatever looks at these stages of the video."""
        return {**{field: getattr(self, field) for field in Seeing.model_fields if field in type(self).model_fields}, "stages": stages}

    def _last(self, stages: tuple[str, ...]) -> dict[str, Any]:
        return {**self._seeing(stages), "lr": self.lr, "batch_size": self.batch_size, "epochs": self.epochs}

    def _generator(self) -> Generator:
        rates = {"lr": self.generator_lr, "batch_size": self.generator_batch_size, "epochs": self.generator_epochs}
        loss = {"alpha": self.alpha, "beta": self.beta, "beta1": self.generator_beta1}
        best_by = "last" if self.best_by == "last" else "loss"
        return Generator(**{**self._seeing(self.generated), **rates, **loss, "best_by": best_by}, sensor=self.sensor)

    def _student(self) -> Student:
        return Student(**self._last(self.generated), hidden=self.mlp_hidden, slope=self.slope, dropout=self.dropout)

    def fit(self, train: Training, val: Training, device: str) -> Predictor:
        encoder = self.generating(train, val, device)
        student = fitted("student", self._student().looking(encoder), train.part(stages=self.generated), val, device)
        video: Predictor
        if self.video:
            video = trainer_of(train, val, device).whole(self.video.model, self.video.recipe, _seed(self.video, train))
        else:
            video = fitted("video", self.classifier(), train.part(stages=self.watched), val, device)
        forget_checkpoints(train)
        return Fused([video, student], np.full(2, 0.5))

    def classifier(self) -> Classifier:
        """That of the video alone."""
        return Classifier(**self._last(self.watched))

    def generating(self, train: Training, val: Training, device: str) -> nn.Module:
        """The encoder that generates sensor features, taught by the sensor classifier."""
        every = train.part(stages=(*self.generated, self.sensor))
        generator = fitted("generator", self._generator().taught(taught_teacher(self.teacher, train, val, device)), every, val, device)
        return generator.module.get_submodule("encoder").cpu()

    def predictor(self, dims: Mapping[str, int], n_classes: int, device: str = "cpu") -> Predictor:
        video = self.video.recipe if self.video else self.classifier()
        return Fused([video.predictor(dims, n_classes, device), self._student().predictor(dims, n_classes, device)], np.full(2, 0.5))


def teaching(teacher: Member, sensor: str, training: Mapping[str, Mapping[str, Any]]) -> Member:
    """A teacher with the settings that a corpus has for it, on this stage; raises UserError where it has no features to teach."""
    found = _with_stages(teacher, (sensor,)).adapted(training)
    if not hasattr(found.recipe.build({sensor: 1}, 2), "features"):
        raise UserError(f"teacher={found.model}: a teacher is to have features of 128 values; use inception_time")
    return found


def taught_teacher(teacher: Member, train: Training, val: Training, device: str) -> nn.Module:
    """The sensor classifier, trained on the clips that have its rows, on the CPU."""
    found: Any = trainer_of(train, val, device).whole(teacher.model, teacher.recipe, _seed(teacher, train))
    module: nn.Module = found.module.cpu()
    return module


def _with_stages(member: Member, stages: tuple[str, ...]) -> Member:
    return Member(model=member.model, settings={**member.settings, "stages": stages}, seed=member.seed)


def _seed(member: Member, train: Training) -> int:
    return train.seed if member.seed is None else member.seed


def forget_checkpoints(train: Training) -> None:
    """Of the parts of a training that has ended."""
    for checkpoint in train.folder.glob(f"*/{CHECKPOINT}") if train.folder else ():
        checkpoint.unlink(missing_ok=True)


def fitted(name: str, recipe: Network, train: Training, val: Training, device: str) -> NetworkPredictor:
    """A network of its own folder in that of the run, so that a killed training goes on where it was."""
    folder = None if train.folder is None else train.folder / name
    return recipe.fit(train.part(folder=folder), val.part(stages=tuple(train.stages)), device)


model: type[Recipe] = SelfLearningFusion
