"""Explanations of clips whose answer is known: by one hand, one stage, one moment, one place of the picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.bilstm_attention import BilstmAttention
from pipeline.corpus.manifest import Home, Manifest
from pipeline.data.batch import Batch
from pipeline.errors import ClipError, UserError
from pipeline.layouts import Layout
from pipeline.learning.network import NetworkPredictor
from pipeline.reports.explaining.cam import heat, last_maps
from pipeline.reports.explaining.gradients import integrated, slopes
from pipeline.reports.explaining.hiding import WHOLE, hide, log_odds
from pipeline.reports.explaining.overlay import HOT, _pointed
from pipeline.reports.explaining.worst import chosen
from pipeline.runs.run_folder import Run
from pipeline.runs.training import train
from pipeline.testing.models import CLASSES, table_of
from pipeline.types import Array
from stages.holistic import Holistic
from stages.i3d import I3D
from stages.radar_cnn import RadarCNN
from stages.resnet50 import ResNet50
from tests.commands import run, said
from tests.feature_cache import balanced, corpus, publish

torch.set_num_threads(1)
Fixture = tuple[Home, Manifest]
FEW = {"hidden": "8", "epochs": "15", "batch_size": "9", "lr": "0.01", "warmup": "0"}
HAND = Holistic().row_layout.columns["left_hand"]


def one_hand(table: Manifest, middle: float = 0.0) -> dict[str, Array]:
    """Landmarks that are alike in all classes, about a middle or there, but for the left hand's, which are somewhere else in each."""
    random, found = np.random.default_rng(0), {}
    for sample in table.samples:
        rows = (middle + 0.02 * (not middle) * random.normal(size=(random.integers(6, 10), 1662))).astype(np.float32)
        rows[:, HAND] += 0.4 * (table.class_index[str(sample.label)] - 1)
        found[sample.id] = rows
    return found


def told_by_a_hand(folder: Path, middle: float, **settings: str) -> tuple[Fixture, Run]:
    """Three classes told apart by the left hand alone, and a model that learned them."""
    home, table = corpus(folder, balanced())
    publish(home, table, one_hand(table, middle), stage="holistic")
    return (home, table), train(home, table, "bilstm_attention", {**FEW, **settings}, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fixture, Run]:
    return told_by_a_hand(tmp_path_factory.mktemp("hand"), 0.0)


@pytest.fixture(scope="module")
def normalized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fixture, Run]:
    """By a model to which zeros are far from all that it has seen."""
    return told_by_a_hand(tmp_path_factory.mktemp("normalized"), 0.5, normalize="train")


def explained(signs: Fixture, trained: Run, clip: str, out: Path, *words: object) -> dict[str, Any]:
    done = run(signs[0], "explain", trained.folder, clip, "--out", out, "--json", *words)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("label", ["sign0", "sign2"])
