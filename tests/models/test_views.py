"""Clips that are scored by several forms of themselves: always the same forms, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.bilstm_attention import BilstmAttention
from pipeline.data.batch import Batch
from pipeline.errors import UserError
from pipeline.learning.augment import Augmentation, Variation
from pipeline.learning.network import NetworkPredictor
from pipeline.testing.models import batch_of, built, table_of

torch.set_num_threads(1)
LENGTHS = [9, 1, 13]


def recipe_of(**fields: object) -> BilstmAttention:
    return BilstmAttention.model_validate({"hidden": 4, "epochs": 2, "time_warp": 0.4, "crop": 0.3, "jitter": 0.1, **fields})


def test_a_clip_is_scored_by_the_mean_of_itself_and_its_views() -> None:
    recipe = recipe_of(views=2)
    module, batch = built(recipe).eval(), batch_of(recipe, LENGTHS)
    found = recipe.scoring(module, "cpu").logits(batch)
    rows = batch.features["holistic"]
    expected = []
    for clip, length in enumerate(LENGTHS):
        forms = [rows[clip, :length].numpy()]
        for view in range(2):
            vary = Variation(Augmentation(time_warp=0.4, crop=0.3), {"holistic": None}, 0, view)
            forms.append(vary("view", {"holistic": forms[0]})["holistic"])
        assert length == 1 or not any(np.array_equal(forms[0], form) for form in forms[1:])
        ones = [Batch(("a",), {"holistic": torch.from_numpy(f)[None]}, {"holistic": torch.tensor([len(f)])}, torch.zeros(1)) for f in forms]
        with torch.inference_mode():
            expected.append(torch.cat([module(one).softmax(1) for one in ones]).mean(0).log())
    np.testing.assert_allclose(found, torch.stack(expected), rtol=1e-4, atol=1e-5)


def test_views_depend_on_nothing_but_the_clip() -> None:
    scoring = recipe_of(views=3).scoring(built(recipe_of()), "cpu")
    batch = batch_of(recipe_of(), LENGTHS)
    whole = scoring.logits(batch)
    torch.manual_seed(9)
    renamed = Batch(("x",), {"holistic": batch.features["holistic"][2:]}, {"holistic": batch.lengths["holistic"][2:]}, batch.labels[2:])
    np.testing.assert_allclose(scoring.logits(renamed)[0], whole[2], rtol=1e-5, atol=1e-6)


def test_a_trained_run_scores_by_its_views_and_without_them_as_ever(tmp_path: Path) -> None:
    recipe, plain = recipe_of(views=2), recipe_of()
    train, batch = table_of(recipe, [4 + number % 5 for number in range(12)]), batch_of(recipe, [*LENGTHS, 0])
    trained = recipe.fit(train, train, "cpu")
    trained.save(tmp_path)
    again = recipe.predictor(train.dims, 3)
    again.load(tmp_path)
    np.testing.assert_array_equal(again.logits(batch), trained.logits(batch))
    assert type(plain.predictor(train.dims, 3)) is NetworkPredictor
    np.testing.assert_array_equal(plain.fit(train, train, "cpu").logits(batch), NetworkPredictor(trained.module, "cpu").logits(batch))


def test_views_that_nothing_varies_are_one_line() -> None:
    said = "views=2: nothing varies the time of a clip; set one of time_warp, crop, resample, frame_drop, or views=0"
    with pytest.raises(UserError, match=said):
        BilstmAttention(views=2)


def test_views_have_no_exported_form() -> None:
    scoring = recipe_of(views=2).scoring(built(recipe_of()), "cpu")
    with pytest.raises(UserError, match="views=2 scores forms of a clip that no other program makes; train with views=0"):
        scoring.network()
