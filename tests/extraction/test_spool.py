"""What a decode process does with one clip: one decode for all stages, and every failure told with its owner."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus.media import Stat, stat_of
from pipeline.decoding import decode, video
from pipeline.decoding.decode import Clip, Track
from pipeline.errors import ClipError
from pipeline.extraction.preparing import preparation
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.types import Array, Extractor, Frame, evenly
from tests.video_files import beheaded, cut, edited, number_of, write_clip


class Numbers(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 1)` int64, the number that each frame shows."""

    source: str = "rgb"
    most: int = 400

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return evenly(length, self.most)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for tracks in frames:
            yield np.array([number_of(image) for image in tracks])


class Repeating(Numbers):
    """Asks for frames more than once."""

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return np.round(np.arange(8) * (length - 1) / 7).astype(np.int64)


class First(Numbers):
    """Stops after one frame."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        yield np.array([number_of(next(frames)[0])])


class Nothing(Numbers):
    """Finds nothing in a clip."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        yield from ()


class Broken(Numbers):
    """Makes a mistake in the middle of a clip."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for count, _ in enumerate(frames):
            yield np.array([1 // (3 - count)])


class Refusing(Numbers):
    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        raise ClipError("no hand in any frame")


class Changing(Numbers):
    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for count, _ in enumerate(frames):
            yield np.zeros(1 + count)


class Wild(Numbers):
    wanted: tuple[int, ...]

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return np.array(self.wanted)


class Confused(Numbers):
    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        raise KeyError("rate")


def prepare(folder: Path, *paths: Path, **stages: Extractor) -> Prepared:
    folder.mkdir(exist_ok=True)
    return prepare_clip(Job(0, "clip", stages, folder, stat_of(paths), 60.0, paths))


def items(prepared: Prepared, stage: str) -> list[Any]:
    assert prepared.failures == {}
    return list(np.asarray(prepared.items[stage][:]).squeeze(-1).tolist())


def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The frames that each decode is asked for, as it happens."""
    decodes: list[list[int]] = []
    read = decode._read

    def counting(track: Track, wanted: NDArray[np.int64], moved: video.Moved) -> Iterator[Array]:
        decodes.append(wanted.tolist())
        return read(track, wanted, moved)

    monkeypatch.setattr(decode, "_read", counting)
    return decodes


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 20, options={"bf": "3", "g": "8"})


