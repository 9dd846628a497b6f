"""A part of a file is exactly the frames that a decode of the whole has there, and a part that is none says why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.corpus.intervals import Interval, interval_of, part, parted
from pipeline.decoding import decode
from pipeline.decoding.decode import Clip, decoded, expected_length
from pipeline.decoding.parts import Mistimed, between, frames_in
from pipeline.decoding.timeline import Timeline, timeline_of
from pipeline.decoding.video import Moved, not_asked
from pipeline.errors import ClipError
from pipeline.types import Array
from tests.decoding.test_decode import CLIPS
from tests.video_files import coloured, edited, number_of, turned, write_clip

SHARED = Path(os.environ.get("SIGNCACHE_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
KINDS = [
    *("h264_b_frames.mp4", "h264_b_frames.avi", "h264_b_frames.ts", "h264_open_gop.mp4", "h264_one_long_gop.mkv", "h264_fragments.mp4"),
    *("h264_sound.mp4", "hevc_b_frames.mp4", "mpeg4_b_frames.avi", "mpeg2_b_frames.mpg", "vp8.webm", "uneven.mp4", "uneven.mkv"),
    *("late_start.mp4", "23.976_hz.mkv"),
]
CUTS = [(0, 24), (0, 1), (23, 24), (5, 9), (8, 16), (13, 14)]


def images(clip: Clip) -> list[Array]:
    return [image for (image,) in clip.frames(np.arange(clip.length))]


def frames(path: Path, interval: str = "") -> list[bytes]:
    """The frames of a file, or of a part of it, by one decode."""
    return [image.tobytes() for image in decoded([Path(f"{path}#{interval}") if interval else path], images)]


@pytest.mark.parametrize("name", KINDS)
def test_frames_of_a_part_are_those_of_the_whole_by_number_and_by_time(name: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / name, **{**CLIPS[name], "draw": coloured})
    whole, seconds = frames(path), timeline_of(path, not_asked).seconds
    for start, end in CUTS:
        assert frames(path, f"frames={start},{end}") == whole[start:end]
        assert frames(path, f"t={seconds[start]:.6f},{seconds[end]:.6f}") == whole[start:end]


def test_an_edit_list_and_a_rotation_count_as_in_the_whole(tmp_path: Path) -> None:
    path = edited(write_clip(tmp_path / "clip.mp4", options={"g": "8"}), 5, ticks=512)
    assert [number_of(image) for image in decoded([Path(f"{path}#frames=0,4")], images)] == [5, 6, 7, 8]
    path = turned(write_clip(tmp_path / "upright.mp4", options={"g": "8"}), 90)
    assert frames(path, "frames=9,12") == frames(path)[9:12]


@pytest.mark.parametrize("corpus", ["croatian_signs", "wlasl_mini6"])
def test_parts_of_real_clips_are_those_of_the_whole(corpus: str) -> None:
    if not (SHARED / corpus).is_dir():
        pytest.skip(f"no {corpus} below {SHARED}")
    for path in sorted((SHARED / corpus).rglob("*.mp4"))[:2]:
        whole = frames(path)
        for start in (1, len(whole) // 2, len(whole) - 3):
            assert frames(path, f"frames={start},{start + 3}") == whole[start : start + 3]


def test_intervals_that_meet_share_no_frame_and_lose_none(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "uneven.mkv", **CLIPS["uneven.mkv"])
    end = timeline_of(path, not_asked).seconds[-1]
    edges = [0, 0.1, 0.4444, 0.7, 1.5, end]
    found = [image for a, b in pairwise(edges) for image in decoded([Path(f"{path}#t={a},{b}")], images)]
    assert [number_of(image) for image in found] == list(range(24))


def test_decoding_begins_at_the_key_frame_before_and_ends_with_the_last_wanted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mp4", 200, options={"bf": "2", "g": "20", "sc_threshold": "0"})
    timeline, packets = timeline_of(path, not_asked), list[int]()
    found = list(between(path, timeline, np.arange(110, 115), moved=lambda: packets.append(1)))
    assert [number_of(image) for image in found] == list(range(110, 115))
    assert len(packets) < 25


def test_a_file_that_shows_frames_at_other_times_than_its_packets_say_is_decoded_to_know_them(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", options={"g": "8"})
    asked: list[bool] = []

    def late(path: Path, moved: Moved, *, exact: bool = False) -> Timeline:
        asked.append(exact)
        found = timeline_of(path, moved, exact=exact)
        return found if exact else replace(found, ticks=found.ticks + 1)

    found = decoded([Path(f"{path}#frames=9,12")], images, timelines=late)
    assert ([number_of(image) for image in found], asked) == ([9, 10, 11], [False, True])
    with pytest.raises(Mistimed):
        list(between(path, late(path, not_asked), np.arange(9, 12), moved=not_asked))


def test_a_timeline_is_the_same_as_bytes(tmp_path: Path) -> None:
    found = timeline_of(write_clip(tmp_path / "clip.mp4"), not_asked)
    again = Timeline.from_bytes(found.as_bytes())
    assert (again.frames, again.end, again.tick, again.rate_hz) == (found.frames, found.end, found.tick, found.rate_hz)
    assert np.array_equal(again.ticks, found.ticks)
    assert np.array_equal(again.keys, found.keys)
    assert np.array_equal(again.marks, found.marks)


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ("frames=20,25", "frames 20 to 25 of clip.mp4, which has 24 frames, 0.960 s: that is beyond its end"),
        ("frames=7,7", "frames 7 to 7 of clip.mp4, which has 24 frames, 0.960 s: an interval is not empty"),
        ("frames=9,7", "frames 9 to 7 of clip.mp4, which has 24 frames, 0.960 s: an interval ends after it begins"),
        ("frames=-2,7", "frames -2 to 7 of clip.mp4, which has 24 frames, 0.960 s: an interval begins at 0 or later"),
        ("t=0.5,0.97", "0.5 to 0.97 s of clip.mp4, which has 24 frames, 0.960 s: that is beyond its end"),
        ("t=0.5,0.5", "0.5 to 0.5 s of clip.mp4, which has 24 frames, 0.960 s: an interval is not empty"),
        ("t=0.9,0.5", "0.9 to 0.5 s of clip.mp4, which has 24 frames, 0.960 s: an interval ends after it begins"),
        ("t=-0.1,0.5", "-0.1 to 0.5 s of clip.mp4, which has 24 frames, 0.960 s: an interval begins at 0 or later"),
        ("t=0.21,0.22", "0.21 to 0.22 s of clip.mp4, which has 24 frames, 0.960 s: no frame begins in it"),
    ],
)
def test_an_interval_that_is_none_says_why_and_how_long_the_video_is(interval: str, told: str) -> None:
    with pytest.raises(ClipError) as error:
        frames_in(interval_of(interval), 24, np.arange(25) / 25, "clip.mp4")
    assert str(error.value) == told


def save_images(folder: Path) -> Path:
    from PIL import Image

    for number in range(6):
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def save_rows(path: Path) -> Path:
    np.save(path.with_suffix(".npy"), np.repeat(np.arange(6, dtype=np.uint8), 3).reshape(6, 3))
    return path.with_suffix(".npy")


@pytest.mark.parametrize("save", [save_images, save_rows])
def test_arrays_and_folders_of_images_have_parts_by_number_alone(save: Callable[[Path], Path], tmp_path: Path) -> None:
    path = save(tmp_path / "clip")
    assert [image.max() for image in decoded([Path(f"{path}#frames=2,5")], images)] == [2, 3, 4]
    assert expected_length(Path(f"{path}#frames=2,5")) == (3, 0.0)
    with pytest.raises(ClipError, match=r"0 to 1 s of clip.*, which has 6 frames: it does not say when each is shown, so give start_frame"):
        decoded([Path(f"{path}#t=0,1")], images)


def test_what_a_part_will_hold_is_told_by_the_header_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    monkeypatch.setattr(decode, "timeline_of", None)
    assert expected_length(Path(f"{path}#t=0.2,0.6")) == (10, 25.0)
    assert expected_length(Path(f"{path}#frames=3,7")) == (4, 25.0)


@pytest.mark.parametrize(
    ("path", "file", "written"),
    [
        ("a/b.mp4", "a/b.mp4", ""),
        ("a/b.mp4#t=1.5,3", "a/b.mp4", "t=1.5,3"),
        ("take #2.mp4#frames=0,25", "take #2.mp4", "frames=0,25"),
        ("take #2.mp4", "take #2.mp4", ""),
        ("a.mp4#t=1", "a.mp4#t=1", ""),
        ("a.mp4#frames=1.5,2", "a.mp4#frames=1.5,2", ""),
    ],
)
def test_a_media_path_is_a_file_and_perhaps_a_part_of_it(path: str, file: str, written: str) -> None:
    assert parted(path) == (file, written)


def test_an_interval_is_written_in_one_form() -> None:
    assert part("a.mp4", interval_of("t=1.50,3.0")) == part("a.mp4", Interval("t", 1.5, 3)) == "a.mp4#t=1.5,3"
    assert part("a.mp4", Interval("t", 0.1 + 0.2, 100)) == "a.mp4#t=0.3,100"
