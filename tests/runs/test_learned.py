"""One list of the classes that a training saw: what may be answered, what is counted as wrong, and what chance is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.opening import open_stages
from pipeline.errors import UserError
from pipeline.runs.crossvalidation import folded
from pipeline.runs.predict import predict_splits
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.runs.training import evaluate, train
from tests.feature_cache import balanced, corpus, publish, signals

torch.set_num_threads(1)
TINY = {"epochs": "12", "hidden": "32", "lr": "0.003", "batch_size": "8", "normalize": "none"}
ALL = {"learn": "all", "best_by": "last"}
MEMBER = "lstm_late:stages=resnet50:epochs=12:hidden=32:lr=0.003:batch_size=8:normalize=none"
Fixture = tuple[Home, Manifest]


@pytest.fixture
def late(tmp_path: Path) -> Fixture:
    """Three signs in every split, and one, the most frequent of test, whose only other signer fell into validation."""
    clips = balanced(held=2)
    clips |= {f"late/val{number}": ("val", "val-signer0") for number in range(6)}
    clips |= {f"late/test{number}": ("test", "test-signer0") for number in range(3)}
    home, table = corpus(tmp_path, clips)
    publish(home, table, signals(table))
    return home, table


def run_of(late: Fixture, settings: dict[str, str], model: str = "lstm_late", **options: Any) -> Run:
    return train(*late, model, settings, seed=1, device="cpu", **options)


def answered(late: Fixture, run: Run) -> set[str]:
    """Every label that a prediction may say."""
    return {label for said in predict_splits(late[0], run.folder, ["test"], device="cpu", top=9) for label, _ in said.top}


def test_a_class_of_validation_counts_where_validation_trains(late: Fixture) -> None:
    run = run_of(late, {**TINY, **ALL})
    assert run.record["learned"] == ["late", "sign0", "sign1", "sign2"]
    assert run.scores["counted_wrong"] == {}
    assert run.scores["top1"] == 1.0
    assert run.scores["chance"] == {"uniform": 1 / 4, "majority": 3 / 9}
    assert not [line for line in run.record["warnings"] if "that train lacks" in line]
    assert evaluate(late[0], run.folder, "test", device="cpu")["top1"] == 1.0
    assert answered(late, run) == {"late", "sign0", "sign1", "sign2"}


def test_a_class_that_was_never_trained_is_neither_answered_nor_part_of_chance(late: Fixture) -> None:
    run = run_of(late, TINY)
    assert run.record["learned"] == ["sign0", "sign1", "sign2"]
    assert run.scores["counted_wrong"] == {f"late/test{number}": "late" for number in range(3)}
    assert run.scores["chance"] == {"uniform": 1 / 3, "majority": 2 / 9}
    found = evaluate(late[0], run.folder, "test", device="cpu")
    assert (found["top1"], found["chance"]) == (run.scores["top1"], run.scores["chance"])
    assert answered(late, run) == {"sign0", "sign1", "sign2"}
    said = predict_splits(late[0], run.folder, ["test"], device="cpu")
    assert [sum(share for _, share in each.top) for each in said] == pytest.approx([1.0] * 9)


def test_a_member_that_learns_all_counts_for_the_whole(late: Fixture) -> None:
    member = ":".join([MEMBER, *(f"{key}={value}" for key, value in ALL.items())])
    run = run_of(late, {"members": f"{member},{MEMBER}:seed=3"}, "late_fusion")
    assert "late" in run.record["learned"]
    assert run.scores["counted_wrong"] == {}
    with pytest.raises(UserError, match=r"learned the clips of val \(learn=all\); score others: --split test"):
        evaluate(late[0], run.folder, "val", device="cpu")


def _in_validation_only(part: Reading, label: str) -> bool:
    """Whether a fold scores a class of which validation has clips and train none."""
    test, val, train = ({sample.label for sample in part.of(split)} for split in ("test", "val", "train"))
    return label in test & val - train


def test_in_folds_too_the_clips_of_validation_count_where_they_train(tmp_path: Path) -> None:
    clips = {f"sign{label}/{signer}": ("train", f"signer{signer}") for label in range(3) for signer in range(5)}
    home, table = corpus(tmp_path, clips | {f"rare/{signer}": ("train", f"signer{signer}") for signer in range(2)})
    publish(home, table, signals(table))
    reading = Reading(table, open_stages(home, table, ["resnet50"], "refuse"), table.samples)
    seed = next(seed for seed in range(99) if any(_in_validation_only(part, "rare") for part in folded(reading, 5, seed)))
    run = train(home, table, "lstm_late", {**TINY, **ALL, "epochs": "1"}, seed=seed, device="cpu", folds=5)
    assert run.record["learned"] == ["rare", "sign0", "sign1", "sign2"]
    assert run.scores["counted_wrong"] == {}
    assert not [line for line in run.record["warnings"] if "that the other folds lack" in line]


def test_validation_that_was_learned_is_not_scored(late: Fixture) -> None:
    run = run_of(late, {**TINY, **ALL, "epochs": "1"})
    with pytest.raises(UserError, match=r"^.*lstm_late/\w+ learned the clips of val \(learn=all\); score others: --split test$"):
        evaluate(late[0], run.folder, "val", device="cpu")
    assert evaluate(late[0], run_of(late, {**TINY, "epochs": "1"}).folder, "val", device="cpu")["n"] == 12
