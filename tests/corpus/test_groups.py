"""What a corpus says belongs together stays together wherever signers are unknown; a list that parts it is told with its clips."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.corpus import manifest
from pipeline.corpus.folds import folds_of, kept_together
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.opening import open_stages
from pipeline.reports.comparison import compare
from pipeline.reports.printed import scores_line
from pipeline.runs.crossvalidation import folded
from pipeline.runs.reading import Reading
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring import predictions
from pipeline.runs.scoring.intervals import interval
from pipeline.runs.training import configured, evaluate, train
from pipeline.runs.tuning import search_for, tune
from pipeline.types import Sample, Split
from tests.feature_cache import publish

torch.set_num_threads(1)
WORDS = ("bank", "cow", "hat")
SETTINGS = {"stages": "keypoints", "epochs": "2", "hidden": "4", "learn": "train"}
Fixture = tuple[Home, Manifest]


def listed(root: Path, recordings: int = 6, siblings: int = 3) -> Path:
    """INCLUDE-50 whose given list takes the last clip of every second recording from train, for val and test in turn."""
    for word in WORDS:
        for recording in range(recordings):
            for clip in range(siblings):
                parted = recording % 2 == 0 and clip == siblings - 1
                split = ("val" if recording % 4 else "test") if parted else "train"
                path = root / f"include50_{split}_keypoints" / f"{word}_MVI_{100 * recording + clip}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(path.stem)
    return root


def bound(tmp_path: Path, *sizes: int, **asked: object) -> Fixture:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    return home, manifest.bind(home, "signs", corpus="include50", root=listed(tmp_path / "data", *sizes), **asked)


@pytest.fixture
def signs(tmp_path: Path) -> Fixture:
    home, table = bound(tmp_path)
    random = torch.Generator().manual_seed(0)
    shape = (5, *publish(home, table, {}, stage="keypoints").extractor.row_shape)
    publish(home, table, {clip: torch.randn(shape, generator=random).numpy() for clip in table.ids}, stage="keypoints")
    return home, table


def recording(sample: Sample) -> str:
    word, _, number = sample.id.partition("_MVI_")
    return f"{word} {int(number) // 100}"


def parted(*parts: Sequence[Sample]) -> set[str]:
    """Recordings of which clips are in more than one of the parts."""
    found = [{recording(sample) for sample in part} for part in parts]
    return {name for number, names in enumerate(found) for name in names if any(name in other for other in found[number + 1 :])}


@pytest.mark.parametrize("split", ["official", "stratified", "recording"])
def test_folds_their_validation_and_folds_within_keep_recordings_whole_whatever_the_split(tmp_path: Path, split: str) -> None:
    _, table = bound(tmp_path, split=split)
    assert bool(parted(*([s for s in table.samples if s.split == name] for name in ("train", "val", "test")))) == (split != "recording")
    for fold in folded(Reading(table, {}, table.samples), 3, seed=1):
        train, val, test = (fold.of(name) for name in ("train", "val", "test"))
        assert all((train, val, test))
        assert parted(train, val, test) == set()
        _, groups = kept_together(train, table)
        for held in folds_of([sample.label for sample in train], groups, 2, 0):
            assert parted([train[i] for i in held], [s for i, s in enumerate(train) if i not in held]) == set()


def test_what_a_training_opens_names_the_recording_of_every_clip(signs: Fixture) -> None:
    home, table = signs
    train = Reading(table, open_stages(home, table, ["keypoints"], "refuse"), table.samples).fold("train", 0)
    assert len(set(train.groups)) == 18
    assert len(train) == 45


def test_a_validation_that_is_cut_of_an_official_train_keeps_recordings_whole_and_an_older_cut_stays(tmp_path: Path) -> None:
    for path in (listed(tmp_path / "data") / "include50_val_keypoints").iterdir():
        path.rename(tmp_path / "data" / "include50_train_keypoints" / path.name)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "signs", corpus="include50", root=tmp_path / "data")
    assert table.binding.split == "official"
    train, val = ([s for s in table.samples if s.split == name] for name in ("train", "val"))
    assert val
    assert parted(train, val) == set()
    older: dict[str, Split] = {train[0].id: "val", val[0].id: "train"}
    manifest.write(home, replace(table, samples=tuple(replace(s, split=older.get(s.id, s.split)) for s in table.samples)))
    again = {sample.id: sample.split for sample in manifest.bind(home, "signs").samples}
    assert again == {sample.id: older.get(sample.id, sample.split) for sample in table.samples}


def test_known_signers_are_kept_together_and_recordings_where_one_is_unknown(tmp_path: Path) -> None:
    _, table = bound(tmp_path)
    signed = tuple(replace(sample, signer=f"signer{i % 3}") for i, sample in enumerate(table.samples))
    by, names = kept_together(signed, replace(table, samples=signed))
    assert (by, set(names)) == ("signer", {"signer0", "signer1", "signer2"})
    assert kept_together([s for s in signed if s.signer == "signer0"], replace(table, samples=signed))[0] == "signer"
    unknown = (replace(signed[0], signer=None), *signed[1:])
    assert kept_together(unknown, replace(table, samples=unknown))[0] == "recording"
    alone = tuple(replace(sample, signer="anna") for sample in table.samples)
    assert kept_together(alone, replace(table, samples=alone))[0] == "recording"


def test_a_given_list_that_parts_recordings_is_told_with_its_clips(signs: Fixture, capsys: pytest.CaptureFixture[str]) -> None:
    line = (
        "3 of 3 val clips and 6 of 6 test clips share a recording with clips that train, so they say little of new recordings "
        "(first: bank_MVI_202: bank/200); split by recording: signcache manifest NAME --split recording"
    )
    run = train(*signs, "lstm_late", SETTINGS, device="cpu")
    assert line in run.record["warnings"]
    assert line in capsys.readouterr().err
    told: list[str] = []
    tune(search_for(*signs, "lstm_late", SETTINGS, device="cpu"), 1, say=told.append)
    assert told[0] == line.replace(" and 6 of 6 test clips", "")
    whole = train(*signs, "lstm_late", {**SETTINGS, "learn": "all", "best_by": "last"}, device="cpu")
    assert line.replace("3 of 3 val clips and ", "").replace("202: bank/200", "2: bank/0") in whole.record["warnings"]


def test_folds_part_no_recording_and_say_where_their_validation_had_to(signs: Fixture, tmp_path: Path) -> None:
    run = train(*signs, "lstm_late", SETTINGS, device="cpu", folds=3)
    assert [line for line in run.record["warnings"] if "recording" in line] == []
    assert run.scores["n"] == len(predictions.read(run.folder).ids) == 48
    assert run.scores["interval"]["by"] == "recording"
    _, table = bound(tmp_path / "few", 2, 14)
    few = tuple(sample for sample in table.samples if recording(sample).endswith(" 1"))
    recipe = configured(table, "lstm_late", SETTINGS)
    signed = tuple(replace(sample, signer=recording(sample)) for sample in few)
    for by, reading in (("recording", Reading(table, {}, few)), ("signer", Reading(replace(table, samples=signed), {}, signed))):
        for fold in folded(reading, 3, 1):
            own = len(fold.of("val"))
            (line,) = fold.parted(recipe)
            assert line.startswith(f"{own} of {own} val clips share a {by} with clips that train, so they say little of new {by}s")
            assert "split by" not in line


def test_intervals_of_scores_and_of_differences_count_a_recording_as_one(signs: Fixture) -> None:
    runs = [train(*signs, "lstm_late", SETTINGS, seed=seed, device="cpu") for seed in (0, 1)]
    for run in runs:
        said = predictions.read(run.folder)
        assert said.groups == tuple(signs[1].groups[clip] for clip in said.ids)
        assert run.scores["interval"] == {**interval(said.judged.hits, said.groups, "recording")._asdict(), "level": 0.95}
    found = evaluate(signs[0], runs[0].folder, device="cpu")
    assert found == {key: runs[0].scores[key] for key in found}
    assert [row.paired["by"] for row in compare(runs) if row.paired] == ["recording", "recording"]


def test_a_run_of_an_older_signcache_is_compared_by_what_a_newer_one_knows(signs: Fixture) -> None:
    older, newer = (train(*signs, "lstm_late", SETTINGS, seed=seed, device="cpu") for seed in (0, 1))
    table = older.folder / predictions.PREDICTIONS
    with open(table, newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]
    with open(table, "w", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(rows)
    older = Run(older.folder, older.record, {**older.scores, "interval": {**older.scores["interval"], "by": "clip"}})
    assert [row.paired["by"] for row in compare([older, newer]) if row.paired] == ["clip", "recording"]
    assert predictions.read(older.folder).groups == ("",) * 6


@pytest.mark.parametrize(
    ("low", "words"), [(0.5, r"\(95% interval 50.0% to 90.0% by signer\)"), (None, r"\(no 95% interval: .* three signers\)")]
)
def test_the_line_of_a_score_says_its_interval_or_why_there_is_none(low: float | None, words: str) -> None:
    spread = {"low": low, "high": low and 0.9, "by": "signer", "level": 0.95}
    result = {"dataset": "a", "model": "b", "split": "test", "n": 9, "top1": 0.7, "top5": 1.0, "macro_f1": 0.7, "interval": spread}
    assert re.search(words, scores_line({**result, "chance": {"uniform": 0.1, "majority": 0.1}}))
