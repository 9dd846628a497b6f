"""Runs side by side: like is compared with like, what cannot be is one line, and the page is whole in itself and safe."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.reports import comparison, report
from pipeline.reports.attention import Attention, attentions, over_time
from pipeline.reports.printed import comparison_lines
from pipeline.runs import run_folder
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import predictions
from pipeline.runs.scoring.metrics import judge
from pipeline.runs.scoring.predictions import Predictions
from pipeline.runs.training import train
from tests.feature_cache import balanced, corpus, publish, signals
from tests.reports.test_report import Tags

torch.set_num_threads(1)
TINY = {"epochs": "2", "hidden": "8", "batch_size": "8", "lr": "0.003"}
Fixture = tuple[Home, Manifest]


def run_of(signs: Fixture, model: str = "lstm_late", settings: dict[str, str] | None = None, **options: Any) -> Run:
    return train(*signs, model, {"stages": "resnet50", **TINY, **(settings or {})}, device="cpu", **options)


def rewritten(run: Run, guesses: list[int]) -> Run:
    """The run as if it had said these classes of its clips."""
    said = predictions.read(run.folder)
    classes = run.record["classes"]
    judged = judge(10 * np.eye(len(classes))[guesses], said.judged.labels, classes)
    predictions.write(run.folder, replace(said, judged=judged))
    return run


def test_what_was_predicted_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    labels = ('a "b", c', "line\nbreak", "wäh\udcff", "never")
    judged = judge(np.random.default_rng(0).normal(size=(4, 3)), labels, labels[:3])
    said = Predictions(("1", "2,", "3\udc80", '"4'), judged, ("anna", None, "bert", "anna"), ("r 1", "r,2", "r 1", ""))
    predictions.write(tmp_path, said)
    again = predictions.read(tmp_path)
    assert (again.ids, again.signers, again.groups) == (said.ids, said.signers, said.groups)
    assert (again.judged.labels, again.judged.guesses) == (labels, judged.guesses)
    for one, other in ((again.judged.confidence, judged.confidence), (again.judged.probability, judged.probability)):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again.judged.rank, judged.rank)


def test_a_run_keeps_what_it_said_of_every_scored_clip_and_what_it_took(signs: Fixture) -> None:
    run = run_of(signs)
    said = predictions.read(run.folder)
    assert sorted(said.ids) == sorted(sample.id for sample in signs[1].samples if sample.split == "test")
    assert said.judged.hits.mean() == run.scores["top1"]
    assert run.scores["seconds"] >= 0
    assert run.scores["peak_memory_bytes"] > 1e6
    layers = 4 * 8 * (2048 + 8 + 2) + 4 * 8 * (8 + 8 + 2)
    assert run.scores["parameters"] == layers + 8 * 3 + 3
    assert 0 <= run.scores["calibration"]["error"] <= 1


def test_an_ensembles_parameters_and_seconds_are_those_of_its_members_too(signs: Fixture) -> None:
    members = "lstm_late:stages=resnet50:epochs=2:hidden=8,bilstm_attention:stages=resnet50:epochs=2:hidden=8"
    first = train(*signs, "late_fusion", {"members": members}, device="cpu")
    alone = [run_folder.read(next((signs[0].cache / "runs" / "signs" / model).iterdir())) for model in ("lstm_late", "bilstm_attention")]
    assert first.scores["parameters"] == sum(run.scores["parameters"] for run in alone)
    for run in alone:
        (run.folder / "result.json").write_text(json.dumps({**run.scores, "seconds": 1000.0}))
    again = train(*signs, "late_fusion", {"members": members}, device="cpu", again=True)
    assert 2000 <= again.scores["seconds"] < 2600


def test_a_resumed_training_counts_the_epochs_that_were_done_before(signs: Fixture, tmp_path: Path) -> None:
    from pipeline.learning.epochs import Epoch, write_figures
    from pipeline.runs._cost import Clock

    write_figures(tmp_path, [Epoch(number, 1.0, 1.0, 0.5, 1e-3, 500.0) for number in (1, 2)])
    assert 1000 <= Clock(tmp_path).cost(3)["seconds"] < 1400


def test_differences_are_paired_on_the_clips_that_both_scored(signs: Fixture) -> None:
    first = rewritten(run_of(signs), [0, 0, 1, 1, 0, 0])
    second = rewritten(run_of(signs, settings={"hidden": "9"}), [0, 1, 1, 1, 2, 2])
    one, other = comparison.compare([first, second])
    assert one.paired is not None
    assert other.paired is not None
    assert (one.paired["gained"], one.paired["lost"], other.paired["gained"], other.paired["lost"]) == (0, 0, 2, 1)
    assert (other.paired["clips"], other.paired["top1"], other.paired["by"]) == (6, pytest.approx(1 / 6), "signer")
    assert (one.differing, other.differing) == ("stages=resnet50 hidden=8", "stages=resnet50 hidden=9")
    table = list(comparison_lines([one, other]))
    assert "+16.7 (" in table[2]
    assert "2 gained, 1 lost of 6)" in table[2]


def test_runs_that_scored_other_clips_stand_side_by_side_and_say_so(signs: Fixture) -> None:
    home, _ = signs
    scored, folds = run_of(signs), run_of(signs, folds=2)
    found = comparison.compare([scored, folds])
    assert found[1].paired is None
    assert found[1].figures()["beside 1"] == "no clip in common"
    assert [run.figures()["scored on"] for run in found] == ["test", "2 folds"]
    page = comparison.write(home, found, attentions(home, [scored, folds])).read_text("utf-8")
    assert "These runs did not all score the same clips" in page
    assert "no clip was scored by all of these runs" in page


def test_what_cannot_be_compared_is_one_line(signs: Fixture, tmp_path: Path) -> None:
    run = run_of(signs)
    other = Run(run.folder, {**run.record, "dataset": "other"}, run.result)
    with pytest.raises(UserError, match=r"^\S+ is of other, and \S+ of signs; compare runs of one corpus$"):
        comparison.compare([run, other])
    old = Run(run.folder, run.record, {key: value for key, value in run.scores.items() if key != "calibration"})
    with pytest.raises(UserError, match=r"has no calibration: an older signcache trained it; do it again: signcache train .* --again"):
        comparison.compare([run, old])
    (run.folder / "predictions.csv").write_text("id,label\n1\n")
    with pytest.raises(UserError, match=r"predictions\.csv is damaged \('guess'\); train the run again with --again"):
        predictions.read(run.folder)
    (run.folder / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"holds no predictions\.csv: an older signcache trained it; train it again with --again"):
        comparison.compare([run, run])


def test_the_page_needs_nothing_from_elsewhere_and_escapes_every_name(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    home, table = corpus(tmp_path, balanced())
    renamed = {"sign0": bad}
    samples = tuple(replace(s, label=renamed.get(str(s.label), s.label)) for s in table.samples)
    table = replace(table, samples=samples, classes=tuple(renamed.get(name, name) for name in table.classes))
    publish(home, table, signals(table))
    found = [run_of((home, table), seed=seed) for seed in (0, 1)]
    told = {"command": "<img src=x onerror=alert(2)>", "warnings": ["9 of 9 clips <i>share</i>"]}
    worse = [Run(run.folder, {**run.record, **told}, run.result) for run in found]
    page = comparison.write(home, comparison.compare(worse), [Attention(reason="<b>none</b>")] * 2).read_text("utf-8")
    tags = Tags(page).found
    assert not [tag for tag, attributes in tags if tag in ("script", "b") or "onerror" in attributes]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Run 2: 9 of 9 clips &lt;i&gt;share&lt;/i&gt;" in page
    assert all((attributes["src"] or "").startswith("data:image/svg+xml;base64,") for tag, attributes in tags if tag == "img")
    assert not re.search(r"(?:href|src)=[\"']?(?:https?:)?//", page)


def test_attention_over_time_is_of_the_same_scored_clips_in_every_run_that_has_it(signs: Fixture) -> None:
    home, _ = signs
    attentive = run_of(signs, "bilstm_attention")
    one, none, again = attentions(home, [attentive, run_of(signs), attentive])
    assert set(one.clips) <= set(predictions.read(attentive.folder).ids)
    assert len(one.clips) == 4
    assert one.clips.keys() == again.clips.keys()
    for clip, shares in one.clips.items():
        assert len(shares) == _rows(signs, clip)
        assert shares.sum() == pytest.approx(1)
    assert none.reason == "lstm_late attends to no steps in particular"


def _rows(signs: Fixture, clip: str) -> int:
    from pipeline.cache import open_stage

    return len(open_stage("signs", "resnet50", cache=signs[0].cache, manifests=signs[0].manifests)[clip])


def test_attention_of_folds_is_that_of_the_model_that_scored_each_clip(signs: Fixture) -> None:
    home, _ = signs
    run = run_of(signs, "bilstm_attention", folds=2)
    (whole,) = attentions(home, [run])
    assert len(whole.clips) == 4
    for folder in (home.cache / "runs" / "signs" / "bilstm_attention" / digest for digest in run.record["folds"]):
        own = [clip for clip in predictions.read(folder).ids if clip in whole.clips]
        part = over_time(home, run_folder.read(folder), own)
        assert all((part.clips[clip] == whole.clips[clip]).all() for clip in own)


@pytest.mark.parametrize(("pooling", "drawn"), [("linear", True), ("query", True), ("max", True), ("mean", False)])
def test_every_kind_of_pooling_has_its_picture_or_a_reason(signs: Fixture, pooling: str, drawn: bool) -> None:
    (found,) = attentions(signs[0], [run_of(signs, "bilstm_attention", {"pooling": pooling})])
    assert bool(found.clips) == drawn
    assert found.reason == ("" if drawn else "every step counts the same in this model: it takes their mean")


def test_without_its_features_a_page_says_why_there_is_no_attention(signs: Fixture) -> None:
    home, _ = signs
    run = run_of(signs, "bilstm_attention")
    page = report.write(run, attentions(home, [run])[0]).read_text("utf-8")
    assert "weight of each step of a few scored clips" in page
    shutil.rmtree(home.cache / "signs")
    page = report.write(run, attentions(home, [run])[0]).read_text("utf-8")
    assert "None: signs has no features of &#39;resnet50&#39;; published: nothing" in page
    assert "weight of each step" not in page


def test_the_command_prints_every_page_the_table_and_the_comparison(signs: Fixture) -> None:
    from pipeline.cli import main

    home, _ = signs
    found = [run_of(signs, seed=seed) for seed in (0, 1)]
    places = ["--cache", str(home.cache), "--manifests", str(home.manifests)]
    result = CliRunner().invoke(main, [*places, "report", *(str(run.folder) for run in found)])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[:2] == [str(run.folder / "report.html") for run in found]
    assert lines[2].split()[:4] == ["run", "model", "id", "seed"]
    assert Path(lines[-1]).parent == home.cache / "runs" / "signs"
    assert Path(lines[-1]).name.startswith("comparison-")
    single = CliRunner().invoke(main, [*places, "report", str(found[0].folder)])
    assert single.stdout.splitlines() == [str(found[0].folder / "report.html")]