def test_one_decode_serves_every_stage(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decodes = counted(monkeypatch)
    found = prepare(tmp_path / "spool", clip, every=Numbers(), few=Numbers(most=4), repeating=Repeating(), first=First())
    assert len(decodes) == 1, "decoded more than once"
    assert items(found, "every") == list(range(20))
    assert items(found, "few") == [0, 6, 12, 19]
    assert items(found, "repeating") == [0, 3, 5, 8, 11, 14, 16, 19]
    assert items(found, "first") == [0]
    assert (found.source_length, found.rate_hz, found.decoder, found.tracks) == (20, 25.0, "decord", (20,))


def test_only_selected_frames_are_kept(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decodes = counted(monkeypatch)
    prepare(tmp_path / "spool", clip, few=Numbers(most=2), some=Numbers(most=3))
    assert decodes == [[0, 9, 19]]


def test_short_clips_may_repeat_frames(tmp_path: Path) -> None:
    found = prepare(tmp_path / "spool", write_clip(tmp_path / "short.mp4", 3), repeating=Repeating())
    assert items(found, "repeating") == [0, 0, 1, 1, 1, 1, 2, 2]


def test_a_stages_own_mistake_is_its_failure_only(clip: Path, tmp_path: Path) -> None:
    found = prepare(
        tmp_path / "spool", clip, good=Numbers(), broken=Broken(), refusing=Refusing(), changing=Changing(), confused=Confused()
    )
    assert list(found.items) == ["good"]
    assert found.items["good"][:].ravel().tolist() == list(range(20))
    assert found.failures["broken"] == "ZeroDivisionError: integer division or modulo by zero"
    assert found.failures["refusing"] == "no hand in any frame"
    assert found.failures["changing"] == "changing prepared items of (1,) and of (2,) from one clip"
    assert found.failures["confused"] == "KeyError: 'rate'"


@pytest.mark.parametrize("wanted", [(0, 20), (-1, 3), (5, 4)])
def test_a_selection_that_is_not_in_the_clip_is_the_stages_failure(wanted: tuple[int, ...], clip: Path, tmp_path: Path) -> None:
    found = prepare(tmp_path / "spool", clip, good=Numbers(), wild=Wild(wanted=wanted))
    assert found.failures == {"wild": f"its selection {wanted[0]}..{wanted[-1]} is not ascending within 20 frames"}
    assert len(found.items["good"][:]) == 20


def test_no_items_are_a_legitimate_result(clip: Path, tmp_path: Path) -> None:
    found = prepare(tmp_path / "spool", clip, nothing=Nothing())
    assert found.failures == {}
    assert len(found.items["nothing"][:]) == 0


def test_frames_are_chosen_again_with_the_true_count(tmp_path: Path) -> None:
    live = beheaded(write_clip(tmp_path / "live.ts", 40, options={"bf": "0", "g": "12"}), 0.3)
    found = prepare(tmp_path / "spool", live, few=Numbers(most=3))
    first = 40 - found.source_length
    assert found.source_length == found.tracks[0] < 40
    assert items(found, "few") == [first, first + (found.source_length - 1) // 2, 39]


def test_a_clip_that_decord_cannot_count_is_read_by_pyav(tmp_path: Path) -> None:
    trimmed = edited(write_clip(tmp_path / "trimmed.mp4", 24, options={"bf": "0", "g": "24"}), 5, ticks=512)
    found = prepare(tmp_path / "spool", trimmed, every=Numbers())
    assert (items(found, "every"), found.decoder, found.source_length) == (list(range(5, 24)), "pyav", 19)


def test_a_still_picture_is_a_clip_like_others(tmp_path: Path) -> None:
    still = write_clip(tmp_path / "still.mp4", 12, draw=lambda _, size: np.full((size[1], size[0], 3), 40, np.uint8))
    assert items(prepare(tmp_path / "spool", still, every=Numbers()), "every") == [0] * 12


def test_a_count_that_keeps_changing_is_a_failure(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def recount(self: Clip, wanted: NDArray[np.int64]) -> Iterator[Frame]:
        raise video.Recounted(clip, self.length - 1)

    monkeypatch.setattr(Clip, "frames", recount)
    found = prepare(tmp_path / "spool", clip, every=Numbers())
    assert found.failures == {"every": "its number of frames changes from one decode to the next"}


def test_a_bad_file_is_the_failure_of_every_stage_with_its_reason(tmp_path: Path) -> None:
    short = cut(write_clip(tmp_path / "cut.mp4"), 0.5)
    found = prepare(tmp_path / "spool", short, one=Numbers(), two=First())
    assert found.failures == dict.fromkeys(["one", "two"], "cut.mp4 cannot be decoded: Invalid data found when processing input")
    assert found.content, "a failure is bound to the bytes that failed"


def test_a_missing_track_fails_the_clip_by_its_name(clip: Path, tmp_path: Path) -> None:
    found = prepare(tmp_path / "spool", clip, tmp_path / "clip_RDM2.mp4", every=Numbers())
    assert found.failures == {"every": "clip_RDM2.mp4 is missing"}


def test_tracks_are_zipped_and_their_lengths_recorded(tmp_path: Path) -> None:
    tracks = [write_clip(tmp_path / f"{length}.mkv", length) for length in (6, 12, 6)]
    found = prepare(tmp_path / "spool", *tracks, every=Numbers())
    assert found.tracks == (6, 12, 6)
    assert found.items["every"][:].tolist() == [[i, 2 * i + 1, i] for i in range(6)]


def test_a_clip_that_changes_while_it_is_read_fails(clip: Path, tmp_path: Path) -> None:
    class Rewriting(Numbers):
        def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
            for (image,) in frames:
                clip.write_bytes(b"new")
                yield image

    found = prepare(tmp_path / "spool", clip, rewriting=Rewriting(), other=Numbers())
    assert found.failures == dict.fromkeys(["rewriting", "other"], "the file changed while it was read")
    assert found.items == {}


def test_a_clip_that_changes_between_hash_and_decode_fails(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stat_of([clip])

    def hashed(*_: object) -> str:
        write_clip(clip, 5)
        return "hash of the old bytes"

    monkeypatch.setattr(preparation, "hashed", hashed)
    found = prepare(tmp_path / "spool", clip, every=Numbers())
    assert found.failures == {"every": "the file changed while it was read"}
    assert found.stat == before


def test_what_the_disk_refuses_ends_the_run_and_not_the_clip(clip: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "0-every").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        prepare(tmp_path / "spool", clip, every=Numbers())
    with pytest.raises(FileNotFoundError, match="No such file"):
        prepare_clip(Job(0, "clip", {"every": Numbers()}, tmp_path / "gone", stat_of([clip]), 60.0, (clip,)))


def test_rows_of_another_stage_are_read_without_media(tmp_path: Path) -> None:
    class Doubled(Extractor):
        source: str = "stage:other"

        def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
            for (row,) in frames:
                yield row * 2

    from pipeline import registry

    registry.create("store", "zarr").write(tmp_path / "shard.zarr", np.arange(12, dtype=np.float32).reshape(6, 2))
    rows = Clip((Track(tmp_path / "shard.zarr", 3, 12.5, "cache", 2, "zarr"),))
    found = prepare_clip(Job(0, "clip", {"doubled": Doubled()}, tmp_path, Stat(1, 2), 60.0, rows=rows, content="upstream"))
    assert found.items["doubled"][:].tolist() == [[8, 10], [12, 14], [16, 18]]
    assert (found.content, found.stat, found.source_length, found.rate_hz, found.decoder) == ("upstream", Stat(1, 2), 3, 12.5, "cache")


def test_the_alarm_is_off_when_a_clip_is_done(clip: Path, tmp_path: Path) -> None:
    prepare(tmp_path / "spool", clip, every=Numbers())
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_decode_process_dies_with_its_parent_and_leaves_ctrl_c_to_it() -> None:
    asked = """if True:
        import ctypes, signal
        from pipeline.extraction.preparing.preparation import start_decoder
        start_decoder()
        told = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(told))  # PR_GET_PDEATHSIG
        print(told.value == signal.SIGKILL, signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"""
    if sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent died")
    assert subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split() == ["True", "True"]
