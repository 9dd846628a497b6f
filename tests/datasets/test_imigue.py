"""iMiGUE: frame folders, cut videos with label files, the hidden test and its submission, and frames with landmarks in one ensemble."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.decoding.decode import open_clip
from pipeline.errors import UserError
from pipeline.extraction.plan import wanted_stages
from pipeline.runs import run_folder
from tests.commands import said
from tests.datasets.test_corpora import bound, listed
from tests.feature_cache import publish
from tests.test_datasets import touch

torch.set_num_threads(1)


def imigue(root: Path, *parts: str) -> Path:
    for part in parts:
        for label in ("1", "2", "10"):
            for clip in ("0001.a", "0002.b"):
                for frame in (1, 2, 10):
                    path = root / part / label / f"{clip}.{frame}.jpg"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(np.full((8, 8, 3), 20 * frame, np.uint8)).save(path)
    return root


def test_all_frames_of_a_clip_of_imigue_are_one_sample(tmp_path: Path) -> None:
    table = bound("imigue", imigue(tmp_path, "training"))
    assert len(table.samples) == 6
    sample = table.samples[0]
    assert (sample.id, sample.label, sample.media) == ("training/1/0001.a", "1", {"rgb": ("training/1/0001.a.*.jpg",)})
    clip = open_clip(table.paths(sample, "rgb"), decord=True, lengths={})
    shown = [int(frame.mean().round()) for (frame,) in clip.frames(np.arange(clip.length))]
    assert shown == [20, 40, 200], "frames come by their number, not as text"
    assert manifest.missing_files(table) == []


def test_the_map_of_imigue_is_extracted_under_its_second_name(tmp_path: Path) -> None:
    table = bound("imigue", imigue(tmp_path, "training"))
    (stage,) = wanted_stages(Home(tmp_path / "cache"), table, (), {})
    assert (stage.name, stage.kind, stage.extractor.row_shape) == ("resnet50_map", "resnet50", (2048, 7, 7))
    assert configure(Home(tmp_path / "cache"), table, "resnet50").extractor.row_shape == (2048,)


def test_classes_of_imigue_are_1_to_32_by_number(tmp_path: Path) -> None:
    table = bound("imigue", imigue(tmp_path, "training"))
    assert table.classes == tuple(map(str, range(1, 33)))
    assert table.binding.split == "stratified"


def test_folders_of_imigue_are_splits_where_there_are_several(tmp_path: Path) -> None:
    table = bound("imigue", imigue(tmp_path, "training", "validation", "testing"))
    assert Counter(sample.split for sample in table.samples) == {"train": 6, "val": 6, "test": 6}


def test_a_class_folder_of_imigue_without_a_number_is_one_line(tmp_path: Path) -> None:
    (imigue(tmp_path, "training") / "training" / "1").rename(tmp_path / "training" / "scratching")
    with pytest.raises(UserError, match=r"class folder 'scratching' is no number; expected training/<class 1\.\.32>"):
        bound("imigue", tmp_path)


def test_a_folder_of_the_raw_class_99_is_the_last_class(tmp_path: Path) -> None:
    (imigue(tmp_path, "training") / "training" / "10").rename(tmp_path / "training" / "99")
    table = bound("imigue", tmp_path)
    assert Counter(sample.label for sample in table.samples) == {"1": 2, "2": 2, "32": 2}
    assert len(table.classes) == 32


def hidden(root: Path) -> Path:
    """A test whose clips lie in no class folder, beside a train folder."""
    imigue(root, "training")
    for clip in ("0054_0", "0054_2", "0054_10"):
        path = root / "testing" / f"{clip}.1.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(path)
    return root


def test_clips_of_a_hidden_test_have_no_label_and_train_gives_the_validation(tmp_path: Path) -> None:
    table = bound("imigue", hidden(tmp_path))
    test = [sample for sample in table.samples if sample.split == "test"]
    assert {sample.id: sample.label for sample in test} == {f"testing/0054_{k}": None for k in (0, 2, 10)}
    assert all(sample.label for sample in table.samples if sample.split != "test")


def test_a_training_clip_without_a_label_is_one_line(tmp_path: Path) -> None:
    (hidden(tmp_path) / "testing").rename(tmp_path / "train")
    with pytest.raises(UserError, match=r"train/0054_0\.\*\.jpg lies in no class folder, and no 0054_label\.csv has its row"):
        bound("imigue", tmp_path)


def cut_videos(root: Path) -> Path:
    """Videos cut by the rows of label files, as teams of the MiGA challenge cut them."""
    touch(root, *(f"train/0001_{k}.mp4" for k in (0, 1, 2)), "val/0002_0.mp4", "test/0054_0.mp4", "test/0054_1.mp4")
    labels = {
        "train/0001/0001": "99,10,20\n4,30,41\n31,50,60\n",
        "val/0002/0002": "class,start,end\n7,1,9\n",
        "test/0054/0054": "0,1,2\n0,3,4\n",
    }
    for name, text in {**labels, "train/0003/0003": "nonsense of a video that was not cut"}.items():
        touch(root, f"skeletons/{name}_label.csv").joinpath(f"skeletons/{name}_label.csv").write_text(text)
    touch(root, "Label/labels_20200831.csv").joinpath("Label/labels_20200831.csv").write_text(
        "video_id,subject_id,class,start_frame,end_frame\n1,17,99,10,20\n2,18,7,1,9\n54,19,1,1,2\n"
    )
    return root


def test_cut_videos_are_labelled_by_their_row_and_signed_by_their_subject(tmp_path: Path) -> None:
    found = {clip: (sample.label, sample.split, sample.signer) for clip, sample in listed("imigue", cut_videos(tmp_path)).items()}
    assert found == {
        "train/0001_0": ("32", "train", "17"),
        "train/0001_1": ("4", "train", "17"),
        "train/0001_2": ("31", "train", "17"),
        "val/0002_0": ("7", "val", "18"),
        "test/0054_0": (None, "test", "19"),
        "test/0054_1": (None, "test", "19"),
    }


def test_the_other_convention_of_illustrative_gestures_is_refused(tmp_path: Path) -> None:
    (cut_videos(tmp_path) / "skeletons/train/0001/0001_label.csv").write_text("4,1,2\n0,3,4\n")
    with pytest.raises(
        UserError, match=r"0001_label\.csv has a gesture of class '0'; expected rows class,start,end with a class of 1 to 31, or 99"
    ):
        listed("imigue", tmp_path)


def test_a_table_of_subjects_without_its_columns_is_one_line(tmp_path: Path) -> None:
    (cut_videos(tmp_path) / "Label/labels_20200831.csv").write_text("video,subject\n1,2\n")
    with pytest.raises(UserError, match=r"labels_20200831\.csv has no columns video_id and subject_id; it has video, subject"):
        listed("imigue", tmp_path)


def with_features(root: Path) -> Home:
    """The hidden test with maps and landmarks that tell the class of a clip."""
    for label in (1, 2):
        touch(hidden(root), *(f"training/{label}/more{clip}.1.jpg" for clip in range(10)))
    table = bound("imigue", root)
    home, random = Home(root / "home/cache", root / "home/manifests"), np.random.default_rng(0)
    for stage, shape, kind in (("resnet50_map", (2048, 7, 7), np.float16), ("holistic", (1662,), np.float32)):
        centres = random.normal(size=(11, *shape)).astype(kind)
        rows = {s.id: np.repeat(centres[[int(s.label or 1)]], 2, axis=0) for s in table.samples}
        publish(home, table, rows, stage=stage)
    return home


def test_frames_and_landmarks_vote_together_by_one_line_and_the_submission_has_the_form_of_the_challenge(tmp_path: Path) -> None:
    home = with_features(tmp_path)
    settings = "frame_cnn:channels=2:epochs=1,bilstm_attention:stages=holistic:epochs=1:hidden=8"
    said(home, "train", "imigue", "late_fusion", "--set", f"members={settings}", "--device", "cpu")
    (folder,) = (home.cache / "runs/imigue/late_fusion").iterdir()
    assert run_folder.read(folder).record["settings"]["stages"] == ["resnet50_map", "holistic"]
    said(home, "predict", folder, "--split", "test", "--out", tmp_path / "prediction.csv")
    header, *lines = (tmp_path / "prediction.csv").read_text().splitlines()
    assert header == "Id,Target"
    assert [line.partition(",")[0] for line in lines] == ["0054_0", "0054_2", "0054_10"]
    assert {int(line.partition(",")[2]) for line in lines} <= set(range(32))


def test_the_target_of_a_submission_counts_from_0() -> None:
    from pipeline.datasets.imigue import Imigue

    rows = list(Imigue().submission({"test/0054_1": "32", "test/0054_0": "1"}))
    assert rows == [("Id", "Target"), ("0054_0", 0), ("0054_1", 31)]


def interviews(root: Path) -> Path:
    """Whole videos as they are published, in folders of the parts, with the table of all gestures."""
    touch(root, *(f"iMiGUE_RGB_Phase1/imigue_rgb_{part}/{vid}/{vid}.mp4" for part, vid in (("train", "0001"), ("validate", "0002"))))
    touch(root, "iMiGUE_RGB_Phase2/imigue_rgb_test/0054/0054.mp4", "Label/labels_20200831.csv")
    (root / "Label/labels_20200831.csv").write_text(
        "video_id,subject_id,class,start_frame,end_frame\n1,17,99,10,20\n54,19,1,1,2\n1,17,4,30,41\n2,18,7,1,9\n3,18,7,1,9\n"
    )
    return root


def test_gestures_of_whole_interviews_are_intervals_by_the_table_of_all(tmp_path: Path) -> None:
    found = listed("imigue", interviews(tmp_path))
    train, test = "iMiGUE_RGB_Phase1/imigue_rgb_train/0001/0001", "iMiGUE_RGB_Phase2/imigue_rgb_test/0054/0054"
    assert {clip: (s.media["rgb"][0], s.label, s.split, s.signer) for clip, s in found.items()} == {
        f"{train}_0": (f"{train}.mp4#frames=10,20", "32", "train", "17"),
        f"{train}_1": (f"{train}.mp4#frames=30,41", "4", "train", "17"),
        (val := "iMiGUE_RGB_Phase1/imigue_rgb_validate/0002/0002") + "_0": (f"{val}.mp4#frames=1,9", "7", "val", "18"),
        f"{test}_0": (f"{test}.mp4#frames=1,2", "1", "test", "19"),
    }


def test_interviews_in_no_folder_of_a_part_are_divided_by_the_published_subjects(tmp_path: Path) -> None:
    interviews(tmp_path)
    for vid, part in (("0001", "1/imigue_rgb_train"), ("0002", "1/imigue_rgb_validate"), ("0054", "2/imigue_rgb_test")):
        (tmp_path / f"iMiGUE_RGB_Phase{part}" / vid).rename(tmp_path / vid)
    assert {clip: (s.split, s.signer) for clip, s in listed("imigue", tmp_path).items()} == {
        "0001/0001_0": ("train", "17"), "0001/0001_1": ("train", "17"), "0002/0002_0": ("train", "18"), "0054/0054_0": ("test", "19"),
    }  # fmt: skip


def test_gestures_of_whole_interviews_are_intervals_by_label_files(tmp_path: Path) -> None:
    for video, text in (("train/0001", "99,10,20\n4,30,41\n"), ("test/0054", "class,start,end\n0,1,2\n")):
        vid = video.rpartition("/")[2]
        touch(tmp_path, f"{video}/{vid}.mp4", f"{video}/{vid}_label.csv").joinpath(f"{video}/{vid}_label.csv").write_text(text)
    assert {clip: (s.media["rgb"][0], s.label, s.split) for clip, s in listed("imigue", tmp_path).items()} == {
        "train/0001/0001_0": ("train/0001/0001.mp4#frames=10,20", "32", "train"),
        "train/0001/0001_1": ("train/0001/0001.mp4#frames=30,41", "4", "train"),
        "test/0054/0054_0": ("test/0054/0054.mp4#frames=1,2", None, "test"),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, r"0001/0001\.mp4 is an interview, and neither 0001_label\.csv nor labels_20200831\.csv has its gestures"),
        ("4,ten,20\n", r"0001_label\.csv, row 0 of 0001: 'ten' to '20' are no numbers of frames"),
        ("4\n", r"0001_label\.csv, row 0 of 0001: '' to '' are no numbers of frames"),
    ],
)
def test_an_interview_whose_gestures_are_not_told_is_one_line(text: str | None, told: str, tmp_path: Path) -> None:
    touch(tmp_path, "train/0001/0001.mp4")
    if text is not None:
        (tmp_path / "0001_label.csv").write_text(text)
    with pytest.raises(UserError, match=told):
        listed("imigue", tmp_path)
