"""Which clips the typed files and folders are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.datasets import demo, imigue, lis, mp_data, utd_mhad
from pipeline.errors import UserError
from pipeline.runs._clips import clips_at

torch.set_num_threads(1)


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def media_of(places: list[Path], modalities: list[str], endings: Any) -> dict[str, dict[str, list[str]]]:
    return {
        sample.id: {modality: [f"/{file}" for file in files] for modality, files in sample.media.items()}
        for sample in clips_at(places, modalities, endings)
    }


def test_a_folder_of_a_clip_a_folder_of_clips_and_a_file_of_one_are_the_same_clip(tmp_path: Path) -> None:
    tracks = ["RGB.mkv", "RDM1.mp4", "RDM2.mp4", "RDM3.mp4"]
    root = touched(tmp_path, *(f"test/SAMPLE_{n}/SAMPLE_{n}_{track}" for n in (10, 9) for track in tracks))
    endings, clip = lis.Lis.endings, root / "test/SAMPLE_9"
    own = {"rgb": [f"{clip}/SAMPLE_9_RGB.mkv"], "radar": [f"{clip}/SAMPLE_9_RDM{n}.mp4" for n in (1, 2, 3)]}
    assert media_of([clip], ["rgb", "radar"], endings) == {str(clip): own}
    assert media_of([clip / "SAMPLE_9_RDM2.mp4"], ["rgb", "radar"], endings) == {str(clip): own}
    assert media_of([clip, clip], ["radar"], endings) == {str(clip): {"radar": own["radar"]}}
    assert list(media_of([root / "test"], ["rgb", "radar"], endings)) == [str(clip), str(root / "test/SAMPLE_10")]


def test_a_missing_track_is_listed_so_that_it_is_missed(tmp_path: Path) -> None:
    root = touched(tmp_path, "SAMPLE_1/SAMPLE_1_RGB.mkv")
    (media,) = media_of([root], ["rgb", "radar"], lis.Lis.endings).values()
    assert [Path(file).name for file in media["radar"]] == ["SAMPLE_1_RDM1.mp4", "SAMPLE_1_RDM2.mp4", "SAMPLE_1_RDM3.mp4"]


def test_the_longest_ending_tells_what_a_file_shows(tmp_path: Path) -> None:
    root = touched(tmp_path, "a_rep1.mkv", "a_rep1_RDM1.mp4", "a_rep1_inertial.npy", "notes.txt")
    assert media_of([root], ["inertial"], demo.Demo.endings) == {f"{root}/a_rep1": {"inertial": [f"{root}/a_rep1_inertial.npy"]}}


def test_files_of_one_clip_may_lie_in_a_folder_for_each_modality(tmp_path: Path) -> None:
    root = touched(tmp_path, "Skeleton/a1_s1_t1_skeleton.mat", "Inertial/a1_s1_t1_inertial.mat", "Skeleton/a2_s1_t1_skeleton.mat")
    found = media_of([root], ["skeleton", "inertial"], utd_mhad.UtdMhad.endings)
    assert sorted(found) == [f"{root}/Skeleton/a1_s1_t1", f"{root}/Skeleton/a2_s1_t1"]
    assert found[f"{root}/Skeleton/a1_s1_t1"] == {
        "skeleton": [f"{root}/Skeleton/a1_s1_t1_skeleton.mat"],
        "inertial": [f"{root}/Inertial/a1_s1_t1_inertial.mat"],
    }


def test_clips_called_alike_in_two_folders_stay_two(tmp_path: Path) -> None:
    root = touched(tmp_path, "HELLO/anna_rep1.mkv", "THANKS/anna_rep1.mkv")
    assert list(media_of([root], ["rgb"], demo.Demo.endings)) == [f"{root}/HELLO/anna_rep1", f"{root}/THANKS/anna_rep1"]


def test_a_clip_may_be_a_folder_of_frames_or_a_series(tmp_path: Path) -> None:
    root = touched(tmp_path, "seq/0.npy", "seq/1.npy", "5/clip7.1.jpg", "5/clip7.2.jpg", "5/clip8.1.jpg")
    assert media_of([root / "seq"], ["landmarks"], mp_data.MPData.endings) == {str(root / "seq"): {"landmarks": [str(root / "seq")]}}
    found = media_of([root / "5"], ["rgb"], imigue.Imigue.endings)
    assert list(found.values()) == [{"rgb": [f"{root}/5/clip7.*.jpg"]}, {"rgb": [f"{root}/5/clip8.*.jpg"]}]


def test_where_a_corpus_says_nothing_each_file_is_a_clip_called_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "new/b 2.MP4", "new/b 10.mov", "new/split.csv", "new/.hidden.mp4", "odd.xyz")
    monkeypatch.chdir(tmp_path)
    found = media_of([Path("odd.xyz"), Path("new"), Path("new/../odd.xyz")], ["rgb"], {})
    assert list(found) == ["odd.xyz", "new/b 2.MP4", "new/b 10.mov", "new/../odd.xyz"]
    assert found["new/b 2.MP4"] == {"rgb": [f"{tmp_path}/new/b 2.MP4"]}
    assert found["new/../odd.xyz"] == {"rgb": [f"{tmp_path}/odd.xyz"]}


def test_views_of_one_clip_lie_beside_one_another_whatever_their_suffix(tmp_path: Path) -> None:
    root = touched(tmp_path, "a/1.mp4", "a/1@top.MOV", "a/2@top.mp4", "b/1@front.avi", "a/notes.txt")
    both = {f"{root}/a/1": {"rgb": [f"{root}/a/1.mp4"], "rgb_top": [f"{root}/a/1@top.MOV"]}}
    for named in ("a/1.mp4", "a/1@top.MOV"):
        assert media_of([root / named], ["rgb", "rgb_top"], {}) == both
    found = media_of([root], ["rgb", "rgb_top"], {})
    assert list(found) == [f"{root}/a/1", f"{root}/a/2", f"{root}/b/1"]
    assert found[f"{root}/a/2"]["rgb"] == [f"{root}/a/2.mp4"], "a view that is missing is listed, so that it is missed"
    assert found[f"{root}/b/1"] == {"rgb": [f"{root}/b/1@front.avi"], "rgb_top": [f"{root}/b/1@top.mp4"]}


@pytest.mark.parametrize(
    ("place", "modalities", "endings", "text"),
    [
        ("gone.mp4", ["rgb"], {}, "no file or folder .*gone.mp4; name clips, or folders that hold clips"),
        ("empty", ["rgb"], {}, "no rgb clip below .*empty; expected files that end in "),
        ("empty", ["rgb", "rgb_top"], {}, "empty is or holds no clip; expected videos called <clip>.mp4, <clip>@top.mp4"),
        ("empty", ["rgb", "radar"], {}, "the run reads rgb and radar media of every clip, and its corpus does not say how"),
        ("other.mp4", ["rgb", "radar"], lis.Lis.endings, "other.mp4 is or holds no clip of this corpus; expected files called <clip> and"),
    ],
)
def test_what_holds_no_clip_is_one_line(tmp_path: Path, place: str, modalities: list[str], endings: Any, text: str) -> None:
    touched(tmp_path, "empty/readme.md", "other.mp4")
    with pytest.raises(UserError, match=text):
        clips_at([tmp_path / place], modalities, endings)


@pytest.mark.parametrize("endings", [imigue.Imigue.endings, {}])
def test_a_part_of_a_file_is_a_clip_beside_others_whatever_files_are_called(endings: Any, tmp_path: Path) -> None:
    other = "b.1.jpg" if endings else "b.mp4"
    root = touched(tmp_path, "talk.mp4", other)
    found = media_of([root / "talk.mp4#t=1.50,2.0", root / other, root / "talk.mp4#frames=3,9"], ["rgb"], endings)
    assert found[f"{root}/talk.mp4#t=1.50,2.0"] == {"rgb": [f"{root}/talk.mp4#t=1.5,2"]}
    assert found[f"{root}/talk.mp4#frames=3,9"] == {"rgb": [f"{root}/talk.mp4#frames=3,9"]}
    assert len(found) == 3
    with pytest.raises(UserError, match=r"no file or folder .*gone\.mp4#t=1,2; name clips, or folders that hold clips"):
        media_of([root / "gone.mp4#t=1,2"], ["rgb"], endings)
