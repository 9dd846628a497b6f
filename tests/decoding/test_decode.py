"""Frames asked for are the frames got, whatever the codec, the container and the decoder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import decord
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.decoding import decode
from pipeline.decoding.decode import Track, gray, nearest, open_clip, resized
from pipeline.decoding.video import DecoderFailed, Recounted
from pipeline.errors import ClipError
from tests.video_files import beheaded, coloured, cut, edited, number_of, numbered, turned, write_clip, write_planes, write_sound

SHARED = Path(os.environ.get("SIGNCACHE_SHARED", Path(__file__).resolve().parents[3] / "shared" / "data"))
B_FRAMES = {"bf": "3", "g": "8"}
OPEN_GOP = {"x264-params": "bframes=3:keyint=8:open-gop=1:b-pyramid=normal:scenecut=0"}
HEVC = {"x265-params": "bframes=3:keyint=8:log-level=none:pools=none"}
UNEVEN = [0.04 * i + 0.013 * (i % 3) + (i > 11) for i in range(24)]
CLIPS: dict[str, dict[str, Any]] = {
    "h264.mp4": {"options": {"bf": "0"}},
    "h264_b_frames.mp4": {"options": B_FRAMES},
    "h264_b_frames.mkv": {"options": B_FRAMES},
    "h264_b_frames.mov": {"options": B_FRAMES},
    "h264_b_frames.avi": {"options": B_FRAMES},
    "h264_b_frames.ts": {"options": B_FRAMES},
    "h264_b_frames.flv": {"options": B_FRAMES},
    "h264_open_gop.mp4": {"options": OPEN_GOP},
    "h264_one_long_gop.mkv": {"options": {"bf": "2", "g": "250"}},
    "h264_intra.mp4": {"options": {"g": "1"}},
    "h264_interlaced.mkv": {"options": {"x264-params": "interlaced=1:bframes=2"}},
    "h264_10_bit.mp4": {"pixels": "yuv420p10le"},
    "h264_bt709.mp4": {"options": {"x264-params": "colormatrix=bt709:bframes=2"}},
    "h264_full_range.mp4": {"pixels": "yuvj420p"},
    "h264_fragments.mp4": {"options": B_FRAMES, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_sound.mp4": {"options": B_FRAMES, "audio": True},
    "hevc_b_frames.mp4": {"codec": "libx265", "options": HEVC},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "options": B_FRAMES},
    "mpeg4_b_frames.mp4": {"codec": "mpeg4", "options": B_FRAMES},
    "mpeg2_b_frames.mpg": {"codec": "mpeg2video", "options": B_FRAMES},
    "mpeg2_b_frames.ts": {"codec": "mpeg2video", "options": B_FRAMES},
    "mpeg1_b_frames.mpg": {"codec": "mpeg1video", "options": B_FRAMES},
    "vp8.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "12"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"lag-in-frames": "12"}},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1"},
    "raw.avi": {"codec": "rawvideo"},
    "wmv2.wmv": {"codec": "wmv2"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "uneven.mp4": {"options": B_FRAMES, "times": UNEVEN},
    "uneven.mkv": {"options": B_FRAMES, "times": UNEVEN},
    "late_start.mp4": {"options": B_FRAMES, "times": [3 + 0.04 * i for i in range(24)]},
    "odd_size.mkv": {"codec": "ffv1", "size": (67, 49)},
    "odd_size.mp4": {"pixels": "yuv444p", "size": (67, 49)},
    "portrait.mp4": {"size": (64, 96), "options": B_FRAMES},
    "narrow.mp4": {"size": (48, 96), "options": B_FRAMES},
    "one_frame.mp4": {"frames": 1},
    "two_frames.mp4": {"frames": 2, "options": B_FRAMES},
    "15_hz.mp4": {"rate": 15, "options": B_FRAMES},
    "23.976_hz.mkv": {"rate": 24000 / 1001, "options": B_FRAMES},
    "60_hz.mp4": {"rate": 60, "options": B_FRAMES},
    "name with spaces.mp4": {},
    "žuta-日本.mkv": {},
    "two\nlines.mp4": {},
}


def frames(path: Path, wanted: list[int] | None = None, *, decord: bool = True, **lengths: int) -> tuple[Track, list[NDArray[Any]]]:
    """The track of one file and its frames, all of them by default."""
    clip = open_clip([path], decord=decord, lengths={path: lengths["length"]} if lengths else {})
    chosen = np.arange(clip.length) if wanted is None else np.array(wanted, np.int64)
    return clip.tracks[0], [image for (image,) in clip.frames(chosen)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_the_one_of_its_number_and_both_decoders_agree(name: str, folder: Path) -> None:
    path, count = write_clip(folder / name, **CLIPS[name], draw=coloured), CLIPS[name].get("frames", 24)
    track, images = frames(path)
    assert track.length == count
    assert [number_of(image) for image in images] == list(range(count))
    assert {image.shape for image in images} == {(*reversed(CLIPS[name].get("size", (64, 48))), 3)}
    assert images[0].dtype == np.uint8
    plain, others = frames(path, decord=False)
    assert plain.decoder == "pyav"
    assert plain.rate_hz == track.rate_hz
    np.testing.assert_array_equal(images, others)


@pytest.mark.parametrize("decord", [True, False])
@pytest.mark.parametrize("name", ["h264_open_gop.mp4", "mpeg4_b_frames.avi", "hevc_b_frames.mp4", "vp8.webm", "uneven.mp4"])
def test_a_clip_with_b_frames_gives_the_frames_asked_for(name: str, decord: bool, folder: Path) -> None:
    path = write_clip(folder / f"some_{decord}_{name}", **CLIPS[name])
    for wanted in ([0], [23], [5, 6, 7], [1, 9, 10, 22], list(range(0, 24, 5)), []):
        assert [number_of(image) for image in frames(path, wanted, decord=decord)[1]] == wanted


def test_good_clips_are_decoded_by_decord(folder: Path) -> None:
    for name in ("h264_b_frames.mp4", "mpeg4_b_frames.avi", "vp9.webm", "odd_size.mkv"):
        assert frames(write_clip(folder / f"by_{name}", **CLIPS[name]), [0])[0].decoder == "decord"


@pytest.mark.parametrize("name", ["h264_b_frames.ts", "narrow.mp4", "h264_10_bit.mp4", "h264_interlaced.mkv"])
def test_clips_that_decord_gets_wrong_go_to_pyav(name: str, folder: Path) -> None:
    assert frames(write_clip(folder / f"by_{name}", **CLIPS[name]), [0])[0].decoder == "pyav"


def test_a_clip_too_large_for_decord_which_keeps_what_waits_goes_to_pyav(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(folder / "large.mp4", frames=24, size=(64, 48), options=B_FRAMES)
    monkeypatch.setattr(decode, "DECORD_BYTES", 24 * 64 * 48 * 3)
    by_decord, images = frames(path)
    monkeypatch.setattr(decode, "DECORD_BYTES", 24 * 64 * 48 * 3 - 1)
    by_pyav, same = frames(path)
    assert (by_decord.decoder, by_pyav.decoder) == ("decord", "pyav")
    assert np.array_equal(images, same)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_turned_clip_comes_out_upright(degrees: int, tmp_path: Path) -> None:
    def lying(number: int, size: tuple[int, int]) -> NDArray[np.uint8]:
        shown = size if degrees == 180 else (size[1], size[0])
        return np.ascontiguousarray(np.rot90(numbered(number, shown), degrees // 90))

    path = turned(write_clip(tmp_path / "phone.mp4", size=(96, 64), options=B_FRAMES, draw=lying), degrees)
    track, images = frames(path)
    assert [number_of(image) for image in images] == list(range(24))
    assert track.decoder == "pyav"
    assert images[0].shape == ((64, 96, 3) if degrees == 180 else (96, 64, 3))


def test_rates_are_those_of_the_clip(folder: Path) -> None:
    for rate in (15, 25, 30000 / 1001, 60):
        assert frames(write_clip(folder / f"rate_{rate:.0f}.mp4", frames=6, rate=rate), [0])[0].rate_hz == pytest.approx(rate, rel=1e-4)


def test_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xe9\xff.mp4")
    write_clip(tmp_path / "plain.mp4", frames=4).rename(path)
    assert [number_of(image) for image in frames(path)[1]] == [0, 1, 2, 3]


def text(path: Path) -> Path:
    path.write_text("this is no video\n" * 100)
    return path


BAD_FILES: Mapping[str, tuple[Any, str]] = {
    "missing.mp4": (lambda path: path, r"missing\.mp4 is missing"),
    "empty.mp4": (lambda path: path.write_bytes(b""), r"empty\.mp4 is empty"),
    "text.mp4": (text, r"text\.mp4 cannot be decoded: Invalid data"),
    "random.avi": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "cannot be decoded: Invalid data"),
    "folder.mp4": (lambda path: path.mkdir(), r"folder\.mp4 cannot be decoded: Is a directory"),
    "sound.mp4": (write_sound, r"sound\.mp4 has no video stream"),
    "cut.mp4": (lambda path: cut(write_clip(path), 0.5), "cannot be decoded: Invalid data"),
    "cut_behind_its_index.mp4": (
        lambda path: cut(write_clip(path, 40, container={"movflags": "faststart"}), 0.8),
        "cannot be decoded: Invalid data",
    ),
    "cut.mkv": (lambda path: cut(write_clip(path), 0.3), "holds no frames"),
    "text.npy": (text, "is no plain .npy array: the magic string is not correct"),
    "folder.npy": (lambda path: path.mkdir(), "is no plain .npy array: .*Is a directory"),
    "objects.npy": (lambda path: np.save(path, np.array([{}], object)), "is no plain .npy array: .*Python objects"),
    "number.npy": (lambda path: np.save(path, np.float32(1)), "holds one number, not one row an instant"),
    "nothing.npy": (lambda path: np.save(path, np.zeros((0, 6))), "holds no frames"),
    "x" * 250 + ".mp4.mp4": (lambda path: path, "cannot be decoded: File name too long"),
}


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_bad_file_says_why(name: str, tmp_path: Path) -> None:
    make, reason = BAD_FILES[name]
    make(tmp_path / name)
    with pytest.raises((ClipError, DecoderFailed)):
        frames(tmp_path / name)
    with pytest.raises(ClipError, match=reason):
        frames(tmp_path / name, decord=False)


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = write_clip(tmp_path / "secret.mp4", frames=2)
    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(ClipError, match=r"secret\.mp4 may not be read \(permissions\)"):
        frames(path)


def test_fewer_frames_than_packets_are_told_with_the_true_count(tmp_path: Path) -> None:
    path = beheaded(write_clip(tmp_path / "live.ts", 40, options={"bf": "0", "g": "12"}), 0.3)
    with pytest.raises(Recounted, match=r"live\.ts holds \d+ frames") as told:
        frames(path)
    track, images = frames(path, length=told.value.length)
    assert track.length == len(images)
    assert [number_of(image) for image in images] == list(range(40 - len(images), 40))


def test_a_last_frame_that_decord_repeats_is_not_believed(tmp_path: Path) -> None:
    path = edited(write_clip(tmp_path / "trimmed.mp4", options={"bf": "0", "g": "24"}), 5, ticks=512)
    assert len(decord.VideoReader(str(path))) == 20, "decord fills up with the last frame: 5 to 23 are 19"
    with pytest.raises(DecoderFailed, match=r"trimmed\.mp4 ends with a frame twice"):
        frames(path)
    with pytest.raises(Recounted, match="holds 19 frames"):
        frames(path, decord=False)
    assert [number_of(image) for image in frames(path, length=19)[1]] == list(range(5, 24))


def test_tracks_of_another_length_are_aligned_on_normalised_time(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{count}.mkv", count, codec="ffv1") for count in (10, 20, 5)]
    clip = open_clip(paths, decord=True, lengths={})
    numbers = [tuple(number_of(image) for image in instant) for instant in clip.frames(np.array([0, 3, 4, 9]))]
    assert clip.length == 10
    assert numbers == [(0, 1, 0), (3, 7, 1), (4, 9, 2), (9, 19, 4)]


def test_an_array_is_read_as_one_row_an_instant(tmp_path: Path) -> None:
    values = np.arange(60, dtype=np.float32).reshape(10, 6)
    np.save(tmp_path / "inertial.npy", values)
    track, rows = frames(tmp_path / "inertial.npy", [0, 9])
    assert track.decoder == "numpy"
    assert track.length == 10
    assert track.rate_hz == 0
    np.testing.assert_array_equal(rows, values[[0, 9]])


def test_nearest_takes_the_pixels_that_torch_takes() -> None:
    import torch

    image = np.random.default_rng(0).integers(0, 256, (37, 101), np.uint8)
    for size in ((37, 101), (16, 16), (74, 50), (224, 224), (1, 1)):
        other = torch.nn.functional.interpolate(torch.from_numpy(image)[None, None].float(), size, mode="nearest")[0, 0]
        np.testing.assert_array_equal(nearest(image, size), other.numpy().astype(np.uint8))


def test_resizing_is_that_of_torchvision_within_one() -> None:
    import torch
    from torchvision.transforms.v2.functional import resize

    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for height, width in ((20, 30), (96, 65), (48, 64)):
        other = resize(torch.from_numpy(image).permute(2, 0, 1), [height, width], antialias=True).permute(1, 2, 0).numpy()
        assert np.abs(resized(image, (height, width)).astype(int) - other).max() <= 1


def test_gray_is_the_luma_of_itu_r_601() -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    assert np.abs(gray(image) - image @ np.array([0.299, 0.587, 0.114])).max() <= 0.51
    np.testing.assert_array_equal(gray(np.repeat(image[..., :1], 3, axis=2)), image[..., 0])


def test_luma_of_16_to_235_becomes_0_to_255(tmp_path: Path) -> None:
    luma = np.arange(48 * 64, dtype=np.int64).reshape(48, 64) % 220 + 16
    planes = [luma.astype(np.uint8), *[np.full((24, 32), 128, np.uint8)] * 2]
    (image,) = frames(write_planes(tmp_path / "raw.y4m", [planes]))[1]
    np.testing.assert_allclose(image[..., 1], (luma - 16) * 255 / 219, atol=1)
    assert np.ptp(image.astype(int), axis=2).max() <= 1


@pytest.mark.parametrize("corpus", ["croatian_signs", "wlasl_mini6"])
def test_both_decoders_agree_on_real_clips(corpus: str) -> None:
    clips = sorted(path for path in (SHARED / corpus).glob("*/*") if path.is_file())[::20][:3]
    if not clips:
        pytest.skip(f"no {corpus} below {SHARED}")
    for path in clips:
        wanted = decode.open_clip([path], decord=True, lengths={}).length - 1
        some = [0, wanted // 2, wanted]
        np.testing.assert_array_equal(frames(path, some)[1], frames(path, some, decord=False)[1])
