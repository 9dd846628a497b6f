"""Models made of models: members are trained once, never on what they describe, and come back from the folder of the whole."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from models._boosting import pooled
from models._members import Member
from models.late_fusion import LateFusion, mixture
from models.xgb_meta import XgbMeta
from pipeline import registry
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.mixing import probabilities
from pipeline.learning.recipe import Predictor, Recipe, Training
from pipeline.runs.run_folder import Run
from pipeline.runs.training import evaluate, train
from pipeline.types import Array

torch.set_num_threads(1)
TINY = {"stages": ("resnet50",), "epochs": 3, "batch_size": 8, "lr": 0.003}
LSTM = Member(model="lstm_late", settings={**TINY, "hidden": 8, "normalize": "none"})
ATTENTION = Member(model="bilstm_attention", settings={**TINY, "hidden": 8})
FUSION = "lstm_late:stages=resnet50:epochs=3:hidden=8:normalize=none,bilstm_attention:stages=resnet50:epochs=3:hidden=8"
Fixture = tuple[Home, Manifest]


def run_of(signs: Fixture, model: str, settings: dict[str, str], seed: int = 1, **options: Any) -> Run:
    return train(*signs, model, settings, seed=seed, device="cpu", **options)


def runs_of(signs: Fixture, model: str) -> list[Path]:
    return sorted((signs[0].cache / "runs" / "signs" / model).glob("*"))


def test_a_member_is_said_as_text_with_its_settings_and_seed() -> None:
    member = Member.model_validate("bilstm_attention:stages=skeleton+inertial:hidden=64:seed=3")
    assert (member.model, member.seed) == ("bilstm_attention", 3)
    full = member.adapted({"bilstm_attention": {"hidden": 32, "lr": 0.5, "dropout": 0.1}})
    assert full.recipe.stages == ("skeleton", "inertial")
    assert full.settings["hidden"] == 64
    assert (full.settings["lr"], full.settings["dropout"]) == (0.5, 0.1)
    with pytest.raises(UserError, match="'hidden' is no setting; as in bilstm_attention:stages=a"):
        Member.model_validate("bilstm_attention:hidden")
    with pytest.raises(UserError, match="no model called 'bilstm'"):
        registry.create("model", "late_fusion", {"members": "bilstm"}).adapted({})


def test_an_ensemble_reads_the_stages_of_its_members() -> None:
    recipe = registry.create("model", "late_fusion", {"members": "inception_time:stages=a,bilstm_attention:stages=b+a"}).adapted({})
    assert recipe.stages == ("a", "b")
    again = registry.create("model", "late_fusion", json.loads(json.dumps(recipe.model_dump(mode="json"))))
    assert again.adapted({"inception_time": {"lr": 0.7}}) == again == recipe
    with pytest.raises(UserError, match="an ensemble reads the stages of its members, here inertial,holistic"):
        LateFusion(stages=("a",)).adapted({})
    with pytest.raises(UserError, match="an ensemble needs members"):
        LateFusion(members=()).adapted({})


def test_the_sum_of_softmaxes_is_that_of_the_members_runs_which_are_reused(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    alone = run_of(signs, "lstm_late", {"stages": "resnet50", "epochs": "3", "hidden": "8", "normalize": "none"})
    fused = run_of(signs, "late_fusion", {"members": FUSION})
    assert f"finished before: {alone.folder}" in capsys.readouterr().err
    assert runs_of(signs, "lstm_late") == [alone.folder]
    assert len(runs_of(signs, "bilstm_attention")) == 1
    assert fused.record["settings"]["stages"] == ["resnet50"]
    assert {"models/lstm_late.py", "models/bilstm_attention.py", "models/late_fusion.py"} <= fused.record["code"].keys()
    assert evaluate(signs[0], fused.folder, "test", device="cpu")["top1"] == fused.scores["top1"]
    other = run_of(signs, "late_fusion", {"members": FUSION}, seed=2)
    assert len(runs_of(signs, "lstm_late")) == 2
    assert other.folder != fused.folder


def test_a_run_folder_is_a_member(signs: Fixture) -> None:
    alone = run_of(signs, "lstm_late", {"stages": "resnet50", "epochs": "3", "hidden": "8"}, seed=5)
    fused = run_of(signs, "late_fusion", {"members": f"{alone.folder},bilstm_attention:stages=resnet50:epochs=2:hidden=8"})
    assert fused.record["settings"]["members"][0]["seed"] == 5
    assert runs_of(signs, "lstm_late") == [alone.folder]


class Said:
    """A predictor of fixed logits."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def logits(self, batch: Batch) -> Array:
        return self.values

    @property
    def parameters(self) -> int:
        return 0

    def network(self) -> nn.Module:
        raise NotImplementedError

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def test_the_score_is_the_logarithm_of_the_mean_probability(signs: Fixture) -> None:
    from models.late_fusion import Fused

    random = np.random.default_rng(0)
    one, other = (random.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
    batch = Batch(("a",), {}, {}, torch.zeros(1))
    found = Fused([Said(one), Said(other)], np.array([0.5, 0.5])).logits(batch)
    np.testing.assert_allclose(np.exp(found), (softmax(one, 1) + softmax(other, 1)) / 2, rtol=1e-5)


def test_learned_weights_are_those_of_the_likeliest_mixture() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    good = softmax(random.normal(size=(300, 3)) + 3 * np.eye(3)[labels], 1)
    noise = softmax(3 * random.normal(size=(300, 3)), 1)
    weights = mixture(np.stack([good, noise]), labels)
    assert weights.sum() == pytest.approx(1)
    shares = np.linspace(0.01, 0.99, 99)
    likelihood = [np.log(share * good[range(300), labels] + (1 - share) * noise[range(300), labels]).sum() for share in shares]
    assert weights[0] == pytest.approx(shares[int(np.argmax(likelihood))], abs=0.02)


@dataclass
class Watching:
    """Trains as asked and remembers what was held back."""

    table: Training
    val: Training
    held: list[tuple[str, frozenset[str]]] = field(default_factory=list)

    def whole(self, model: str, recipe: Recipe, seed: int) -> Predictor:
        raise AssertionError("no member may see all training clips")

    def fold(self, model: str, recipe: Recipe, seed: int, held: Collection[str]) -> Predictor:
        self.held.append((model, frozenset(held)))
        part = self.table.part([clip for clip in self.table.ids if clip not in held])
        return recipe.fit(part, self.val, "cpu")


def tables(lengths: int = 18) -> tuple[XgbMeta, Training, Training]:
    from pipeline.testing.models import table_of

    recipe = XgbMeta(members=(LSTM, ATTENTION), stages=("resnet50",), folds=3, rounds=12, eta=0.3, max_depth=3)
    train, val = table_of(recipe, [3 + i % 4 for i in range(lengths)]), table_of(recipe, [3, 4, 5, 6, 7, 4], seed=1)
    train.groups = tuple(f"signer{i // 3 % 4}" for i in range(lengths))
    return recipe, train, val


def test_no_clip_is_described_by_a_member_that_saw_it_or_its_signer() -> None:
    recipe, train, val = tables()
    watching = Watching(train, val)
    train.trainer = watching
    recipe.fit(train, val, "cpu")
    for name in ("lstm_late", "bilstm_attention"):
        held = [ids for model, ids in watching.held if model == name]
        assert len(held) == 3
        assert sorted(clip for ids in held for clip in ids) == sorted(train.ids)
        signers = [{train.groups[train.ids.index(clip)] for clip in ids} for ids in held]
        assert sum(map(len, signers)) == len(set.union(*signers)) == 4


def test_a_clip_that_did_not_train_is_described_by_the_mean_of_the_fold_models() -> None:
    recipe, train, val = tables()
    stacked: Any = recipe.fit(train, val, "cpu")
    batch = val.gather(np.arange(4))
    shares = probabilities(stacked.models, batch)
    assert shares.shape == (6, 4, 3)
    expected = np.concatenate([shares[0::2].mean(0), shares[1::2].mean(0)], 1)
    np.testing.assert_allclose(stacked.described(batch), expected)
    assert stacked.logits(batch).shape == (4, 3)


def test_nothing_is_chosen_on_validation_clips_that_a_member_learned_from() -> None:
    recipe, train, val = tables()
    learned = Member(model="lstm_late", settings={**LSTM.settings, "best_by": "last", "learn": "all"})
    with pytest.raises(
        UserError, match=r"patience=30 goes by the validation clips, and member 'lstm_late' learned from them \(learn=all\); set patience=0"
    ):
        recipe.model_copy(update={"members": (learned,)}).fit(train, val, "cpu")
    with pytest.raises(UserError, match=r"combine=learned goes by the validation clips.*; set combine=sum, or learn=train for the member"):
        LateFusion(members=(learned,), stages=("resnet50",), combine="learned").fit(train, val, "cpu")
    stacked = recipe.model_copy(update={"members": (learned,), "patience": 0}).fit(train, val, "cpu")
    assert stacked.logits(val.gather(np.arange(2))).shape == (2, 3)


def test_trees_that_start_from_the_members_correct_their_mean() -> None:
    recipe, train, val = tables()
    stacked: Any = recipe.model_copy(update={"start": "members", "rounds": 1, "eta": 1e-6, "patience": 0}).fit(train, val, "cpu")
    batch = val.gather(np.arange(4))
    mean = probabilities(stacked.models, batch).mean(0)
    np.testing.assert_allclose(np.exp(stacked.logits(batch)), mean, atol=1e-4)
    grown: Any = recipe.model_copy(update={"start": "members", "patience": 0}).fit(train, val, "cpu")
    assert np.abs(np.exp(grown.logits(batch)) - mean).max() > 0.01


@pytest.mark.parametrize("pooling", ["none", "mean"])
def test_a_booster_and_its_fold_models_come_back_from_their_folder(tmp_path: Path, pooling: str) -> None:
    recipe, train, val = tables()
    recipe = recipe.model_copy(update={"pooled": pooling})
    first = recipe.fit(train, val, "cpu")
    first.save(tmp_path)
    assert "learner" in json.loads((tmp_path / "booster.json").read_text())
    second = recipe.predictor(train.dims, 3)
    second.load(tmp_path)
    batch = val.gather(np.arange(6))
    np.testing.assert_array_equal(first.logits(batch), second.logits(batch))


def test_pooled_values_are_mean_and_deviation_of_real_rows() -> None:
    rows = torch.full((2, 5, 2), float("nan"))
    rows[0, :3] = torch.tensor([[1.0, 2], [3, 4], [5, 9]])
    found = pooled(Batch(("a", "b"), {"s": rows}, {"s": torch.tensor([3, 0])}, torch.zeros(2)), ["s"])
    np.testing.assert_allclose(found[0], np.array([3, 5, np.std([1, 3, 5]), np.std([2, 4, 9])]), rtol=1e-6)
    assert not found[1].any()


def test_folds_that_cannot_be_are_one_line() -> None:
    _, train, _ = tables()
    train.groups = ("anna",) * len(train)
    with pytest.raises(UserError, match="folds need two groups of training clips or more, and all are of 'anna'"):
        XgbMeta(members=(LSTM,)).fit(train, train, "cpu")


def test_base_runs_are_runs_of_their_own_found_again_and_never_read_the_test_clips(
    signs: Fixture, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"members": FUSION, "folds": "2", "rounds": "8", "eta": "0.3"}
    first = run_of(signs, "xgb_meta", settings)
    bases = runs_of(signs, "lstm_late")
    assert len(bases) == 2
    for folder in bases:
        result = json.loads((folder / "result.json").read_text())
        assert result["n"] == 9
        assert json.loads((folder / "run.json").read_text())["clips"] == {"train": 9, "val": 6, "test": 9}
    capsys.readouterr()
    second = run_of(signs, "xgb_meta", {**settings, "max_depth": "3"})
    assert second.folder != first.folder
    assert runs_of(signs, "lstm_late") == bases
    assert capsys.readouterr().err.count("finished before") == 4
    assert evaluate(signs[0], first.folder, "test", device="cpu")["top1"] == first.scores["top1"]


def test_the_booster_has_what_the_source_states() -> None:
    recipe = XgbMeta()
    found = (recipe.eta, recipe.max_depth, recipe.subsample, recipe.colsample_bytree, recipe.reg_lambda, recipe.reg_alpha)
    assert found == (0.01, 7, 0.8, 0.9, 0.5, 0.2)


@pytest.mark.parametrize("kind", ["late_fusion", "xgb_meta"])
def test_padding_never_reaches_the_score_of_an_ensemble(kind: str) -> None:
    from pipeline.testing.models import with_padding

    recipe, train_table, val = tables()
    made: Recipe = recipe if kind == "xgb_meta" else LateFusion(members=(LSTM, ATTENTION), stages=("resnet50",))
    made = made.model_copy(update={"pooled": "mean"}) if kind == "xgb_meta" else made
    predictor, batch = made.fit(train_table, val, "cpu"), val.gather(np.arange(6))
    np.testing.assert_allclose(predictor.logits(with_padding(batch, float("nan"))), predictor.logits(batch), rtol=1e-4)
