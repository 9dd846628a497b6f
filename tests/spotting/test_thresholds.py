"""How sure a run must be: by what it says of clips that it did not learn from, measured on signs that it does not know."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.special import softmax

from pipeline.commands.spotting import way_of
from pipeline.errors import UserError
from pipeline.runs.calibration import thresholds
from pipeline.runs.calibration.thresholds import Thresholds, calibrated, lowest, measured
from pipeline.spotting.gate import GATES, Gate
from pipeline.spotting.spot import Way
from pipeline.types import Array
from tests.commands import run
from tests.spotting.signs import KNOWN, REST, Signs, done

CLASSES = ("A", "B", "C", "D")
SHARES = some.lists(some.floats(0, 1), min_size=1, max_size=40).map(np.array)


def scores(clips: int, seed: int, sure: float) -> tuple[Array, list[str]]:
    """Logits of clips, most of them right, `sure` times as large as they should be."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, clips)
    logits = random.normal(size=(clips, 4)) + 2.5 * np.eye(4)[truth]
    return sure * logits, [CLASSES[i] for i in truth]


@given(shares=SHARES, most=some.floats(0, 1))
def test_the_threshold_is_the_lowest_that_so_few_reach(shares: Array, most: float) -> None:
    threshold = lowest(shares, most)
    assert (shares >= threshold).mean() <= most
    assert threshold == 0 or (shares >= np.nextafter(threshold, -1)).mean() > most


def test_an_overconfident_model_is_tempered_by_as_much_as_it_is_too_sure() -> None:
    plain, sure = (calibrated(*scores(2000, 0, times), CLASSES, CLASSES, most=0.1) for times in (4.0, 20.0))
    assert sure.temperature == pytest.approx(5 * plain.temperature, rel=1e-3)
    assert (sure.threshold, sure.accepted, sure.false_accepts) == pytest.approx((plain.threshold, plain.accepted, plain.false_accepts))
    logits, labels = scores(2000, 0, 20.0)
    truth = [CLASSES.index(label) for label in labels]

    def unlikely(temperature: float) -> float:
        return float(-np.log(softmax(logits / temperature, axis=1)[np.arange(2000), truth]).mean())

    assert unlikely(sure.temperature) <= min(unlikely(1.0), unlikely(0.99 * sure.temperature), unlikely(1.01 * sure.temperature))


def test_a_model_that_is_always_right_is_not_made_surer() -> None:
    logits = 4 * np.eye(4)
    assert calibrated(logits, CLASSES, CLASSES, CLASSES, most=0.1).temperature == pytest.approx(1, abs=1e-4)


def test_signs_that_are_not_known_are_stood_in_for_by_clips_without_their_own_class() -> None:
    logits, labels = scores(500, 1, 1.0)
    said = calibrated(logits, labels, CLASSES, CLASSES, most=0.1)
    others = np.where(np.array(labels)[:, None] == np.array(CLASSES), -np.inf, logits / said.temperature)
    tops = softmax(others, axis=1).max(1)
    assert said.false_accepts == (tops >= said.threshold).mean() <= 0.1
    shares = softmax(logits / said.temperature, axis=1)
    right = shares.argmax(1) == [CLASSES.index(label) for label in labels]
    assert said.accepted == (right & (shares.max(1) >= said.threshold)).mean()
    found = measured(said, logits, CLASSES, CLASSES, most=0.2)
    assert (found.unseen, found.unseen_accepts) == (500, (shares.max(1) >= said.threshold).mean())
    assert found.unseen_threshold == lowest(shares.max(1), 0.2)


def test_classes_that_were_never_learned_are_neither_said_nor_calibrated_on() -> None:
    logits, labels = scores(500, 2, 1.0)
    logits[:, 3] += 50
    said = calibrated(logits, labels, CLASSES, CLASSES[:3], most=0.1)
    own = [number for number, label in enumerate(labels) if label != "D"]
    assert said == calibrated(logits[own][:, :3], [labels[i] for i in own], CLASSES[:3], CLASSES[:3], most=0.1)
    with pytest.raises(UserError, match=r"no clip is of one of two or more classes that the model learned"):
        calibrated(logits, labels, CLASSES, ["D"], most=0.1)


def test_of_models_without_some_classes_each_part_is_measured_at_what_the_others_ask_for() -> None:
    logits, labels = scores(400, 3, 1.0)
    unknown = [(scores(80, 4 + part, 1.0 + part)[0], CLASSES[:2] if part else CLASSES[2:]) for part in range(2)]
    said = calibrated(logits, labels, CLASSES, CLASSES, most=0.1, unknown=unknown)
    columns = [[2, 3], [0, 1]]
    tops = [softmax(part[:, own] / said.temperature, axis=1).max(1) for (part, _), own in zip(unknown, columns, strict=True)]
    assert said.threshold == lowest(np.concatenate(tops), 0.1)
    crossed = np.concatenate([tops[0] >= lowest(tops[1], 0.1), tops[1] >= lowest(tops[0], 0.1)])
    assert (said.unseen, said.unseen_accepts) == (160, crossed.mean())


