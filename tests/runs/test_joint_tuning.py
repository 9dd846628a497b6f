"""A search of an ensemble is one study of its own settings and of those of its members."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from models._members import Member
from models.transformer import Transformer
from models.xgb_meta import XgbMeta
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.learning.recipe import Between, Choice
from pipeline.runs.run_folder import read as read_run
from pipeline.runs.training import configured, train
from pipeline.runs.tuning import search_for, tune
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
LSTM = "lstm_late:stages=resnet50:hidden=8:layers=1:epochs=2"
FIXED = f"{LSTM}:dropout=0.1:lr=0.003:batch_size=8"
Fixture = tuple[Home, Manifest]


@pytest.fixture
def signs(tmp_path: Path) -> Fixture:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    return home, table


def trained(home: Home, model: str) -> list[Path]:
    return sorted((home.cache / "runs" / "signs" / model).glob("*"))


def test_members_are_searched_beside_the_trees_but_for_what_their_text_says(signs: Fixture) -> None:
    space = search_for(*signs, "xgb_meta", {"members": f"{LSTM},{FIXED}", "max_depth": "3"}, device="cpu").space
    own = {field: where for field, where in XgbMeta.space.items() if field != "max_depth"}
    lstm = {"members.0.dropout", "members.0.lr", "members.0.batch_size"}
    assert set(space) == own.keys() | lstm
    every = search_for(*signs, "late_fusion", {"members": "transformer:stages=resnet50"}, device="cpu").space
    assert every == {f"members.0.{field}": where for field, where in Transformer.space.items()}
    assert every["members.0.layers"] == Choice((4, 6, 8))
    assert every["members.0.lr"] == Between(1e-5, 1e-3, log=True)


def test_a_trial_trains_members_with_the_settings_that_it_draws(signs: Fixture) -> None:
    home = signs[0]
    lines: list[str] = []
    search = search_for(*signs, "late_fusion", {"members": f"{LSTM}:lr=0.003,{FIXED}:seed=4"}, device="cpu")
    found = tune(search, 3, say=lines.append)
    assert [set(tried.settings) for tried in found.trials] == [{"members.0.dropout", "members.0.batch_size"}] * 3
    assert "members.0.dropout=" in lines[-1]
    runs = [read_run(folder).record for folder in trained(home, "lstm_late")]
    drawn = {(tried.settings["members.0.dropout"], tried.settings["members.0.batch_size"]) for tried in found.trials}
    assert {(run["settings"]["dropout"], run["settings"]["batch_size"]) for run in runs if run["seed"] == 0} == drawn
    assert len([run for run in runs if run["seed"] == 4]) == 1, "what no trial varies is trained once"


def test_the_line_at_the_end_is_the_training_of_the_best_trial(signs: Fixture) -> None:
    home, table = signs
    settings = {"members": f"{LSTM}:lr=0.003,{FIXED}:seed=4", "folds": "2", "rounds": "3", "patience": "0"}
    words = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    text = said(home, "tune", "signs", "xgb_meta", "--trials", 2, "--device", "cpu", *words)
    line = shlex.split(text.strip().splitlines()[-1])
    given = dict(word.split("=", 1) for place, word in enumerate(line) if line[place - 1] == "--set")
    search = search_for(home, table, "xgb_meta", settings, device="cpu")
    best: Any = tune(search, 2, say=lambda _: None).best
    assert configured(table, "xgb_meta", given) == search.varied(best.settings)
    before = trained(home, "lstm_late")
    run = train(home, table, "xgb_meta", given, device="cpu")
    assert run.record["settings"]["members"][0]["settings"]["dropout"] == best.settings["members.0.dropout"]
    assert trained(home, "lstm_late") == before, "its members are those of the trial"


def test_members_whose_text_says_all_are_trained_once_in_all_trials(signs: Fixture) -> None:
    settings = {"members": FIXED, "folds": "2", "rounds": "3"}
    found = tune(search_for(*signs, "xgb_meta", settings, device="cpu"), 2, say=lambda _: None)
    assert len(found.trials) == 2
    members = trained(signs[0], "lstm_late")
    assert len(members) == 2
    assert {read_run(folder).scores["split"] for folder in members}.isdisjoint({"test"})


def test_members_that_are_runs_are_taken_as_they_are(signs: Fixture) -> None:
    alone = train(*signs, "lstm_late", {"stages": "resnet50", "hidden": "8", "layers": "1", "epochs": "2"}, device="cpu")
    assert search_for(*signs, "xgb_meta", {"members": str(alone.folder)}, device="cpu").space == XgbMeta.space
    with pytest.raises(
        UserError, match=r"model 'late_fusion': --set fixes all that could be searched \(members\.0\..*lr.*\); leave one out"
    ):
        search_for(*signs, "late_fusion", {"members": FIXED}, device="cpu")


def test_a_member_says_in_text_what_it_has_otherwise_than_its_model() -> None:
    plain = Member(model="bilstm_attention").adapted({"bilstm_attention": {"hidden": 32}})
    own = Member.model_validate("bilstm_attention:stages=a+b:lr=0.01:seed=3").adapted({"bilstm_attention": {"hidden": 32}})
    assert own.text(plain) == "bilstm_attention:stages=a+b:lr=0.01:seed=3"
    assert plain.text(plain) == "bilstm_attention"
