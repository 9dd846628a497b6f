"""A training: what it refuses, that it repeats to the bit, that a kill costs nothing, and what its run folder says."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from pipeline.cache import open_stage
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.learning import devices, network
from pipeline.runs._trainer import record_of
from pipeline.runs.reading import read_for
from pipeline.runs.run_folder import Run
from pipeline.runs.training import configured, train
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
SETTINGS = {"epochs": "8", "hidden": "8", "lr": "0.003", "batch_size": "8", "normalize": "none"}
Fixture = tuple[Home, Manifest]


def trained(signs: Fixture, settings: dict[str, str] | None = None, **options: Any) -> Run:
    return train(*signs, "lstm_late", {**SETTINGS, **(settings or {})}, seed=options.pop("seed", 1), device="cpu", **options)


def weights(run: Run) -> dict[str, np.ndarray]:
    return load_file(run.folder / "weights.safetensors")


def assert_same_weights(one: Run, other: Run) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_a_training_learns_and_its_folder_says_what_made_it(signs: Fixture) -> None:
    run = trained(signs, {"epochs": "12", "hidden": "32"})
    assert run.scores["top1"] == 1.0
    assert (run.scores["split"], run.scores["n"]) == ("test", 6)
    assert run.record["settings"]["stages"] == ["resnet50"]
    assert run.record["stages"]["resnet50"]["identity"]["fields"]["max_frames"] == 30
    assert run.record["manifest"]["digest"] == signs[1].digest
    assert run.record["environment"]["threads"] == torch.get_num_threads()
    lines = (run.folder / "metrics.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,val_loss,val_top1,lr,seconds,best"
    assert len(lines) == 13
    assert not (run.folder / "checkpoint.pt").exists()


def test_two_runs_of_one_seed_are_equal_to_the_bit(signs: Fixture) -> None:
    first = weights(trained(signs))
    again = weights(trained(signs, again=True))
    other = weights(trained(signs, seed=2))
    assert all((first[name] == again[name]).all() for name in first)
    assert not all((first[name] == other[name]).all() for name in first)


def test_the_same_line_finds_its_finished_run(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    first = trained(signs)
    before = (first.folder / "run.json").stat().st_mtime_ns
    capsys.readouterr()
    second = trained(signs)
    assert (second.folder, (second.folder / "run.json").stat().st_mtime_ns) == (first.folder, before)
    assert f"finished before: {first.folder}; --again trains it anew" in capsys.readouterr().err


def test_another_setting_or_label_is_another_run(signs: Fixture) -> None:
    home, table = signs
    first = trained(signs)
    assert trained(signs, {"dropout": "0.2"}).folder != first.folder
    swapped = tuple(replace(s, label="sign1") if s.id == "sign0/train0" else s for s in table.samples)
    assert trained((home, replace(table, samples=swapped))).folder != first.folder


def test_other_signers_groups_or_devices_are_another_run(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table = signs

    def identity(table: Manifest) -> str:
        recipe = configured(table, "lstm_late", SETTINGS)
        reading, _ = read_for(home, table, recipe, table.samples, stale="refuse", allow_missing=0)
        return str(record_of(home, reading, "lstm_late", recipe, 1)["id"])

    signed = replace(table, samples=tuple(replace(sample, signer=f"{sample.signer} again") for sample in table.samples))
    unknown = replace(table, samples=tuple(replace(sample, signer=None) for sample in table.samples))
    grouped = replace(unknown)
    vars(grouped)["groups"] = {sample.id: sample.id[:-1] for sample in table.samples}
    found = [identity(each) for each in (table, signed, unknown, grouped)]
    monkeypatch.setattr(devices, "count", lambda: 2)
    assert len({*found, identity(table)}) == 5


def test_clips_without_features_are_refused_by_count_and_name(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    rows = signals(table)
    del rows["sign1/train2"]
    publish(home, table, rows, failed={"sign1/train2": "cannot be decoded by decord"})
    text = (
        r"1 of 30 clips has no features in signs/resnet50 \(first: sign1/train2: cannot be decoded by decord\); "
        r"run: signcache extract signs resnet50, or go on without them: --allow-missing 1"
    )
    with pytest.raises(UserError, match=f"^{text}$"):
        trained((home, table))


def test_clips_left_out_on_request_are_recorded_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home, table = corpus(tmp_path, balanced())
    rows = signals(table)
    del rows["sign1/train2"]
    publish(home, table, rows, failed={"sign1/train2": "cannot be decoded"})
    run = trained((home, table), allow_missing=1)
    assert run.record["dropped"] == {"sign1/train2": "resnet50: cannot be decoded"}
    assert run.record["clips"]["train"] == 17
    assert "1 clip left out for want of features: sign1/train2 (resnet50: cannot be decoded)" in capsys.readouterr().err


def test_a_clip_that_changed_since_its_extraction_is_refused(signs: Fixture) -> None:
    home, table = signs
    (table.binding.root / "sign0/val0.mp4").write_text("other bytes than before")
    with pytest.raises(UserError, match=r"1 of 30 clips has no features in signs/resnet50 \(first: sign0/val0: changed input\)"):
        trained((home, table))


def test_a_touched_clip_is_no_other_clip(signs: Fixture) -> None:
    home, table = signs
    os.utime(table.binding.root / "sign0/val0.mp4")
    assert trained((home, table)).scores["n"] == 6


def test_a_cache_without_its_media_trains(signs: Fixture) -> None:
    home, table = signs
    shutil.rmtree(table.binding.root)
    assert trained((home, table)).scores["n"] == 6


def test_stale_features_are_refused_in_one_sentence_and_read_when_allowed(signs: Fixture) -> None:
    home, _ = signs
    path = home.cache / "signs" / "resnet50" / "published.json"
    said = json.loads(path.read_text())
    folder = path.parent / said["digest"]
    said["identity"]["fields"]["max_frames"], said["digest"] = 20, "0123456789abcdef"
    folder.rename(path.parent / said["digest"])
    said.pop("seal", None)
    path.write_text(json.dumps(said))
    with pytest.raises(UserError, match=r"the features of signs/resnet50 are stale \(max_frames 20 -> 30\); run: signcache extract"):
        trained(signs)
    run = trained(signs, stale="allow")
    assert run.record["stages"]["resnet50"]["digest"] == "0123456789abcdef"


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ("radar_cnn", "signs has no features of 'radar_cnn'; published: resnet50; its clips have no radar media, which that stage reads"),
        ("resnet5", "signs has no features of 'resnet5'; published: resnet50; there is no stage of that name; did you mean 'resnet50'"),
        ("resnet50,resnet50", "model 'lstm_late': stages=resnet50,resnet50 names a stage twice"),
    ],
)
def test_a_stage_that_cannot_be_read_is_refused_with_what_can(signs: Fixture, stages: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        trained(signs, {"stages": stages})


def test_what_is_not_extracted_yet_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="signs has no features of 'resnet50'; published: nothing; run: signcache extract signs resnet50"):
        trained(corpus(tmp_path, balanced()))


def test_the_corpus_settings_give_way_to_those_of_the_line(signs: Fixture) -> None:
    from pipeline.runs.training import configured

    assert configured(signs[1], "lstm_late", {}).stages == ("resnet50",)
    assert configured(signs[1], "lstm_late", {"stages": "a,b"}).stages == ("a", "b")
    with pytest.raises(UserError, match="model 'lstm_late' has no field 'hiden'; did you mean 'hidden'"):
        configured(signs[1], "lstm_late", {"hiden": "3"})
    with pytest.raises(UserError, match="no model called 'lstm_lat'; did you mean 'lstm_late'"):
        configured(signs[1], "lstm_lat", {})


def test_equal_bytes_and_signers_across_splits_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = {**balanced(), "sign0/twin": ("test", "train-signer0")}
    home, table = corpus(tmp_path, clips)
    shutil.copyfile(table.binding.root / "sign0/train0.mp4", table.binding.root / "sign0/twin.mp4")
    publish(home, table, signals(table))
    run = trained((home, table))
    said = capsys.readouterr().err
    for line in run.record["warnings"]:
        assert line in said
    duplicates, signers = run.record["warnings"]
    assert (
        duplicates == "2 clips have the same bytes as one of another split, so scores flatter (first: train sign0/train0 = test sign0/twin)"
    )
    assert signers.startswith("1 signer in more than one split, so scores say little of new signers (first: train-signer0: test, train)")


def test_a_scored_label_that_train_lacks_counts_as_wrong_and_is_named(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, {**balanced(), "never/test0": ("test", "test-signer0")})
    publish(home, table, signals(table))
    run = trained((home, table))
    assert run.scores["n"] == 7
    assert run.scores["top1"] <= 6 / 7
    assert run.scores["counted_wrong"] == {"never/test0": "never"}
    assert "1 test clip of labels that train lacks, counted as wrong: never" in run.record["warnings"]


def test_where_no_test_clip_has_a_label_validation_is_scored_and_the_run_says_so(signs: Fixture) -> None:
    home, table = signs
    withheld = tuple(replace(s, label=None) if s.split == "test" else s for s in table.samples)
    run = trained((home, replace(table, samples=withheld)))
    assert (run.scores["split"], run.scores["selected_on_scored"]) == ("val", True)
    assert (
        "no test clip has a label: validation is scored, which also selected the weights, so the scores flatter" in run.record["warnings"]
    )


def test_validation_that_trained_is_not_called_a_selection(signs: Fixture) -> None:
    home, table = signs
    withheld = replace(table, samples=tuple(replace(s, label=None) if s.split == "test" else s for s in table.samples))
    run = trained((home, withheld), {"learn": "all", "best_by": "last", "schedule": "constant", "patience": "0"})
    assert "no test clip has a label: validation is scored, which also trained the model, so the scores flatter" in run.record["warnings"]


def test_a_corpus_without_validation_clips_is_refused(signs: Fixture) -> None:
    home, table = signs
    withheld = tuple(replace(s, label=None) if s.split == "val" else s for s in table.samples)
    with pytest.raises(UserError, match="signs has no labelled val clips to stop and select on; labelled: train 18, test 6"):
        trained((home, replace(table, samples=withheld)))


def test_patience_stops_a_training_that_does_not_improve(signs: Fixture) -> None:
    run = trained(signs, {"lr": "1e-12", "patience": "2", "epochs": "50"})
    assert len((run.folder / "metrics.csv").read_text().splitlines()) < 51


def test_a_training_that_diverges_is_one_line(signs: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.Network, "losses", lambda self, logits, batch: logits.sum(1) * float("nan"))
    with pytest.raises(UserError, match=r"training diverged in epoch 1: the loss is nan; try a lower rate: --set lr=0\.0003"):
        trained(signs)


def test_training_reads_the_published_features_only(signs: Fixture) -> None:
    features = open_stage("signs", "resnet50", cache=signs[0].cache, manifests=signs[0].manifests)
    assert trained(signs).record["stages"]["resnet50"]["digest"] == features.digest
