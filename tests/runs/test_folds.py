"""Folds: every clip of train and val is scored once by a model that never saw it nor its group; test is not read; a kill costs nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.numpy import load_file

from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.opening import open_stages
from pipeline.errors import UserError
from pipeline.learning import fitting
from pipeline.runs import crossvalidation
from pipeline.runs._trainer import RunTrainer
from pipeline.runs.crossvalidation import fold_folders, folded
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run, read
from pipeline.runs.scoring import predictions
from pipeline.runs.training import configured, evaluate, train
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
SETTINGS = {"epochs": "4", "hidden": "8", "lr": "0.003", "batch_size": "8", "normalize": "none"}
MEMBERS = "lstm_late:stages=resnet50:epochs=2:hidden=8:normalize=none,bilstm_attention:stages=resnet50:epochs=2:hidden=8"
Fixture = tuple[Home, Manifest]


def signed(classes: int = 3, signers: int = 4, takes: int = 2) -> dict[str, tuple[str, str]]:
    """Every sign of every signer; the last signer is test, the one before validation."""
    splits = ["train"] * (signers - 2) + ["val", "test"]
    return {
        f"sign{label}/s{signer}t{take}": (splits[signer], f"signer{signer}")
        for label in range(classes)
        for signer in range(signers)
        for take in range(takes)
    }


@pytest.fixture
def signs(tmp_path: Path) -> Fixture:
    home, table = corpus(tmp_path, signed())
    publish(home, table, signals(table))
    return home, table


def in_folds(signs: Fixture, folds: int = 3, model: str = "lstm_late", settings: dict[str, str] = SETTINGS, **options: Any) -> Run:
    return train(*signs, model, settings, seed=options.pop("seed", 1), device="cpu", folds=folds, **options)


def readings(signs: Fixture, folds: int, seed: int = 1) -> list[Reading]:
    home, table = signs
    return folded(Reading(table, open_stages(home, table, ["resnet50"], "refuse"), table.samples), folds, seed)


def test_every_clip_of_train_and_val_is_scored_once_and_no_test_clip_is_read(signs: Fixture) -> None:
    own = sorted(sample.id for sample in signs[1].samples if sample.split != "test")
    parts = readings(signs, 3)
    assert sorted(sample.id for part in parts for sample in part.of("test")) == own
    assert [sorted(sample.id for sample in part.samples) for part in parts] == [own] * 3


def test_folds_keep_signers_whole_and_as_many_folds_as_signers_leave_one_out(signs: Fixture, tmp_path: Path) -> None:
    home, table = corpus(tmp_path / "more", signed(signers=5), name="more")
    publish(home, table, signals(table))
    for part in folded(Reading(table, open_stages(home, table, ["resnet50"], "refuse"), table.samples), 2, seed=1):
        scored = {sample.signer for sample in part.of("test")}
        assert not scored & {sample.signer for split in ("train", "val") for sample in part.of(split)}
    assert [{sample.signer for sample in part.of("test")} for part in readings(signs, 3)] == [{"signer0"}, {"signer1"}, {"signer2"}]


def test_clips_of_unknown_signers_stay_with_what_the_split_keeps_together(signs: Fixture) -> None:
    home, table = signs
    unsigned = tuple(replace(sample, signer=None) for sample in table.samples)
    table = replace(table, samples=unsigned)
    takes = {sample.id: sample.id[:-2] for sample in unsigned}
    vars(table)["groups"] = takes
    for part in readings((home, table), 3):
        groups = [{takes[sample.id] for sample in part.of(split)} for split in ("train", "val", "test")]
        assert all(groups)
        assert sum(map(len, groups)) == len(set.union(*groups))


def test_another_seed_makes_other_folds_and_the_same_seed_the_same(tmp_path: Path) -> None:
    clips = {clip: (split, "") for clip, (split, _) in balanced().items()}
    home, table = corpus(tmp_path, clips)
    publish(home, table, signals(table))
    held = [[[sample.id for sample in part.of("test")] for part in readings((home, table), 3, seed)] for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert held[0] != held[2]


def test_the_whole_pools_the_folds_and_each_is_a_run_of_its_own(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    run = in_folds(signs)
    folds = [read(folder) for folder in fold_folders(run)]
    said = [predictions.read(folder) for folder in fold_folders(run)]
    assert predictions.read(run.folder).ids == tuple(clip for part in said for clip in part.ids)
    assert run.scores["n"] == sum(fold.scores["n"] for fold in folds) == 18
    assert run.scores["top1"] == pytest.approx(sum(fold.scores["top1"] * fold.scores["n"] for fold in folds) / 18)
    assert [fold["top1"] for fold in run.scores["folds"]] == [fold.scores["top1"] for fold in folds]
    assert run.scores["over_folds"]["mean"] == pytest.approx(sum(fold.scores["top1"] for fold in folds) / 3)
    assert (run.scores["split"], folds[1].scores["split"]) == ("3 folds", "fold 2 of 3")
    assert run.scores["interval"]["by"] == "signer"
    lines = capsys.readouterr().err
    assert "fold 2 of 3: train 11, val 1, scores 6 clips of 1 group: signer1" in lines
    assert f"fold 2 of 3: top-1 {folds[1].scores['top1']:.1%}" in lines


def test_more_folds_than_groups_leave_each_group_out_once_and_say_so(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(readings(signs, 9)) == 3
    assert "note: --folds 9: signs has 3 groups of clips that stay together, so 3 folds" in capsys.readouterr().err


def test_folds_that_cannot_be_are_one_line(signs: Fixture, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--folds 1: a clip is scored by a model of the other folds, so these are 2 or more$"):
        in_folds(signs, 1)
    home, table = signs
    alone = tuple(replace(sample, signer=None) for sample in table.samples)
    with pytest.raises(UserError, match=r"7 folds are too many: no class has more than 6 clips \(the largest: 'sign0'\); use 6 or fewer"):
        readings((home, replace(table, samples=alone, binding=replace(table.binding, split="stratified"))), 7)
    with pytest.raises(UserError, match="fold 1 of 2 leaves 6 clips of signs to train on, too few to cut a validation from"):
        readings(signs, 2)
    withheld = tuple(replace(sample, label=None) for sample in table.samples if sample.split != "test")
    with pytest.raises(UserError, match=r"signs has no labelled train or val clips to fold; see: manifests/signs\.csv"):
        in_folds((home, replace(table, samples=withheld)))


def test_the_same_line_finds_its_folds_and_a_lost_whole_is_pooled_again(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    first = in_folds(signs)
    capsys.readouterr()
    assert in_folds(signs).folder == first.folder
    assert f"finished before: {first.folder}; --again trains it anew" in capsys.readouterr().err
    shutil.rmtree(first.folder)
    again = in_folds(signs)
    assert again.scores == first.scores
    assert capsys.readouterr().err.count("finished before") == 3
    assert in_folds(signs, seed=2).folder != first.folder


def test_killed_folds_go_on_to_the_same_result(signs: Fixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table = signs
    shutil.copytree(home.cache, tmp_path / "other")
    whole = in_folds((Home(tmp_path / "other", home.manifests), table))
    keep, kept = fitting.Fitting._keep, []

    def dying(self: fitting.Fitting) -> None:
        keep(self)
        kept.append(self)
        if len(kept) == 6:  # the second epoch of the second fold
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fitting, "CHECKPOINT_SHARE", float("inf"))
        patch.setattr(fitting.Fitting, "_keep", dying)
        with pytest.raises(KeyboardInterrupt):
            in_folds(signs)
    resumed = in_folds(signs)
    assert resumed.folder.name == whole.folder.name
    for one, other in zip(fold_folders(resumed), fold_folders(whole), strict=True):
        weights = load_file(one / "weights.safetensors")
        assert all((values == weights[name]).all() for name, values in load_file(other / "weights.safetensors").items())
    assert (resumed.folder / "predictions.csv").read_bytes() == (whole.folder / "predictions.csv").read_bytes()


def test_a_label_that_the_other_folds_lack_counts_as_wrong_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, table = corpus(tmp_path, {**signed(), "rare/s0t0": ("train", "signer0")})
    publish(home, table, signals(table))
    run = in_folds((home, table))
    assert run.scores["counted_wrong"] == {"rare/s0t0": "rare"}
    assert run.scores["n"] == 19
    line = "1 clip of labels that the other folds lack, counted as wrong: rare/s0t0 (rare)"
    assert line in run.record["warnings"]
    assert line in capsys.readouterr().err
    said = predictions.read(run.folder)
    place = said.ids.index("rare/s0t0")
    assert (said.judged.rank[place], said.judged.probability[place]) == (0, 0.0)


def test_a_planted_duplicate_and_a_signer_in_two_folds_are_named(tmp_path: Path) -> None:
    clips = {clip: (split, "") for clip, (split, _) in balanced().items()}
    home, table = corpus(tmp_path, {**clips, "sign0/twin": ("train", "")})
    shutil.copyfile(table.binding.root / "sign0/train0.mp4", table.binding.root / "sign0/twin.mp4")
    publish(home, table, signals(table))
    known = {"sign0/train0": "anna", "sign0/twin": "anna"}
    samples = tuple(replace(sample, signer=known.get(sample.id)) for sample in table.samples if sample.split != "test")
    table = replace(table, samples=samples)
    vars(table)["groups"] = {sample.id: "one" if sample.id in ("sign0/train0", "sign1/train0") else sample.id for sample in samples}
    opened = open_stages(home, table, ["resnet50"], "refuse")
    trainer = RunTrainer(home, Reading(table, opened, table.samples), "cpu", "", {})
    recipe = configured(table, "lstm_late", SETTINGS)
    duplicates, signers = crossvalidation._record(trainer, folded(trainer.reading, 25, 1), "lstm_late", recipe, 1)["warnings"]
    assert duplicates.startswith("2 clips have the same bytes as one of another fold, so scores flatter (first: fold ")
    assert "sign0/train0 = fold" in duplicates
    assert signers.startswith("1 signer in more than one fold, so scores say little of new signers (first: anna: fold ")


@pytest.mark.parametrize("model", ["late_fusion", "xgb_meta"])
def test_a_model_of_models_trains_its_members_within_each_fold(signs: Fixture, model: str) -> None:
    settings = {"members": MEMBERS, **({"folds": "2", "rounds": "4"} if model == "xgb_meta" else {})}
    run = in_folds(signs, model=model, settings=settings)
    held = [set(predictions.read(folder).ids) for folder in fold_folders(run)]
    for folder in (signs[0].cache / "runs" / "signs" / "lstm_late").iterdir():
        record = json.loads((folder / "run.json").read_text())
        assert record["clips"]["train"] + record["clips"]["val"] + record["clips"]["test"] in (12, 18)
    assert len(set.union(*held)) == 18
    assert run.scores["parameters"] == read(fold_folders(run)[0]).scores["parameters"] > 0


def test_a_run_of_folds_scores_test_by_the_mean_of_its_models_and_nothing_else(signs: Fixture) -> None:
    home, _ = signs
    run = in_folds(signs)
    found = evaluate(home, run.folder, "test", device="cpu")
    assert (found["n"], found["split"]) == (6, "test")
    for folder in (run.folder, fold_folders(run)[0]):
        with pytest.raises(
            UserError, match=r"learned and scored clips of train and val \((3 folds|fold 1 of 3)\); score others: --split test"
        ):
            evaluate(home, folder, device="cpu")
        with pytest.raises(UserError, match="score others: --split test"):
            evaluate(home, folder, "val", device="cpu")


def test_two_runs_of_folds_are_equal(signs: Fixture) -> None:
    first = (in_folds(signs).folder / "predictions.csv").read_bytes()
    assert (in_folds(signs, again=True).folder / "predictions.csv").read_bytes() == first


def test_the_line_ends_with_the_document_and_its_page_names_every_fold(signs: Fixture) -> None:
    from pipeline.cli import main

    home, _ = signs
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    places = ["--cache", str(home.cache), "--manifests", str(home.manifests)]
    result = CliRunner().invoke(main, [*places, "train", "signs", "lstm_late", *sets, "--folds", "3", "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout.splitlines()[-1])
    assert [fold["n"] for fold in document["folds"]] == [6, 6, 6]
    assert Path(document["run"]).is_dir()
    page = Path(document["report"]).read_text("utf-8")
    assert [name for name in ("fold 1", "fold 2", "fold 3") if name not in page] == []
    assert "folds: top-1" in result.stderr
