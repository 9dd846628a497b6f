"""A part of a video holds the same frames as the video, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.decoding.cutting import cut
from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import ClipError
from pipeline.types import Array
from tests.video_files import coloured, write_clip


def frames_of(path: Path) -> tuple[float, Array]:
    def take(clip: Clip) -> tuple[float, Array]:
        return clip.rate_hz, np.stack([image for (image,) in clip.frames(np.arange(clip.length))])

    return decoded([path], take)


@pytest.mark.parametrize("size", [(64, 48), (67, 45)])
def test_a_part_holds_the_frames_that_were_shown_then_pixel_for_pixel(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = "yuv444p" if size[0] % 2 else "yuv420p"
    video = write_clip(tmp_path / "video.mp4", 30, rate=25, size=size, pixels=pixels, draw=coloured)
    cut(video, tmp_path / "part.mkv", 0.2, 0.8, 60)
    rate, found = frames_of(tmp_path / "part.mkv")
    np.testing.assert_array_equal(found, frames_of(video)[1][5:20])
    assert rate == 25


def test_the_same_part_is_the_same_file_and_a_moment_is_a_frame(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "video.mp4", 10, rate=25)
    for name in ("a.mkv", "b.mkv"):
        cut(video, tmp_path / name, 0.2, 0.2001, 60)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    np.testing.assert_array_equal(frames_of(tmp_path / "a.mkv")[1], frames_of(video)[1][5:6])


def test_a_part_that_lasts_too_long_or_is_not_there_is_refused(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "video.mp4", 10, rate=25)
    with pytest.raises(ClipError, match=r"the part lasts 70.0 s, at most 60 s are read"):
        cut(video, tmp_path / "part.mkv", 0, 70, 60)
    with pytest.raises(ClipError, match=r"it lasts 0.40 s, and the part begins at 3 s"):
        cut(video, tmp_path / "part.mkv", 3, 4, 60)
    assert not (tmp_path / "part.mkv").exists()
