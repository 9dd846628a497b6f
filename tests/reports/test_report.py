"""The page of a run: whole in itself, true to the result, and safe whatever the labels are."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.learning.epochs import Epoch, write_figures
from pipeline.reports import report
from pipeline.runs import run_folder
from pipeline.runs.run_folder import Run
from pipeline.runs.scoring.metrics import calibration, judge, score
from tests.video_files import beheaded, write_clip

CLASSES = ("<script>alert(1)</script>", "$x_{", "水 & salt", "plain")
IDENTITY: dict[str, Any] = {
    "class": "ResNet50",
    "fields": {"source": "rgb"},
    "libraries": {},
    "weights": {"name": "IMAGENET1K_V2", "hash": "11ad3fa6"},
}
RECORD: dict[str, Any] = {
    "id": "0123456789abcdef",
    "dataset": "signs",
    "model": "lstm_late",
    "seed": 1,
    "classes": list(CLASSES),
    "learned": list(CLASSES),
    "settings": {"stages": ["resnet50"], "lr": 1e-4},
    "stages": {"resnet50": {"digest": "fedcba9876543210", "row_shape": [2048], "dtype": "float32", "identity": IDENTITY}},
    "rows": "00112233",
    "manifest": {"digest": "44556677", "root": "/data/<signs>", "split": "signer"},
    "clips": {"train": 18, "val": 6, "test": 8},
    "command": "signcache train signs lstm_late --seed 1",
    "warnings": ["<img src=x onerror=alert(2)>"],
    "dropped": {"a/1": "resnet50: cannot be decoded"},
    "environment": {"python": "3.11", "argv": []},
}


def run_in(folder: Path, *, epochs: int = 3, finished: bool = True) -> Run:
    """A run whose labels are as bad as labels get."""
    run_folder.write_record(folder, RECORD)
    labels = [*CLASSES, *CLASSES]
    scores = score(np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 0, 2, 3]], labels, CLASSES, groups=list("ssssuuuu"))
    if finished:
        run_folder.write_result(
            folder,
            {"split": "test", "counted_wrong": {"b/2": CLASSES[0]}, **scores.summary(), **scores.details()},
        )
    if epochs:
        write_figures(folder, [Epoch(n + 1, 1 / (n + 1), 1 / (n + 1), n / epochs, 1e-4, 0.5, 1) for n in range(epochs)])
    return run_folder.read(folder)


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_labels_and_warnings_are_escaped(tmp_path: Path) -> None:
    page = report.write(run_in(tmp_path)).read_text("utf-8")
    tags = Tags(page).found
    assert not [tag for tag, _ in tags if tag == "script"]
    assert not [attributes for _, attributes in tags if "onerror" in attributes]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "水 &amp; salt" in page


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = report.write(run_in(tmp_path)).read_text("utf-8")
    sources = [attributes["src"] or "" for tag, attributes in Tags(page).found if tag == "img"]
    assert len(sources) == 3
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources)
    assert not re.search(r"(?:href|src)=[\"']?(?:https?:)?//", page)
    assert "@import" not in page


def test_the_page_says_the_scores_beside_chance_and_what_was_read(tmp_path: Path) -> None:
    page = report.write(run_in(tmp_path)).read_text("utf-8")
    words = [
        "87.5 %",
        "25.0 %",
        "no 95 % interval",
        "fewer than three signers",
        "fedcba9876543210",
        "0123456789abcdef",
        "a/1",
        "cannot be decoded",
        "--seed 1",
    ]
    assert [word for word in words if word not in page] == []
    assert "weights after epoch 3 of 3" in page


def test_a_recipe_without_epochs_has_a_page_without_curves(tmp_path: Path) -> None:
    page = report.write(run_in(tmp_path, epochs=0)).read_text("utf-8")
    assert "loss and accuracy of every epoch" not in page


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    assert report.write(run).read_bytes() == report.write(run).read_bytes()


def test_the_page_says_what_the_training_took_and_how_sure_it_was(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    said = calibration(judge(np.eye(4), CLASSES, CLASSES))
    cost = {"parameters": 1871769, "seconds": 150.0, "peak_memory_bytes": 1.5e9, "calibration": said}
    page = report.write(Run(run.folder, run.record, {**run.scores, **cost})).read_text("utf-8")
    assert [word for word in ("1,871,769", "2 min", "1.5 GB", f"calibration error {100 * said['error']:.1f} %") if word not in page] == []
    assert 'alt="fraction right over confidence"' in page


def test_many_classes_give_a_page_too(tmp_path: Path) -> None:
    run_in(tmp_path)
    names = [f"{number}_SIGN" for number in range(126)]
    scores = score(np.eye(126, dtype=np.float32), names, names)
    run_folder.write_result(tmp_path, {"split": "test", "counted_wrong": {}, **scores.summary(), **scores.details()})
    assert "No clip was confused." in report.write(run_folder.read(tmp_path)).read_text("utf-8")


def test_an_unfinished_run_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is unfinished; start its training again to go on: signcache train signs lstm_late --seed 1"):
        report.write(run_in(tmp_path, finished=False))


def test_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    run_in(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps([1]))
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        run_folder.read(tmp_path)


def test_the_worst_clips_are_named_with_their_frames(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    write_clip(tmp_path / "corpus" / "a.mp4", frames=12)
    clips = [("<b>film</b>", {"rgb": ["a.mp4"]}), ("gone", {"rgb": ["b.mp4"]}), ("sensor", {"inertial": ["c.npy"]})]
    np.save(tmp_path / "corpus" / "c.npy", np.zeros((9, 6)))
    worst = [{"id": clip, "label": CLASSES[0], "guess": "plain", "probability": 0.01, "media": media} for clip, media in clips]
    record = {**run.record, "manifest": {**RECORD["manifest"], "root": str(tmp_path / "corpus")}}
    page = report.write(Run(run.folder, record, {**run.scores, "worst": worst})).read_text("utf-8")
    assert all(name in page for name in ("&lt;b&gt;film&lt;/b&gt;", "gone", "sensor"))
    assert len(re.findall("data:image/jpeg;base64,", page)) == report.FRAMES


def test_a_clip_whose_packets_lie_has_its_frames_and_media_that_are_no_images_have_none(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    root = tmp_path / "corpus"
    beheaded(write_clip(root / "live.ts", 40, options={"bf": "0", "g": "12"}), 0.3)
    for name, values in (
        ("float", np.zeros((9, 8, 8, 3))),
        ("two", np.zeros((9, 8, 8, 2), np.uint8)),
        ("none", np.zeros((0, 8, 8, 3), np.uint8)),
    ):
        np.save(root / f"{name}.npy", values)
    run = Run(run.folder, {**run.record, "manifest": {**RECORD["manifest"], "root": str(root)}}, run.result)
    assert len(report.frames_of(run, {"rgb": ["live.ts"]})) == report.FRAMES
    assert [report.frames_of(run, {"rgb": [f"{name}.npy"]}) for name in ("float", "two", "none")] == [[], [], []]
    assert len(report.frames_of(run, {"depth": ["float.npy"], "rgb": ["live.ts"]})) == report.FRAMES


def test_a_validation_that_was_learned_too_is_marked(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    marked = Run(run.folder, {**run.record, "settings": {**RECORD["settings"], "learn": "all"}}, run.result)
    for each, learned in ((run, False), (marked, True)):
        page = report.write(each).read_text("utf-8")
        assert ("The validation clips were learned too (learn=all)" in page) == learned
        pictures = [base64.b64decode(text).decode() for text in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]
        assert any("validation, learned too" in picture for picture in pictures) == learned
