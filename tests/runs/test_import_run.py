"""A checkpoint that the programs of a model's source left becomes a run: its logits are those of the source's own module."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline import registry
from pipeline.cache.publishing import opened
from pipeline.corpus.manifest import Home
from pipeline.data.table import Table
from pipeline.runs import run_folder
from pipeline.runs.predict import predict_files
from pipeline.runs.scoring import predictions
from pipeline.runs.training import predictor_of
from tests.commands import run, said
from tests.shared_data import shared

torch.set_num_threads(1)
CLASSES = ("drei", "eins", "zwei")
"""In an order of its own."""


class Plain(nn.Module):
    """The source's module, in its own form: `(B, T, 1662)` -> `(B, classes)`."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1662, 128, num_layers=1, batch_first=True, bidirectional=True)
        self.attn = nn.Linear(256, 1)
        self.norm = nn.LayerNorm(256)
        self.head = nn.Sequential(nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, classes))

    def forward(self, rows: Tensor) -> Tensor:
        states, _ = self.lstm(rows)
        shares = torch.softmax(self.attn(states).squeeze(-1), dim=1)
        logits: Tensor = self.head(self.norm((states * shares.unsqueeze(-1)).sum(dim=1)))
        return logits


def plain(classes: int = len(CLASSES), seed: int = 0) -> Plain:
    torch.manual_seed(seed)
    return Plain(classes).eval()


