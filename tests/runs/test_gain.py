"""A model that learned over others is set beside their plain mean, clip by clip, in its result, its line and its report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.learning.mixing import probabilities
from pipeline.reports import report
from pipeline.runs import run_folder
from pipeline.runs.crossvalidation import fold_folders
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import gain, predictions
from pipeline.runs.scoring.intervals import difference
from pipeline.runs.scoring.metrics import Judged
from pipeline.runs.scoring.predictions import Predictions
from pipeline.runs.training import predictor_of, train
from tests.commands import run as command
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
MEMBERS = "lstm_late:stages=resnet50:epochs=1:hidden=8:normalize=none,lstm_late:stages=resnet50:epochs=1:hidden=6:normalize=none"
STACK = {"members": MEMBERS, "folds": "2", "rounds": "6", "eta": "0.5", "patience": "0"}
Fixture = tuple[Home, Manifest]


@pytest.fixture
def signs(tmp_path: Any) -> Fixture:
    home, table = corpus(tmp_path, balanced())
    publish(home, table, signals(table))
    return home, table


def said_of(guesses: str, labels: str = "aabbcc") -> Predictions:
    hits = np.array([guess == label for guess, label in zip(guesses, labels, strict=True)])
    judged = Judged(tuple(labels), tuple(guesses), np.ones(6), np.ones(6), np.where(hits, 1, 2))
    return Predictions(tuple("123456"), judged, (None,) * 6, tuple("111223"))


def test_the_gain_is_that_of_the_same_clips_with_its_interval() -> None:
    mean, said = said_of("aabccc"), said_of("abbbcc")
    found = gain.over_mean(mean, said, "signer")
    assert (found["top1"], found["changed"]) == (5 / 6, 2)
    assert found["difference"] == difference(mean.judged.hits, said.judged.hits, said.groups, "signer")
    assert (found["difference"]["gained"], found["difference"]["lost"], found["difference"]["top1"]) == (1, 1, 0)
    words = gain.in_words(found)
    assert words.startswith("the plain mean of its members: top-1 83.3%, so learning over them is worth +0.0 (95% interval -")
    assert words.endswith(" by signer); it changed 2 of 6 guesses, 1 for the better and 1 for the worse")
    few = gain.over_mean(replace(mean, groups=("1",) * 6), replace(said, groups=("1",) * 6), "signer")
    assert "(too few signers for an interval)" in gain.in_words(few)


def mean_of(signs: Fixture, run: Run, clips: tuple[str, ...]) -> list[str]:
    """What the mean of the run's members says of these clips."""
    home, table = signs
    from pipeline import registry
    from pipeline.runs.reading import read_for

    recipe = registry.create("model", run.model, run.record["settings"])
    reading, _ = read_for(home, table, recipe, list(table.samples), stale="refuse", allow_missing=0)
    predictor: Any = predictor_of(run, recipe, {"resnet50": reading.rows([], table.classes).dims["resnet50"]}, "cpu")
    rows = reading.rows([sample for sample in table.samples if sample.id in clips], table.classes)

    def shares(batch: Batch) -> Any:
        return probabilities(predictor.models, batch).mean(0)

    guessed = dict(zip(rows.ids, rows.each(shares).argmax(1).tolist(), strict=True))
    return [table.classes[guessed[clip]] for clip in clips]


def test_a_run_of_trees_over_members_says_what_their_mean_says(signs: Fixture) -> None:
    run = train(*signs, "xgb_meta", STACK, device="cpu")
    said, mean = predictions.read(run.folder), predictions.read(run.folder, gain.MEAN)
    assert run.scores["plain_mean"] == gain.over_mean(mean, said, run.scores["interval"]["by"])
    assert list(mean.judged.guesses) == mean_of(signs, run, mean.ids)
    assert "Beside the plain mean of its members: top-1" in report.write(run).read_text()
    alone = train(*signs, "lstm_late", {"stages": "resnet50", "epochs": "1", "hidden": "8"}, device="cpu")
    assert "plain_mean" not in alone.scores
    assert not (alone.folder / gain.MEAN).exists()
    assert "plain mean" not in report.write(alone).read_text()


def test_folds_say_it_of_all_their_clips(signs: Fixture) -> None:
    words = [part for key, value in STACK.items() for part in ("--set", f"{key}={value}")]
    done = command(signs[0], "train", "signs", "xgb_meta", "--folds", 2, "--device", "cpu", *words)
    assert done.exit_code == 0, done.output
    assert "the plain mean of its members: top-1 " in done.stderr
    run = train(*signs, "xgb_meta", STACK, device="cpu", folds=2)
    said, found = predictions.read(run.folder), run.scores["plain_mean"]
    parts = [run_folder.read(fold).scores["plain_mean"] for fold in fold_folders(run)]
    assert found["difference"]["clips"] == len(said.ids) == sum(part["difference"]["clips"] for part in parts)
    assert found["changed"] == sum(part["changed"] for part in parts)
    assert found == gain.over_mean(predictions.read(run.folder, gain.MEAN), said, run.scores["interval"]["by"])
