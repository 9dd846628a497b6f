"""A clip is given up when nothing moves any more, not when it is long: whatever moves gives it its whole deadline again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.corpus.media import hashed, stat_of
from pipeline.extraction.preparing import preparation
from pipeline.extraction.preparing.jobs import Job, Prepared
from pipeline.extraction.preparing.preparation import prepare_clip
from pipeline.types import Array, Extractor, Frame
from tests.video_files import write_clip

DEADLINE = 60.0


class First(Extractor):
    """Of a whole clip the first frame."""

    source: str = "rgb"
    frames: int = 1

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        return np.arange(self.frames)

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        kept = [image for (image,) in frames]
        yield kept[0]


class Many(First):
    """Many items of one frame."""

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (image,) in frames:
            yield from [image.mean(keepdims=True)] * 50


@pytest.fixture
def renewed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the alarm was set to, in turn."""
    found: list[float] = []
    monkeypatch.setattr(signal, "setitimer", lambda timer, seconds: found.append(seconds))
    return found


def prepared(folder: Path, clip: Path, stage: Extractor, *, decord: bool = True) -> Prepared:
    (folder / "spool").mkdir()
    found = prepare_clip(Job(0, "clip", {"stage": stage}, folder / "spool", stat_of([clip]), DEADLINE, (clip,), decord))
    assert not found.failures
    return found


def test_every_part_of_a_file_that_is_hashed_renews_the_deadline(tmp_path: Path) -> None:
    parts: list[int] = []
    (tmp_path / "long").write_bytes(bytes(5 << 20))
    (tmp_path / "short").write_bytes(b"x")
    hashed([tmp_path / "long", tmp_path / "short"], lambda: parts.append(1))
    assert len(parts) == 6


@pytest.mark.parametrize("decord", [True, False])
def test_packets_that_are_counted_and_frames_that_are_skipped_renew_the_deadline(
    decord: bool, tmp_path: Path, renewed: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", 200, options={"g": "200"})
    monkeypatch.setattr(preparation, "hashed", lambda *_: "content")
    found = prepared(tmp_path, clip, First(), decord=decord)
    assert found.decoder == ("decord" if decord else "pyav")
    assert len(renewed) >= 400
    assert set(renewed[:-1]) == {DEADLINE}


def test_frames_that_a_stage_takes_and_items_that_it_makes_renew_the_deadline(tmp_path: Path, renewed: list[float]) -> None:
    np.save(tmp_path / "clip.npy", np.zeros((100, 3)))
    prepared(tmp_path, tmp_path / "clip.npy", First(frames=100))
    assert len(renewed) >= 100, "frames"
    renewed.clear()
    (tmp_path / "more").mkdir()
    prepared(tmp_path / "more", tmp_path / "clip.npy", Many())
    assert len(renewed) >= 50, "items"


def test_the_alarm_is_off_when_a_clip_is_done(tmp_path: Path, renewed: list[float]) -> None:
    prepared(tmp_path, write_clip(tmp_path / "clip.mp4"), First())
    assert renewed[-1] == 0