def saved(path: Path, model: nn.Module, classes: Any = CLASSES, prefix: str = "", **changed: Tensor | None) -> Path:
    """The checkpoint as the source saves it, with tensors changed, or left out by None; `__` stands for a dot."""
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    state |= {name.replace("__", "."): value for name, value in changed.items() if value is not None}
    left = {name.replace("__", ".") for name, value in changed.items() if value is None}
    kept = OrderedDict((name, value) for name, value in state.items() if name not in left)
    torch.save({"classes": list(classes), "state_dict": kept} if classes is not None else kept, path)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Where `signs` has imported rows of 12 clips, 60 a clip, of three classes."""
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    x = np.random.default_rng(0).random((12, 60, 1662), np.float32)
    np.savez(tmp_path / "rows.npz", x=x, label=np.array(sorted(CLASSES) * 4), split=np.repeat(["train", "test"], 6))
    said(home, "import", "signs", "holistic", tmp_path / "rows.npz", "--format", "npz", "--like", "holistic")
    return home


def imported(home: Home, file: Path, name: str = "signs") -> str:
    done = run(home, "import-run", file, name, "bilstm_attention", "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    return str(json.loads(done.stdout.splitlines()[-1])["run"])


def shares_of(model: nn.Module, rows: Any) -> Mapping[str, float]:
    with torch.inference_mode():
        return dict(zip(CLASSES, model(torch.from_numpy(np.array(rows))[None])[0].softmax(0).tolist(), strict=True))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_logits_are_those_of_the_sources_module_in_the_files_order_of_classes(home: Home, tmp_path: Path, prefix: str) -> None:
    model = plain()
    folder = imported(home, saved(tmp_path / "best.pt", model, prefix=prefix))
    found, features = run_folder.read(folder), opened(home, "signs", "holistic")
    recipe = registry.create("model", found.model, found.record["settings"])
    table = Table(tuple(features), np.zeros(len(features), np.int64), tuple(found.record["classes"]), {"holistic": features})
    logits = table.each(predictor_of(found, recipe, table.dims, "cpu").logits)
    with torch.inference_mode():
        expected = model(torch.from_numpy(np.stack([*features.values()])))
    assert found.record["classes"] == list(CLASSES)
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-5)


def test_such_a_run_is_evaluated_reported_and_predicts_splits(home: Home, tmp_path: Path) -> None:
    model, file = plain(seed=1), tmp_path / "best.pt"
    folder = imported(home, saved(file, model))
    assert imported(home, file) == folder, "the same file is the same run"
    score = json.loads(run(home, "evaluate", folder, "--json").stdout.splitlines()[-1])
    features = opened(home, "signs", "holistic")
    guesses = {clip: max(shares := shares_of(model, features[clip]), key=lambda label: shares[label]) for clip in features}
    test = predictions.read(Path(folder)).ids
    assert score["top1"] == pytest.approx(np.mean([guesses[clip] == clip.split("/")[0] for clip in test]))
    said(home, "predict", folder, "--split", "test", "--out", tmp_path / "out.csv")
    assert dict(line.split(",") for line in (tmp_path / "out.csv").read_text().split()[1:]) == {clip: guesses[clip] for clip in test}
    page = Path(said(home, "report", folder).split()[-1]).read_text()
    assert "Imported" in page
    assert "best.pt does not say which clips and signers it learned from" in page
    record = run_folder.read(folder).record
    assert record["classes"] == list(CLASSES)
    assert len(record["imported"]["sha256"]) == 64
    assert record["stages"]["holistic"]["like"]["fields"]["frames"] == 60


def test_without_rows_it_is_not_scored_and_says_what_to_run(home: Home, tmp_path: Path) -> None:
    for label in CLASSES:
        (tmp_path / "videos" / label).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "videos" / label / f"{number}.mp4").write_bytes(b"no video")
    said(home, "manifest", "films", "--corpus", "folder", "--root", tmp_path / "videos")
    folder = imported(home, saved(tmp_path / "best.pt", plain()), "films")
    page = Path(said(home, "report", folder).split()[-1]).read_text()
    assert "not scored: run: signcache extract films holistic; then: signcache import-run" in page
    assert "films has no features of &#39;holistic&#39;" not in page
    refused = said(home, "evaluate", folder, status=2)
    assert "films has no features of 'holistic'; published: nothing; run: signcache extract films holistic" in refused


def test_a_real_video_is_labelled_as_the_sources_programs_do(tmp_path: Path) -> None:
    video = shared("wlasl_mini6/visit")
    home, model = Home(tmp_path / "cache", tmp_path / "manifests"), plain(6)
    said(home, "manifest", "wlasl", "--corpus", "folder", "--root", video.parent)
    classes = ["visit", "sunday", "language", "enjoy", "drink", "computer"]
    folder = imported(home, saved(tmp_path / "best.pt", model, classes), "wlasl")
    file = sorted(video.glob("*.mp4"))[0]
    (found,) = predict_files(home, folder, [file], device="cpu", top=6)
    with torch.inference_mode():
        logits = model(torch.from_numpy(landmarks(file))[None])[0].numpy()
    assert [label for label, _ in found.top] == [classes[i] for i in np.argsort(-logits)]
    own = np.log([dict(found.top)[label] for label in classes])
    np.testing.assert_allclose(own - own.mean(), logits - logits.mean(), atol=1e-5)


def landmarks(file: Path) -> Any:
    """`(60, 1662)` as the source takes them: OpenCV, frames `round(i * (N - 1) / 59)`, one Holistic a clip."""
    import cv2

    from stages.holistic import _mediapipe

    capture, frames, rows = cv2.VideoCapture(str(file)), [], []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    with _mediapipe()(min_detection_confidence=0.5, min_tracking_confidence=0.5) as tracker:
        for i in range(60):
            found = tracker.process(frames[round(i * (len(frames) - 1) / 59)])
            parts = (("pose", 33, 4), ("face", 468, 3), ("left_hand", 21, 3), ("right_hand", 21, 3))
            row = [np.zeros(points * width) for _, points, width in parts]
            for place, (part, _, width) in enumerate(parts):
                marks = getattr(found, f"{part}_landmarks")
                for j, point in enumerate(marks.landmark if marks else ()):
                    row[place][j * width : (j + 1) * width] = (point.x, point.y, point.z, point.visibility)[:width]
            rows.append(np.concatenate(row))
    return np.stack(rows).astype(np.float32)


class Code:
    def __reduce__(self) -> Any:
        return (print, ("executed",))


def test_what_is_no_such_checkpoint_is_one_line(home: Home, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, file = plain(), tmp_path / "bad.pt"

    def refused(name: str = "bilstm_attention") -> str:
        done = run(home, "import-run", file, "signs", name)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        return str(done.stderr)

    assert f"no file {file}" in refused()
    torch.save({"classes": list(CLASSES), "state_dict": model.state_dict(), "more": Code()}, file)
    assert "is damaged, or holds code to run" in refused()
    assert "executed" not in capfd.readouterr().out
    saved(file, model, None)
    assert "is no checkpoint with its classes: it holds lstm.weight_ih_l0, " in refused()
    saved(file, model, ("eins", "zwei", "vier"))
    assert "signs has no clips of 1 of its 3 labels: vier; signs has: drei, eins, zwei" in refused()
    saved(file, model, ("eins", "zwei", "zwei"))
    assert "its classes are no list of different words" in refused()
    saved(file, model, CLASSES[:2])
    assert "head.3.weight is (3, 128), expected (2, 128)" in refused()
    saved(file, model, attn__bias=None, extra=torch.zeros(1))
    assert "is no checkpoint of the model's source: it lacks attn.bias; it holds besides extra" in refused()
    saved(file, model, lstm__weight_ih_l0=torch.zeros(512, 258))
    assert "lstm.weight_ih_l0 is (512, 258), expected (512, 1662)" in refused()
    saved(file, model, norm__bias=torch.full((256,), torch.nan))
    assert "norm.bias holds NaN or infinity: its training diverged" in refused()
    saved(file, model)
    assert "model 'lstm_late' takes no checkpoints of other programs; those that do: bilstm_attention" in refused("lstm_late")
