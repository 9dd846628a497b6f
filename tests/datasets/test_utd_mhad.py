"""UTD-MHAD with whatever of its four modalities is there."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from click.testing import CliRunner

from pipeline import registry
from pipeline.cache.stage import default_stages
from pipeline.cli import main
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.corpus.presets import stand_in_line
from pipeline.errors import UserError
from pipeline.runs import run_folder
from pipeline.runs.training import configured
from pipeline.types import Sample
from tests import commands
from tests.shared_data import shared

FILES = {
    "rgb": "RGB/{}_color.avi",
    "inertial": "Inertial/{}_inertial.mat",
    "skeleton": "Skeleton/{}_skeleton.mat",
    "depth": "Depth/{}_depth.mat",
}


def put(root: Path, clip: str, *modalities: str) -> None:
    """Files of these modalities: real ones where a stage here reads them."""
    random = np.random.default_rng(len(clip))
    for modality in modalities:
        path = root / FILES[modality].format(clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        if modality == "inertial":
            scipy.io.savemat(path, {"d_iner": random.normal(size=(40, 6))})
        elif modality == "skeleton":
            scipy.io.savemat(path, {"d_skel": random.normal(size=(20, 3, 15))})
        else:
            path.write_text(clip)


def listed(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in registry.create("dataset", "utd_mhad").samples(root)}


def bound(home: Path, root: Path) -> Manifest:
    return manifest.bind(Home(home / "cache", home / "manifests"), "utd_mhad", root=root)


def run(home: Path, *arguments: str) -> Any:
    return CliRunner().invoke(main, ["--cache", str(home / "cache"), "--manifests", str(home / "manifests"), *arguments])


def test_a_clip_is_called_by_action_subject_and_trial(tmp_path: Path) -> None:
    put(tmp_path, "a27_s8_t3", "rgb", "inertial", "skeleton", "depth")
    assert listed(tmp_path)["a27_s8_t3"] == Sample(
        "a27_s8_t3", {modality: (name.format("a27_s8_t3"),) for modality, name in FILES.items()}, "a27", "test", "8"
    )


def test_odd_subjects_train_and_even_ones_test(tmp_path: Path) -> None:
    for subject in range(1, 9):
        put(tmp_path, f"a1_s{subject}_t1", "inertial")
    splits = {sample.signer: sample.split for sample in listed(tmp_path).values()}
    assert splits == {str(subject): "train" if subject % 2 else "test" for subject in range(1, 9)}


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for action in (10, 2, 1):
        put(tmp_path, f"a{action}_s1_t1", "inertial")
    assert bound(tmp_path / "home", tmp_path).classes == tuple(f"a{number}" for number in range(1, 28))


def test_a_clip_with_some_media_is_listed_with_these_and_other_files_are_not(tmp_path: Path) -> None:
    put(tmp_path, "a1_s1_t1", "inertial")
    put(tmp_path, "a1_s1_t2", "skeleton", "depth")
    (tmp_path / "Skeleton" / "Skeleton_joint_order.txt").write_text("1. head")
    (tmp_path / "Inertial" / "a1_s1_t9.mat").write_text("no modality in its name")
    found = listed(tmp_path)
    assert {name: sorted(sample.media) for name, sample in found.items()} == {"a1_s1_t1": ["inertial"], "a1_s1_t2": ["depth", "skeleton"]}


def test_two_files_of_one_modality_are_one_error_that_names_both(tmp_path: Path) -> None:
    put(tmp_path, "a1_s1_t1", "inertial")
    put(tmp_path / "copy", "a1_s1_t1", "inertial")
    with pytest.raises(UserError, match=r"two inertial files below .*: Inertial/a1_s1_t1\S+ and copy/Inertial/a1_s1_t1\S+; remove one"):
        listed(tmp_path)


def test_stages_of_an_absent_modality_are_no_defaults(tmp_path: Path) -> None:
    put(tmp_path, "a1_s1_t1", "inertial")
    put(tmp_path, "a1_s3_t1", "inertial", "skeleton")
    kept, absent = default_stages(bound(tmp_path / "home", tmp_path))
    assert kept == ["inertial", "skeleton", "kinematics"]
    assert absent == {"i3d": "rgb"}
    put(tmp_path, "a1_s3_t1", "rgb")
    assert default_stages(bound(tmp_path / "home", tmp_path))[1] == {}


def test_missing_media_fail_only_the_stages_that_need_them(tmp_path: Path) -> None:
    root, home = tmp_path / "data", tmp_path / "home"
    for clip in ("a1_s1_t1", "a2_s1_t1", "a1_s3_t1", "a2_s3_t1"):
        put(root, clip, "inertial", *(["skeleton"] if clip != "a1_s3_t1" else []))
    told = run(home, "manifest", "utd_mhad", "--root", str(root))
    assert "4 clips, 27 classes" in told.output
    assert "inertial 4, skeleton 3" in told.output
    assert "note: no clip of utd_mhad has rgb media, so its defaults are without i3d" in told.output
    done = run(home, "extract", "utd_mhad")
    assert done.exit_code == 0, done.output
    status = run(home, "status", "utd_mhad").output
    assert "failed: 'a1_s3_t1': no skeleton media" in status
    assert "failed: 'a1_s3_t1': stage:skeleton failed: no skeleton media" in status
    assert "4 fresh" in status


def test_a_stage_of_an_absent_modality_says_what_there_is(tmp_path: Path) -> None:
    put(tmp_path / "data", "a1_s1_t1", "inertial")
    run(tmp_path, "manifest", "utd_mhad", "--root", str(tmp_path / "data"))
    done = run(tmp_path, "plan", "utd_mhad", "i3d")
    assert done.exit_code == 2
    assert "stage 'i3d' reads 'rgb' media, and no clip of 'utd_mhad' has any; it has: inertial" in done.output


def test_the_real_corpus_is_listed_whole(tmp_path: Path) -> None:
    table = bound(tmp_path, shared("utd_mhad"))
    assert Counter(sample.signer for sample in table.samples).keys() == {"1", "3", "5", "7"}
    assert len(table.samples) == 431
    assert Counter(modality for sample in table.samples for modality in sample.media) == {"inertial": 431, "skeleton": 431, "depth": 24}
    assert {sample.id for sample in table.samples} & {"a8_s1_t4", "a23_s6_t4", "a27_s8_t4"} == set()
    assert {sample.split for sample in table.samples} == {"train", "val"}


def test_media_that_are_in_two_splits_are_named(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for clip in ("a1_s1_t1", "a1_s2_t1", "a2_s1_t1"):
        put(root, clip, "inertial")
    other = root / FILES["inertial"].format("a2_s1_t1")
    scipy.io.savemat(other, {"d_iner": np.ones((9, 6))})
    (root / FILES["inertial"].format("a1_s2_t1")).write_bytes((root / FILES["inertial"].format("a1_s1_t1")).read_bytes())
    run(tmp_path, "manifest", "utd_mhad", "--root", str(root))
    assert run(tmp_path, "extract", "utd_mhad", "inertial").exit_code == 0
    told = run(tmp_path, "status", "utd_mhad").output
    assert "warning: 2 clips have the same inertial media as one of another split (first: train a1_s1_t1 = test a1_s2_t1)" in told


def test_the_members_of_its_fusions_are_the_runs_of_the_plain_lines(tmp_path: Path) -> None:
    training = registry.create("dataset", "utd_mhad").training
    alone = {
        model: registry.create("model", model, {**training[model], "stages": stage}).model_dump(mode="json")
        for model, stage in (("inception_time", "inertial"), ("bilstm_attention", "skeleton"))
    }
    fused = registry.create("model", "late_fusion", training["late_fusion"]).adapted(training)
    assert {member.model: member.settings for member in fused.members} == alone
    assert fused.combine == "sum"
    put(tmp_path, "a1_s1_t1", "inertial", "skeleton")
    taught: Any = configured(bound(tmp_path / "home", tmp_path), "self_learning_fusion", {})
    assert (taught.teacher.settings, taught.video.settings) == (alone["inception_time"], alone["bilstm_attention"])


def test_self_learning_fusion_sees_video_where_there_is_any_and_else_the_skeleton(tmp_path: Path) -> None:
    put(tmp_path, "a1_s1_t1", "inertial", "skeleton")
    for model in ("self_learning_fusion", "self_learning_feature_fusion"):
        taught: Any = configured(bound(tmp_path / "home", tmp_path), model, {})
        assert (taught.stages, taught.aids, taught.encoder, taught.encoder_dropout) == (("skeleton",), ("inertial",), "bilstm", 0.0)
        assert (taught.alpha, taught.generator_epochs, taught.epochs, taught.learn) == (3.0, 40, 20, "all")
    put(tmp_path, "a1_s3_t1", "rgb")
    for model in ("self_learning_fusion", "self_learning_feature_fusion"):
        taught = configured(bound(tmp_path / "home", tmp_path), model, {})
        assert (taught.stages, taught.aids, taught.encoder, taught.encoder_dropout) == (("i3d",), ("inertial",), "linear", 0.4)
        assert (taught.alpha, taught.beta, taught.generator_epochs, taught.epochs) == (100.0, 30.0, 150, 100)


def test_that_the_skeleton_stands_for_video_is_said_where_it_does(tmp_path: Path) -> None:
    put(tmp_path, "a1_s1_t1", "inertial", "skeleton")
    table = bound(tmp_path / "home", tmp_path)
    said = ["no clip of utd_mhad has rgb media: skeleton stands for it in self_learning_fusion"]
    assert stand_in_line(table, "self_learning_fusion", ("skeleton",)) == said
    assert stand_in_line(table, "self_learning_fusion", ("kinematics",)) == [], "who chose another stage knows"
    assert stand_in_line(table, "bilstm_attention", ("skeleton",)) == []
    put(tmp_path, "a1_s3_t1", "rgb")
    assert stand_in_line(bound(tmp_path / "home", tmp_path), "self_learning_fusion", ("skeleton",)) == []


def test_a_training_and_a_search_say_that_the_skeleton_stands_for_video_and_a_record_keeps_it(tmp_path: Path) -> None:
    for subject, action in itertools.product((1, 2, 3, 5), (1, 2)):
        put(tmp_path / "data", f"a{action}_s{subject}_t1", "inertial", "skeleton")
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    commands.said(home, "manifest", "utd_mhad", "--root", str(tmp_path / "data"))
    commands.said(home, "extract", "utd_mhad", "inertial", "skeleton")
    quick = [
        "epochs=1",
        "generator_epochs=1",
        "teacher=inception_time:epochs=1:modules=3:steps=8",
        "video=bilstm_attention:epochs=1:hidden=4",
    ]
    words = ["utd_mhad", "self_learning_fusion", *(word for pair in quick for word in ("--set", pair))]
    line = "no clip of utd_mhad has rgb media: skeleton stands for it in self_learning_fusion"
    assert line in commands.said(home, "train", *words)
    assert line in commands.said(home, "tune", *words, "--trials", "1", "--timeout", "0", status=2), "before any trial"
    record = run_folder.read(next((home.cache / "runs/utd_mhad/self_learning_fusion").glob("*/run.json")).parent).record
    assert line in record["warnings"]


def test_its_networks_select_nothing_on_the_subject_cut_for_validation_and_learn_from_it() -> None:
    corpus: Any = registry.create("dataset", "utd_mhad")
    for model in ("inception_time", "bilstm_attention", "self_learning_fusion"):
        tuned = {**corpus.training, **corpus.without["rgb"]}[model]
        assert (tuned["best_by"], tuned["learn"]) == ("last", "all")
