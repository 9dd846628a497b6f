"""Trees on pooled rows: what they read, what they learn, and that they come back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import xgboost

from models._boosting import pooled
from models.xgb import Xgb
from pipeline import registry
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.runs.training import evaluate, train
from pipeline.testing.models import table_of, with_padding

torch.set_num_threads(1)
LENGTHS = [3 + number % 5 for number in range(30)]
QUICK = {"eta": 0.3, "max_depth": 2, "rounds": 20}


def test_it_has_what_the_source_states() -> None:
    recipe = Xgb()
    assert (recipe.rounds, recipe.eta, recipe.max_depth, recipe.subsample, recipe.colsample_bytree) == (200, 0.01, 7, 0.8, 0.9)
    assert (recipe.reg_lambda, recipe.reg_alpha) == (0.5, 0.2)
    assert "claim" in str(Xgb.__doc__)


def test_each_segment_of_a_clip_is_pooled_by_itself() -> None:
    rows = torch.full((2, 6, 1), float("nan"))
    rows[0, :5, 0] = torch.tensor([1.0, -3, 7, 2, 4])
    batch = Batch(("a", "b"), {"s": rows}, {"s": torch.tensor([5, 0])}, torch.zeros(2))
    found = pooled(batch, ["s"], ("mean", "minimum", "maximum", "deviation"), 2)
    first, second = [1.0, -3], [7.0, 2, 4]
    expected = [value for part in (first, second) for value in (float(np.mean(part)), min(part), max(part), float(np.std(part)))]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert not found[1].any()
    one = pooled(Batch(("a",), {"s": rows[:1, :1]}, {"s": torch.tensor([1])}, torch.zeros(1)), ["s"], ("mean", "maximum"), 3)
    assert one.tolist() == [[0, 0, 0, 0, 1, 1]], "a segment without rows is zeros"


def test_it_is_xgboost_on_the_pooled_rows() -> None:
    recipe = Xgb(**QUICK)
    clips, val = table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:12], seed=1)
    batch = val.gather(np.arange(12))
    found = recipe.fit(clips, val, "cpu").logits(batch)
    values = clips.each(lambda part: pooled(part, recipe.stages, recipe.statistics))
    settings = {"objective": "multi:softprob", "num_class": 3, "seed": 0, "nthread": 1, "eta": 0.3, "max_depth": 2}
    more = {"subsample": 0.8, "colsample_bytree": 0.9, "lambda": 0.5, "alpha": 0.2, "tree_method": "hist"}
    plain = xgboost.train({**settings, **more}, xgboost.DMatrix(values, clips.labels), 20)
    np.testing.assert_allclose(np.exp(found), plain.predict(xgboost.DMatrix(pooled(batch, recipe.stages, recipe.statistics))), atol=1e-5)
    assert (found.argmax(1) == val.labels).mean() > 0.9


def test_validation_ends_trees_only_where_it_is_asked_and_else_may_train_them() -> None:
    recipe = Xgb(**{**QUICK, "rounds": 200})
    clips, val = table_of(recipe, LENGTHS), table_of(recipe, LENGTHS[:12], seed=1)
    batch = val.gather(np.arange(12))
    whole = recipe.fit(clips, val, "cpu").logits(batch)
    np.testing.assert_array_equal(whole, recipe.fit(clips, table_of(recipe, [3, 4], seed=2), "cpu").logits(batch))
    ended = recipe.model_copy(update={"patience": 2}).fit(clips, val, "cpu").logits(batch)
    assert np.abs(ended - whole).max() > 1e-3
    every = recipe.model_copy(update={"learn": "all"})
    assert every.learns_validation
    np.testing.assert_array_equal(every.fit(clips, val, "cpu").logits(batch), recipe.fit(clips.joined(val), val, "cpu").logits(batch))


def test_padding_never_reaches_the_trees_and_they_come_back_from_their_folder(tmp_path: Path) -> None:
    recipe = Xgb(**QUICK, segments=2)
    clips = table_of(recipe, LENGTHS)
    first, batch = recipe.fit(clips, clips, "cpu"), clips.gather(np.arange(6))
    np.testing.assert_array_equal(first.logits(with_padding(batch, float("nan"))), first.logits(batch))
    first.save(tmp_path)
    assert "learner" in json.loads((tmp_path / "booster.json").read_text())
    second = recipe.predictor(clips.dims, 3)
    with pytest.raises(RuntimeError, match="after fit or load"):
        second.logits(batch)
    second.load(tmp_path)
    np.testing.assert_array_equal(first.logits(batch), second.logits(batch))
    (tmp_path / "booster.json").write_text("{")
    with pytest.raises(UserError, match=r"the booster .*booster.json cannot be read \(.*; train the run anew"):
        second.load(tmp_path)


def test_a_run_of_it_is_scored_again_as_it_was(signs: tuple[Home, Manifest]) -> None:
    run = train(*signs, "xgb", {"stages": "resnet50", "eta": "0.3", "rounds": "5", "statistics": "mean,maximum"}, device="cpu")
    assert run.record["settings"]["statistics"] == ["mean", "maximum"]
    assert evaluate(signs[0], run.folder, "test", device="cpu")["top1"] == run.scores["top1"]


def test_settings_that_cannot_be_are_one_line() -> None:
    with pytest.raises(UserError, match="learn=all leaves no clips by which patience=5 could end the trees; set patience=0"):
        registry.create("model", "xgb", {"learn": "all", "patience": "5"})
    with pytest.raises(UserError, match="statistics= leaves nothing to read; name some of mean,deviation,minimum,maximum"):
        registry.create("model", "xgb", {"statistics": ""})
