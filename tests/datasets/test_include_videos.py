"""INCLUDE-50 reads what its root has, keypoints or videos, and its published settings are those of the ensemble that claims 98.7 %."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure, default_stages
from pipeline.commands.options import pairs
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.plan import wanted_stages
from pipeline.extraction.progress import Progress
from pipeline.runs.training import configured, train
from tests.commands import said
from tests.shared_data import shared
from tests.stages.test_keypoints import points, write

HEADER = "Category,Word,Video,FilePath"
WORDS = {"Animals/4. Bird/MVI_2987.MOV": "bijelo/0000.mp4", "Clothes/40. T-Shirt/MVI_5000.MOV": "crn/0001.mp4"}


def videos(root: Path, files: Mapping[str, Path] | None = None) -> Path:
    """Two listed videos, which hold what `files` do."""
    for name in WORDS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if files:
            shutil.copy(files[name], root / name)
        else:
            (root / name).write_text(name)
    rows = [f"{name.split('/')[0]},{name.split('/')[1]},{Path(name).name},{name}" for name in WORDS]
    (root / "include50_train.csv").write_text("\n".join([HEADER, *rows]))
    return root


def keypoints(root: Path) -> Path:
    for name in ("bird_MVI_2987", "cow_MVI_1"):
        write(root / "include50_train_keypoints" / f"{name}.json", points(12))
    return root


def bound(tmp_path: Path, root: Path, corpus: str = "include50") -> tuple[Home, Manifest]:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    return home, manifest.bind(home, "signs", corpus=corpus, root=root)


def sources(home: Home, table: Manifest, preset: str = "tuned") -> dict[str, str]:
    """What each default stage of a preset reads, and that no other is said to lack media."""
    kept, absent = default_stages(table, preset)
    assert absent == {}
    return {name: configure(home, table, name).extractor.source for name in kept}


def test_a_root_of_videos_alone_is_read_by_both_solutions(tmp_path: Path) -> None:
    home, table = bound(tmp_path, videos(tmp_path / "root"))
    assert sources(home, table) == {"pose_hands": "rgb", "kinematics": "stage:pose_hands"}
    assert sources(home, table, "published") == {"pose_hands": "rgb", "kinematics_published": "stage:pose_hands"}
    assert [stage.name for stage in wanted_stages(home, table, (), {})] == ["pose_hands", "kinematics"]
    text = said(home, "plan", "signs", status=0)
    assert "pose_hands" in text
    assert "keypoints" not in text


@pytest.mark.parametrize("beside", [False, True])
def test_a_root_with_keypoints_is_read_from_these_whether_videos_lie_beside_them_or_not(tmp_path: Path, beside: bool) -> None:
    root = keypoints(tmp_path / "root")
    home, table = bound(tmp_path, videos(root) if beside else root)
    assert sources(home, table) == {"keypoints": "keypoints", "kinematics": "stage:keypoints"}
    assert sources(home, table, "published") == {"keypoints": "keypoints", "kinematics_published": "stage:keypoints"}


def test_videos_become_rows_that_the_tuned_and_the_published_settings_train_on(tmp_path: Path) -> None:
    files = {name: shared(f"croatian_signs/{file}") for name, file in WORDS.items()}
    home, table = bound(tmp_path, videos(tmp_path / "root", files))
    upstream = configure(home, table, "pose_hands", now={"rate_hz": 3})
    assert extract(home, table, [upstream], Options(), Progress()).failed == {}
    stages = [configure(home, table, name) for name in ("kinematics", "kinematics_published")]
    assert extract(home, table, stages, Options(), Progress()).failed == {}
    opened = {stage.name: open_stage("signs", stage.name, cache=home.cache, manifests=home.manifests) for stage in stages}
    assert {name: features.row_shape for name, features in opened.items()} == {"kinematics": (214,), "kinematics_published": (490,)}
    assert all(features[clip].any() for features in opened.values() for clip in features)


@pytest.mark.parametrize("corpus", ["include50", "include"])
def test_published_settings_are_what_the_source_states(corpus: str, tmp_path: Path) -> None:
    dataset = registry.create("dataset", corpus)
    table = Manifest(corpus, manifest.Binding(corpus, tmp_path, "official", 0), (), ())
    found: Any = {model: configured(table, model, {"settings": "published"}) for model in dataset.published}
    net = found["transformer"]
    assert (net.layers, net.width, net.heads, net.feed_forward, net.frames, net.dropout) == (6, 256, 8, 512, 64, 0.2)
    assert (net.lr, net.batch_size, net.accumulate, net.epochs, net.patience, net.positions) == (1e-4, 64, 4, 100, 15, "learned")
    lstm = found["bilstm_attention"]
    assert (lstm.layers, lstm.hidden, lstm.zoneout, lstm.pooling, lstm.precision) == (2, 256, 0.1, "query", net.precision)
    assert net.precision != "float32"
    built = [recipe.build({"kinematics_published": 490}, 50) for recipe in (net, lstm)]
    assert [sum(values.numel() for values in module.parameters()) for module in built] == [3_318_066, 3_254_578]
    assert [(part.stages, part) for part in found["xgb_meta"].parts] == [
        (("kinematics_published",), lstm),
        (("kinematics_published",), net),
    ]
    assert (found["xgb"].rounds, found["xgb"].eta, found["feature_fuser"].hidden) == (200, 0.01, 256)
    stage = registry.create("stage", "kinematics", dataset.published_stages["kinematics_published"])
    assert stage.row_shape == (126 + 78 + 252 + 4 + 30,)
    assert (stage.normalize, stage.window, stage.order) == ("centroid", 11, 3)


def test_the_published_line_trains_an_ensemble_and_trees_alone_on_keypoints(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for number in range(16):
        word = ("bird", "cow")[number % 2]
        split = "val" if number > 11 else "train"
        write(root / f"include50_{split}_keypoints" / f"{word}_MVI_{100 * number}.json", points(12, seed=number))
    home, table = bound(tmp_path, root)
    extract(home, table, wanted_stages(home, table, (), {"settings": "published"}), Options(), Progress())
    small = pairs(("settings=published", "rounds=3"))
    alone = train(home, table, "xgb", small, device="cpu")
    assert alone.record["stages"]["kinematics_published"]["row_shape"] == [490]
    members = "bilstm_attention:hidden=4:epochs=1,transformer:width=8:layers=1:epochs=1"
    both = train(home, table, "xgb_meta", {**small, "members": members, "folds": "2"}, device="cpu")
    assert [member["settings"]["zoneout"] for member in both.record["settings"]["members"][:1]] == [0.1]
    assert "plain_mean" in both.scores
