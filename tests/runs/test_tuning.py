"""A search: it reads no test clip, goes on where it was killed, prunes, and ends with a line that can be typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from models.lstm_late import LstmLate
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import Diverged, UserError
from pipeline.learning.epochs import Epoch
from pipeline.learning.recipe import Between
from pipeline.runs import tuning
from pipeline.runs.training import train
from pipeline.runs.trials import Found
from pipeline.runs.tuning import Search, score, search_for, tune
from tests.commands import run, said
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
SETTINGS = {"epochs": "3", "hidden": "8", "layers": "1"}
Fixture = tuple[Home, Manifest]


@pytest.fixture
def signs(tmp_path: Path) -> Fixture:
    """Three signs whose test clips have no features at all."""
    home, table = corpus(tmp_path, balanced())
    tested = {sample.id for sample in table.samples if sample.split == "test"}
    publish(home, table, {clip: rows for clip, rows in signals(table).items() if clip not in tested})
    return home, table


def search(signs: Fixture, settings: dict[str, str] | None = None, *, seed: int = 0) -> Search:
    return search_for(*signs, "lstm_late", {**SETTINGS, **(settings or {})}, seed=seed, device="cpu")


def silently(signs: Fixture, trials: int, **options: Any) -> Found:
    return tune(search(signs, **options), trials, say=lambda _: None)


def figures(found: Found) -> list[tuple[Any, ...]]:
    return [(tried.settings, tried.top1, tried.loss, tried.ended) for tried in found.trials]


def test_a_search_reads_no_test_clip(signs: Fixture) -> None:
    with pytest.raises(UserError, match=r"6 of 30 clips have no features in signs/resnet50 \(first: sign0/test0"):
        train(*signs, "lstm_late", SETTINGS, device="cpu")
    found = silently(signs, 2)
    assert [tried.top1 is not None for tried in found.trials] == [True, True]
    assert {sample.split for sample in search(signs).reading.samples} == {"train", "val"}


def test_what_the_test_clips_hold_changes_no_figure(signs: Fixture, tmp_path: Path) -> None:
    home, table = corpus(tmp_path / "other", balanced())
    publish(home, table, signals(table))
    assert figures(silently((home, table), 2)) == figures(silently(signs, 2))


def test_a_trial_is_the_training_that_its_line_starts(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    best = silently((home, table), 3).best
    assert best is not None
    words = {key: str(value) for key, value in best.settings.items()}
    run = train(home, table, "lstm_late", {**SETTINGS, **words}, device="cpu")
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    kept = [dict(zip(rows[0].split(","), row.split(","), strict=True)) for row in rows[1:] if row.endswith(",1")][-1]
    assert float(kept["val_top1"]) == best.top1
    assert float(kept["val_loss"]) == pytest.approx(best.loss, abs=1e-5)


def test_the_first_trial_has_the_settings_as_they_are(signs: Fixture) -> None:
    (first,) = silently(signs, 1, settings={"batch_size": ""}).trials
    assert first.settings == {"dropout": 0.3, "lr": 1e-3, "batch_size": 32}  # the corpus' own for lstm_late, and its default dropout


def test_what_is_fixed_is_not_searched_and_what_varies_lies_in_the_space(signs: Fixture) -> None:
    found = silently(signs, 4)
    for tried in found.trials:
        assert tried.settings.keys() == {"dropout", "lr", "batch_size"}
        assert 0.1 <= tried.settings["dropout"] <= 0.6
        assert 1e-4 <= tried.settings["lr"] <= 3e-3
        assert tried.settings["batch_size"] in (16, 32, 64)
    assert len({str(tried.settings) for tried in found.trials}) == 4


def test_a_finished_search_trains_nothing_more(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    first = silently(signs, 2)
    monkeypatch.setattr(Search, "trained", lambda *_: pytest.fail("a trial was started"))
    assert silently(signs, 2) == first


def test_more_trials_go_on_from_the_earlier_ones(signs: Fixture, tmp_path: Path) -> None:
    first = silently(signs, 2)
    more = silently(signs, 4)
    assert figures(more)[:2] == figures(first)
    shutil.rmtree(signs[0].cache / "tuning")
    assert figures(silently(signs, 4)) == figures(more)


def test_another_seed_setting_or_space_is_another_search(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [search(signs).name, search(signs, seed=1).name, search(signs, {"epochs": "4"}).name]
    monkeypatch.setattr(LstmLate, "space", {"dropout": Between(0.1, 0.5)})
    names.append(search(signs).name)
    assert len(set(names)) == 4


def scripted(monkeypatch: pytest.MonkeyPatch, figures: list[list[float]]) -> list[int]:
    """Trials whose validation accuracies are given, epoch by epoch; the epochs that each got as far as."""
    reached: list[int] = []

    def trained(self: Search, settings: dict[str, Any], hears: Any) -> Any:
        accuracies = figures[len(reached)]
        reached.append(0)
        for number, top1 in enumerate(accuracies, 1):
            reached[-1] = number
            hears(Epoch(number, 1.0, 1.0, top1, 1e-3, 0.1))
        return accuracies[-1]

    monkeypatch.setattr(Search, "trained", trained)
    monkeypatch.setattr(Search, "judged", lambda self, value: (value, 1.0))
    return reached


def test_a_trial_that_falls_behind_is_pruned_after_the_warm_up_and_counts(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = [0.8] * 8, [0.1] * 8
    reached = scripted(monkeypatch, [good] * 5 + [bad, good])
    lines: list[str] = []
    found = tune(search(signs, {"epochs": "8"}), 7, say=lines.append)
    assert reached == [8, 8, 8, 8, 8, 2, 8]
    assert found.trials[5].ended == "pruned after epoch 2, top-1 10.0%"
    assert lines[6].startswith("trial 6/7: pruned after epoch 2, top-1 10.0%  dropout=")
    assert lines[6].endswith("; best: trial 1, 80.0%")


def test_a_training_that_diverges_counts_and_the_search_goes_on(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, calls = Search.trained, list[int]()

    def diverging(self: Search, settings: Any, hears: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise Diverged("training diverged in epoch 1")
        return trained(self, settings, hears)

    monkeypatch.setattr(Search, "trained", diverging)
    found = silently(signs, 2)
    assert [tried.ended for tried in found.trials] == ["diverged", ""]
    assert found.best == found.trials[1]


def test_more_clips_right_come_first_and_of_equals_the_lower_loss() -> None:
    assert score(0.8, 90.0, 10) > score(0.7, 0.0, 10)
    assert score(0.8, 0.5, 10) > score(0.8, 0.6, 10)
    assert score(0.8, float("nan"), 10) == score(0.8, float("inf"), 10) > score(0.7, 0.1, 10)


def test_the_command_prints_a_line_a_trial_and_one_document(signs: Fixture) -> None:
    words = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    done = run(signs[0], "tune", "signs", "lstm_late", "--trials", 2, "--device", "cpu", *words, "--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [tried["number"] for tried in document["trials"]] == [1, 2]
    assert document["best"] in document["trials"]
    assert Path(document["storage"]) == signs[0].cache / "tuning" / "signs" / "lstm_late.db"
    assert "--set epochs=3 --set hidden=8 --set layers=1 --set dropout=" in document["line"]
    assert "trial 1/2: top-1 " in done.stderr
    assert "chosen on validation" in done.stderr
    plain = run(signs[0], "tune", "signs", "lstm_late", "--trials", 2, "--device", "cpu", *words)
    assert plain.stdout.strip() == document["line"]


def test_no_trial_starts_after_the_timeout(signs: Fixture) -> None:
    words = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    text = said(signs[0], "tune", "signs", "lstm_late", "--trials", 2, "--timeout", 0, *words, status=2)
    assert "no trial of signs/lstm_late ended with a score: none was started; give it more: --trials 10" in text


@pytest.mark.parametrize(
    ("model", "settings", "text"),
    [
        ("lstm_late", {"hiden": "3"}, "model 'lstm_late' has no field 'hiden'; did you mean 'hidden'"),
        ("lstm_late", {"stages": "radar_cnn"}, "signs has no features of 'radar_cnn'"),
        (
            "lstm_late",
            {"hidden": "8", "layers": "1", "dropout": "0.2", "lr": "0.1", "batch_size": "8"},
            r"model 'lstm_late': --set fixes all that could be searched \(hidden, layers, dropout, lr, batch_size\); leave one out",
        ),
        ("lstm_late", {"learn": "all", "best_by": "last"}, "learn=all trains on the validation clips, which judge the trials"),
        ("late_fusion", {"members": "lstm_late:stages=resnet50:learn=all:best_by=last"}, "learn=all trains on the validation clips"),
    ],
)
def test_what_cannot_be_searched_is_one_line(signs: Fixture, model: str, settings: dict[str, str], text: str) -> None:
    with pytest.raises(UserError, match=text):
        search_for(*signs, model, settings, device="cpu")


def test_a_corpus_that_learns_from_validation_is_searched_without_that(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(signs[1].dataset)
    monkeypatch.setattr(kind, "training", {"lstm_late": {"stages": ("resnet50",), "learn": "all", "best_by": "last"}})
    recipe: Any = search(signs).recipe
    assert (recipe.learn, recipe.best_by) == ("train", "last")


def test_a_corpus_without_validation_clips_is_not_searched(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, {f"sign{n % 2}/{n}": ("train", "a") for n in range(4)})
    publish(home, table, signals(table))
    without = Manifest(table.name, table.binding, table.classes, tuple(s for s in table.samples if s.split == "train"))
    with pytest.raises(UserError, match="signs has no labelled val clips to stop and select on"):
        search((home, without))


def test_two_searches_of_one_model_do_not_run_at_a_time(signs: Fixture) -> None:
    with tuning._study(search(signs)), pytest.raises(UserError, match=r"a search in .*lstm_late\.db is running already; wait for it"):
        silently(signs, 1)


def test_a_damaged_file_is_one_line(signs: Fixture) -> None:
    place = signs[0].cache / "tuning" / "signs" / "lstm_late.db"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"no database" * 100)
    text = r"lstm_late\.db cannot be used \(.*not a database.*\); delete it to start the search anew"
    with pytest.raises(UserError, match=text) as caught:
        silently(signs, 1)
    assert "\n" not in str(caught.value)


def test_a_model_without_a_space_is_not_searched(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LstmLate, "space", {})
    with pytest.raises(UserError, match="model 'lstm_late' declares no space to search; its file is to say one"):
        search(signs)


def test_a_name_that_is_not_bound_is_one_line(tmp_path: Path) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    assert "'signs' is not bound yet; run: signcache manifest signs" in said(home, "tune", "signs", "lstm_late", "--trials", 1, status=2)