def test_thresholds_are_read_as_they_were_written_and_refused_where_they_are_damaged(tmp_path: Path) -> None:
    said = Thresholds(1.5, 0.7, "val", 9, 0.9, 0.05, 3, 1 / 3, 0.8, 1.4)
    assert thresholds.read(tmp_path) is None
    path = thresholds.write(tmp_path, said)
    assert thresholds.read(tmp_path) == said
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 9}))
    with pytest.raises(UserError, match=r"thresholds\.json has format 9, this signcache reads up to 1: install a newer signcache"):
        thresholds.read(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"thresholds\.json is damaged .*run: signcache calibrate"):
        thresholds.read(tmp_path)


def test_a_published_gate_is_taken_as_it_is_and_the_calibrated_one_where_none_is_named(tmp_path: Path) -> None:
    given = {"gate": None, "threshold": None, "window": None, "stride": 1}
    assert way_of(tmp_path, given) == Way(GATES["insignia"], 60)
    thresholds.write(tmp_path, Thresholds(1.5, 0.81, "val", 9, 0.9, 0.05, window_seconds=1.4))
    assert way_of(tmp_path, given) == way_of(tmp_path, {**given, "gate": "calibrated"}) == Way(Gate(30, 0.81), 60, 1.4, temperature=1.5)
    for name, gate in GATES.items():
        assert way_of(tmp_path, {**given, "gate": name}) == Way(gate, 60)
    assert way_of(tmp_path, {**given, "gate": "insignia", "threshold": 0.9, "stride": 3}) == Way(Gate(30, 0.9), 60, stride=3)
    assert way_of(tmp_path, {**given, "window": 24}) == Way(Gate(30, 0.81), 24, temperature=1.5)
    assert Way(gate, 60, 1.4).frames(25.0) == 35
    assert Way(gate, 60).frames(25.0) == Way(gate, 60, 1.4).frames(0.0) == 60


def test_a_run_is_calibrated_and_measured_on_signs_that_it_never_saw(signs: Signs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(signs.runs["colour"], folder)
    document = json.loads(done(signs.home, "calibrate", folder, "--unseen", signs.root / "others", "--device", "cpu", "--json"))
    said = thresholds.read(folder)
    assert said is not None
    assert document == {"run": str(folder), **asdict(said)}
    assert (said.split, said.clips, said.unseen) == ("val", 4 * (len(KNOWN) + 1), 3)
    assert said.false_accepts <= 0.05
    assert said.window_seconds == pytest.approx(1.0, abs=0.2)
    top = json.loads(done(signs.home, "predict", folder, signs.root / "others", "--top", 9, "--device", "cpu", "--json"))
    logits = np.log([[max(1e-12, dict(map(tuple, each["top"])).get(label, 0)) for label in sorted((*KNOWN, REST))] for each in top])
    assert said.unseen_accepts == (softmax(logits / said.temperature, axis=1).max(1) >= said.threshold).mean()
    done(signs.home, "package", folder, tmp_path / "package")
    (packaged,) = (tmp_path / "package").rglob(thresholds.FILE)
    assert thresholds.read(packaged.parent) == said


def test_unknown_signs_are_classes_that_the_run_is_trained_again_without(signs: Signs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(signs.runs["colour"], folder)
    result = run(signs.home, "calibrate", folder, "--leave-out", 2, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert "without part 1 of 2: BLUE, RED\n" in result.stderr
    assert "without part 2 of 2: GREEN, REST\n" in result.stderr
    said = thresholds.read(folder)
    assert said is not None
    assert (said.unseen, said.clips) == (16, 16)
    assert said.false_accepts <= 0.05
    again = run(signs.home, "calibrate", folder, "--leave-out", 2, "--device", "cpu")
    assert "epoch" not in again.stderr
    assert "measured on 16 clips of classes that were not learned" in again.stdout
    assert thresholds.read(folder) == said
    text = run(signs.home, "calibrate", folder, "--leave-out", 9).stderr
    assert "--leave-out 9: the run learned 4 classes; give 2 to 4, so that two or more are left" in text


def test_a_split_that_was_learned_does_not_calibrate(signs: Signs, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(signs.runs["colour"], folder)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "settings": {**record["settings"], "learn": "all", "best_by": "last"}}))
    result = run(signs.home, "calibrate", folder)
    assert result.exit_code == 2
    assert "learned the clips of val (learn=all); score others: --split test" in result.stderr
