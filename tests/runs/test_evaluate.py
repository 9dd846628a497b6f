"""A finished run scored again: from its weights, on the features it was trained on, or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.cache import open_stage
from pipeline.cache.stage import configure
from pipeline.cache.upkeep.compact import compact
from pipeline.cache.upkeep.restamp import restamp
from pipeline.corpus import manifest
from pipeline.errors import UserError
from pipeline.reports.attention import over_time
from pipeline.runs.predict import predict_splits
from pipeline.runs.run_folder import read
from pipeline.runs.training import evaluate
from tests.runs.test_training import Fixture, trained

torch.set_num_threads(1)


def test_evaluate_repeats_the_scores_from_the_stored_weights(signs: Fixture) -> None:
    run = trained(signs)
    found = evaluate(signs[0], run.folder, "test", device="cpu")
    assert found == {key: run.scores[key] for key in found}
    assert {"run", "dataset", "model", "split", "n", "top1", "top5", "macro_f1"} <= found.keys()
    assert evaluate(signs[0], run.folder, "train", device="cpu")["n"] == 18


def test_evaluate_refuses_features_that_the_run_was_not_trained_on(signs: Fixture) -> None:
    run = trained(signs)
    record = json.loads((run.folder / "run.json").read_text())
    record["stages"]["resnet50"]["digest"] = "0123456789abcdef"
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"the run was trained on features 0123456789abcdef of signs/resnet50, and \w+ are published now"):
        evaluate(signs[0], run.folder, "test")


def test_a_run_goes_on_with_features_that_were_adopted_from_those_it_was_trained_on(signs: Fixture) -> None:
    home, table = signs
    run = trained(signs)
    stage = configure(home, table, "resnet50")
    for number, digest in enumerate(("1" * 16, "2" * 16)):
        features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests, stale="allow")
        stage = replace(stage, fingerprint=replace(stage.fingerprint, digest=digest))
        rows = {clip: features.index.entry(place) for clip, place in features.index.position.items()}
        restamp(home, stage, features, rows, {"from": features.digest, "at": float(number)})
    scores = evaluate(home, run.folder, "test", device="cpu")
    assert scores["top1"] == run.scores["top1"]
    packed = compact(home, "signs", "resnet50")
    assert packed is not None
    assert packed.before > packed.after
    assert evaluate(home, run.folder, "test", device="cpu") == scores


def test_a_clip_that_changed_since_its_extraction_is_not_scored_by_its_old_rows(signs: Fixture) -> None:
    run = trained(signs)
    (signs[1].binding.root / "sign0/test0.mp4").write_text("another recording")
    line = r"^1 of {} clips has no features in signs/resnet50 \(first: sign0/test0: changed input\); run: signcache extract signs resnet50$"
    with pytest.raises(UserError, match=line.format(6)):
        evaluate(signs[0], run.folder, "test", device="cpu")
    with pytest.raises(UserError, match=line.format(6)):
        predict_splits(signs[0], run.folder, ["test"], device="cpu")
    assert "sign0/test0 are gone (resnet50: changed input)" in over_time(signs[0], run, ["sign0/test0"]).reason


def test_evaluate_refuses_what_is_no_finished_run(signs: Fixture, tmp_path: Path) -> None:
    home, table = signs
    with pytest.raises(UserError, match=r"is no run folder: it holds no run\.json"):
        evaluate(home, tmp_path)
    run = trained(signs)
    withheld = tuple(replace(s, label=None) if s.split == "val" else s for s in table.samples)
    manifest.write(home, replace(table, samples=withheld))
    with pytest.raises(UserError, match="signs has no labelled clips in split 'val'; it has: train 18, test 6"):
        evaluate(home, run.folder, "val")
    (run.folder / "result.json").unlink()
    with pytest.raises(UserError, match="is unfinished; start its training again to go on: signcache train signs lstm_late"):
        evaluate(home, run.folder, "test")


def test_a_run_of_a_newer_format_is_refused(signs: Fixture) -> None:
    run = trained(signs)
    record = json.loads((run.folder / "run.json").read_text())
    (run.folder / "run.json").write_text(json.dumps({**record, "format": 2}))
    with pytest.raises(UserError, match="has format 2, this signcache reads up to 1: install a newer signcache"):
        read(run.folder)