@pytest.mark.parametrize("how", ["trained", "normalized"])
def test_a_class_told_by_one_hand_is_explained_by_that_hand(how: str, label: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    signs, model = request.getfixturevalue(how)
    assert model.scores["top1"] == 1
    found = explained(signs, model, f"{label}/test0", tmp_path)
    assert found["label"] == label
    first, *others = found["parts"]
    assert (first["stage"], first["part"]) == ("holistic", "left_hand")
    assert first["share"] > 0.8
    assert first["worth"] > 0
    assert sum(row["share"] for row in (first, *others)) == pytest.approx(1)
    gradients = found["gradients"]
    parts: Mapping[str, float] = gradients["parts"]["holistic"]
    assert abs(parts["left_hand"]) > 0.6 * sum(map(abs, parts.values()))
    assert abs(gradients["gap"]) < 0.1 * abs(gradients["added"])
    assert sum(found["attention"]) == pytest.approx(1, abs=1e-4)


def test_the_page_needs_nothing_else_and_says_what_could_not_be_drawn(trained: tuple[Fixture, Run], tmp_path: Path) -> None:
    signs, model = trained
    text = said(signs[0], "explain", model.folder, "sign1/test1", "--out", tmp_path)
    assert "sign1/test1: sign1" in text
    assert "holistic: left_hand" in text
    assert "note: holistic: no pictures (" in text, "the clips of this corpus are no videos"
    page = (tmp_path / "explanation.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/svg+xml") == 2
    assert "left_hand" in page
    assert not (tmp_path / "explanation.png").exists()
    assert json.loads((tmp_path / "explanation.json").read_bytes())["clip"] == "sign1/test1"


def test_another_label_can_be_asked_for(trained: tuple[Fixture, Run], tmp_path: Path) -> None:
    signs, model = trained
    found = explained(signs, model, "sign0/test0", tmp_path, "--label", "sign2")
    assert found["label"] == "sign2"
    first = found["parts"][0]
    assert first["part"] == "left_hand"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("sign0/tset0",), r"'sign0/tset0' is no clip of 'signs'; did you mean 'sign0/test0'\? .*and no file; ids are in "),
        (("sign0/test0", "--label", "sign9"), "no class 'sign9' in this run; it has: sign0, sign1, sign2"),
    ],
)
def test_what_cannot_be_explained_is_one_line(trained: tuple[Fixture, Run], words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    import re

    signs, model = trained
    text = said(signs[0], "explain", model.folder, *words, "--out", tmp_path, status=2)
    assert text.count("\n") == 1
    assert re.search(reason, text), text


def test_a_clip_of_a_run_of_folds_is_explained_by_the_model_that_scored_it(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced(train=4))
    publish(home, table, one_hand(table), stage="holistic")
    folds = train(home, table, "bilstm_attention", {**FEW, "epochs": "2"}, device="cpu", folds=2)
    from pipeline.reports.explaining.subject import of_corpus
    from pipeline.runs.crossvalidation import fold_folders
    from pipeline.runs.scoring import predictions

    for folder in fold_folders(folds):
        clip = predictions.read(folder).ids[0]
        assert of_corpus(home, folds, table, clip).run.folder == folder


def test_a_model_of_models_is_asked_by_hiding_alone(trained: tuple[Fixture, Run], tmp_path: Path) -> None:
    (home, table), _ = trained
    members = ":".join(f"{key}={value}" for key, value in FEW.items())
    model = train(home, table, "late_fusion", {"members": f"bilstm_attention:stages=holistic:{members}"}, device="cpu")
    found = explained((home, table), model, "sign0/test0", tmp_path)
    assert found["parts"][0]["part"] == "left_hand"
    assert "gradients" not in found
    assert any("made of other models" in note for note in found["notes"])


class Known:
    """Says the class of a clip by the sum of the first value of stage `a` in the middle third of its rows."""

    parameters = 0

    def logits(self, batch: Batch) -> Array:
        length = batch.features["a"].shape[1]
        told = batch.features["a"][:, length // 3 : 2 * length // 3, 0].sum(1)
        return torch.stack([told, torch.zeros_like(told)], 1).numpy()

    def network(self) -> torch.nn.Module:
        raise UserError("it is none")

    def save(self, folder: Path) -> None: ...

    def load(self, folder: Path) -> None: ...


def test_hiding_finds_the_stage_and_the_moments_that_tell() -> None:
    features = {"a": torch.ones(1, 12, 3), "b": torch.ones(1, 5, 2)}
    batch = Batch(("clip",), features, {"a": torch.tensor([12]), "b": torch.tensor([5])}, torch.zeros(1, dtype=torch.int64))
    found = hide(Known(), batch, 0, {"a": None, "b": None})
    assert found.parts == {("a", WHOLE): pytest.approx(4), ("b", WHOLE): pytest.approx(0)}
    np.testing.assert_allclose(found.moments, [0] * 4 + [1] * 4 + [0] * 4)
    assert found.shares() == {("a", WHOLE): 1.0, ("b", WHOLE): 0.0}


def test_log_odds_are_those_of_the_softmax() -> None:
    logits = torch.randn(4, 5, dtype=torch.float64)
    shares = logits.softmax(1)[:, 2]
    torch.testing.assert_close(log_odds(logits, 2), (shares / (1 - shares)).log())


def test_gradients_add_up_to_the_difference_from_rows_of_zeros() -> None:
    torch.manual_seed(0)
    recipe = BilstmAttention(hidden=4, stages=("resnet50", "radar_cnn"))
    table = table_of(recipe, [6])
    module = recipe.build(table.dims, CLASSES).eval()
    batch = table.gather(np.array([0]))
    found = integrated(recipe, module, batch, 1)
    zeros = Batch(batch.ids, {stage: torch.zeros_like(rows) for stage, rows in batch.features.items()}, batch.lengths, batch.labels)
    predictor = NetworkPredictor(module, "cpu")
    here, nothing = (float(log_odds(torch.from_numpy(predictor.logits(each)), 1)) for each in (batch, zeros))
    assert found.whole == pytest.approx(here - nothing, rel=0.02)
    assert found.whole - found.gap == pytest.approx(here - nothing, abs=1e-4)
    rates = slopes(recipe, module, batch, 1)
    moved = Batch(batch.ids, {**batch.features, "radar_cnn": batch.features["radar_cnn"] + 1e-3}, batch.lengths, batch.labels)
    risen = (float(log_odds(torch.from_numpy(predictor.logits(moved)), 1)) - here) / 1e-3
    assert float(rates["radar_cnn"].sum()) == pytest.approx(risen, rel=0.05)


def test_the_heat_of_pooled_maps_is_their_weighted_sum() -> None:
    extractor, random = RadarCNN(resize=(16, 16)), np.random.default_rng(0)
    items, rates = random.integers(0, 255, (5, 3, 16, 16)).astype(np.uint8), torch.randn(5, 96)
    layers = list(extractor.network().eval().children())[:-2]
    maps = torch.nn.Sequential(*layers)(torch.from_numpy(items).reshape(15, 1, 16, 16).float() / 255)
    expected = (maps * rates.reshape(15, 32, 1, 1)).sum(1).clamp(min=0).reshape(5, 3, 8, 8).detach()
    large = torch.nn.functional.interpolate(expected, (16, 16), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(heat(extractor, items, rates), large / large.max(), rtol=1e-4, atol=1e-5)


def test_the_heat_is_where_the_only_thing_in_the_picture_is() -> None:
    extractor = RadarCNN(resize=(32, 32), receivers=1)
    items = np.zeros((2, 1, 32, 32), np.uint8)
    items[0, 0, 4:8, 20:24] = 255
    warm = heat(extractor, items, torch.ones(2, 32))[0, 0]
    y, x = np.unravel_index(warm.argmax(), warm.shape)
    assert 2 <= y <= 9
    assert 18 <= x <= 25


def test_the_last_maps_of_a_network_are_those_before_its_pool() -> None:
    resnet, i3d = ResNet50(weights="random:0", resize=(64, 64)).network().eval(), I3D(window=9, short_side=193, side=193).network().eval()
    (layer,) = last_maps(resnet, torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert layer is resnet.layer4
    branches = last_maps(i3d, torch.zeros(1, 9, 193, 193, 3, dtype=torch.uint8))
    assert branches == [i3d.get_submodule(f"Mixed_5c.{name}") for name in ("b0", "b1b", "b2b", "b3b")]


def test_frames_of_several_windows_have_the_mean_of_their_heat(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.reports.explaining import cam

    monkeypatch.setattr(cam, "last_maps", lambda *_: [])
    monkeypatch.setattr(cam, "_maps", lambda network, layers, items, slopes: slopes[:, :1, None, None].expand(1, 3, 7, 7))
    extractor = I3D(window=9, stride=4, short_side=193, side=193)
    found = heat(extractor, np.zeros((13, 193, 193, 3), np.uint8), torch.tensor([[1.0], [3.0]]).expand(2, 1024))
    assert found.shape == (13, 1, 193, 193)
    np.testing.assert_allclose(found[:, 0, 0, 0], np.array([1] * 4 + [2] * 5 + [3] * 4) / 3, rtol=1e-5)


def test_pictures_that_make_other_rows_than_those_cached_are_refused() -> None:
    with pytest.raises(ClipError, match="3 rows are cached, and its pictures make 2"):
        heat(RadarCNN(resize=(8, 8)), np.zeros((2, 3, 8, 8), np.uint8), torch.ones(3, 96))


def test_points_of_the_weightiest_part_are_hot_and_those_not_seen_are_not_drawn() -> None:
    layout: Layout = Holistic(include=("left_hand", "right_hand")).row_layout
    rows = np.zeros((1, layout.width), np.float32)
    rows[0, layout.columns["left_hand"]] = np.tile([0.25, 0.5, 0.0], 21)
    drawn = _pointed(np.zeros((1, 40, 80, 3), np.uint8), rows, layout, {"left_hand": 0.9, "right_hand": 0.1})
    assert drawn[0, 20, 20].tolist() == HOT.tolist()
    assert not drawn[0, :, 40:].any()


def test_a_report_explains_one_of_each_common_confusion_first() -> None:
    def clip(number: int, label: str, guess: str) -> dict[str, str]:
        return {"id": f"c{number}", "label": label, "guess": guess}

    worst = [clip(0, "a", "b"), clip(1, "b", "c"), clip(2, "b", "c"), clip(3, "d", "d"), clip(4, "c", "a"), clip(5, "c", "b")]
    assert chosen({"worst": worst}) == {"c1": "c", "c0": "b", "c2": "c", "c4": "a"}
    assert chosen({}) == {}


def test_the_report_says_what_an_error_hangs_on(tmp_path: Path) -> None:
    home, table = corpus(tmp_path, balanced())
    rows = one_hand(table)
    rows["sign0/test0"][:, HAND] += 0.8  # its hand is where that of sign2 is
    publish(home, table, rows, stage="holistic")
    words = [word for key, value in FEW.items() for word in ("--set", f"{key}={value}")]
    done = run(home, "train", "signs", "bilstm_attention", *words, "--device", "cpu", "--json")
    page = Path(json.loads(done.stdout)["report"]).read_text()
    assert "sign0/test0: sign0 taken for sign2" in page
    assert "Most hangs on holistic: left_hand (" in page


def test_values_that_never_move_in_a_clip_have_slopes_too() -> None:
    recipe = BilstmAttention(hidden=4, stages=("resnet50",), normalize="clip")
    table = table_of(recipe, [6])
    batch = table.gather(np.array([0]))
    batch.features["resnet50"][:, :, 0] = 0
    torch.manual_seed(0)
    module = recipe.build(table.dims, CLASSES).eval()
    assert slopes(recipe, module, batch, 1)["resnet50"].isfinite().all()
    assert np.isfinite(integrated(recipe, module, batch, 1).whole)
