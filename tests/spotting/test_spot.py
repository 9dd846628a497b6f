"""Long videos: what windows read, what is found and when, what it costs, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from pipeline.decoding.decode import Clip, decoded
from pipeline.errors import UserError
from pipeline.runs.packaging.reading import opened
from pipeline.runs.predict import predict_files
from pipeline.spotting import files, windows
from pipeline.spotting.gate import Gate
from pipeline.spotting.glosses import Gloss
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.segmenter import Segmenter
from pipeline.spotting.spot import Way, spot
from pipeline.spotting.windows import Stream, Windows, spans
from pipeline.testing.long_videos import compose
from pipeline.types import Array, Extractor, Frame
from tests.commands import run
from tests.spotting.signs import RATE, REST, Signs, done
from tests.video_files import write_clip, write_sound

SEED = 1
"""Of an order in which no sign follows itself."""
WINDOW = ("--window", 24, "--gate", "insignia-web")


@pytest.fixture(scope="module")
def long(signs: Signs) -> tuple[Path, list[Gloss]]:
    """The test clips of all signs in one video, and what it shows."""
    out = signs.root / "long.mp4"
    return out, compose(signs.clips(), out, seed=SEED)


def spotted(signs: Signs, which: str, video: Path, *words: object) -> tuple[dict[str, Any], str]:
    """The document of `spot`, and what it says besides."""
    result = run(signs.home, "spot", signs.runs[which], video, *words, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document, result.stderr


def refused(signs: Signs, which: str, video: Path, *words: object) -> str:
    result = run(signs.home, "spot", signs.runs[which], video, *words, "--device", "cpu")
    assert result.exit_code == 2, result.output
    assert result.stderr.splitlines()[-1].startswith("signcache: ")
    return result.stderr


def cut_out(video: Path, first: int, stop: int, out: Path) -> Path:
    """Some frames of a video as a clip, without loss."""
    images = decoded([video], lambda clip: [image for (image,) in clip.frames(np.arange(first, stop))], decord=False)
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264rgb", rate=RATE, options={"qp": "0", "threads": "1"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "rgb24"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return out


@pytest.mark.parametrize("which", ["colour", "derived", "streamed"])
def test_signs_are_found_where_they_are(signs: Signs, long: tuple[Path, list[Gloss]], which: str) -> None:
    video, truth = long
    files.write(signs.root / "truth.eaf", truth, video)
    document, _ = spotted(signs, which, video, *WINDOW, "--against", signs.root / "truth.eaf")
    glosses = [each for each in document["glosses"] if each["label"] != REST]
    assert [each["label"] for each in glosses] == [each.label for each in truth]
    for found, gloss in zip(glosses, truth, strict=True):
        assert found.keys() == {"label", "start", "end", "probability"}
        assert found["start"] < (gloss.start + gloss.end) / 2 < found["end"]
        assert 0.6 <= found["probability"] <= 1
    assert (document["scores"]["missed"], document["scores"]["substituted"]) == (0, 0)
    assert document["scores"]["inserted"] == len(document["glosses"]) - len(truth)


@pytest.mark.parametrize("which", ["colour", "derived", "streamed"])
def test_a_window_is_said_to_be_what_predict_says_of_the_same_frames_as_a_clip(
    signs: Signs, long: tuple[Path, list[Gloss]], which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of frame-wise stages are equal, whether kept, streamed or derived."""
    seen: list[windows.Rows] = []
    original = Recogniser.guesses

    def guesses(self: Recogniser, given: list[windows.Rows | None]) -> Any:
        seen.extend(rows for rows in given if rows)
        return original(self, given)

    monkeypatch.setattr(Recogniser, "guesses", guesses)
    video, truth = long
    spotted(signs, which, video, *WINDOW, "--stride", 9)
    frames = round((truth[-1].end + 3) * RATE)
    with opened(signs.home, signs.runs[which]) as trained:
        recogniser = Recogniser(trained, "cpu")
        for number, (first, stop) in list(enumerate(spans(frames, 24, 9)))[1:20:4]:
            clip = cut_out(video, first, stop, signs.root / f"{which} {first}.mp4")
            (said,) = predict_files(signs.home, signs.runs[which], [clip], device="cpu")
            (guess,) = original(recogniser, [seen[number]])
            assert guess.label == said.label
            assert guess.probability == pytest.approx(said.top[0][1], abs=1e-6)
            for stage in trained.stages:
                features = trained_rows(signs, stage.name, clip)
                np.testing.assert_array_equal(seen[number][stage.name], features)


def trained_rows(signs: Signs, stage: str, clip: Path) -> Any:
    """What the cache holds of a clip that was predicted."""
    from pipeline.cache import publishing

    return publishing.opened(signs.home, "signs-predict", stage)[str(clip)]


def test_rows_of_a_video_are_made_once_and_found_by_content(signs: Signs) -> None:
    video, copy = signs.root / "once.mp4", signs.root / "elsewhere" / "renamed.mp4"
    compose(signs.clips(), video, seed=SEED + 100)
    first, words = spotted(signs, "derived", video, *WINDOW)
    assert "colour.every-frame: 1/1 clips" in words
    copy.parent.mkdir()
    shutil.copy(video, copy)
    again, words = spotted(signs, "derived", copy, *WINDOW)
    assert again == first
    assert "clips" not in words
    assert "all whole" in run(signs.home, "verify", "signs-predict").output
    done(signs.home, "compact", "signs-predict")
    done(signs.home, "gc", "--yes")
    _, words = spotted(signs, "colour", copy, "--stride", 5, "--gate", "insignia", "--window", 24)
    assert "clips" not in words


def test_the_length_of_a_video_is_no_memory(signs: Signs) -> None:
    """What is streamed keeps the frames of one window, however many were given."""
    with opened(signs.home, signs.runs["streamed"]) as trained:
        stream = Stream(trained.stages, "cpu", most=24)
        rows = Windows(trained.stages, stream.sources, RATE, "cpu")
        for number in range(300):
            stream.give((np.full((8, 8, 3), number % 256, np.uint8),))
            if stream.stop >= 24:
                found = rows.rows(stream.stop - 24, stream.stop)
                assert {name: len(part) for name, part in found.items()} == {"tint": 12, "change": 12}
            for source in stream.sources.values():
                assert len(source.items) <= 24
                assert len(source.made) <= 24
        with pytest.raises(ValueError, match=r"frames 0:24, where 276:300 are kept"):
            rows.rows(0, 24)


def test_frames_that_were_dropped_are_taken_to_be_as_the_one_before(signs: Signs) -> None:
    with opened(signs.home, signs.runs["streamed"]) as trained:
        dropping, whole = (Stream(trained.stages, "cpu", most=24) for _ in range(2))
        for number in (0, 1, 4, 5, 9):
            dropping.give((np.full((8, 8, 3), number, np.uint8),), number)
        for number in (0, 1, 1, 1, 4, 5, 5, 5, 5, 9):
            whole.give((np.full((8, 8, 3), number, np.uint8),))
        for first, stop in ((0, 10), (2, 9)):
            one, other = (Windows(trained.stages, each.sources, RATE, "cpu").rows(first, stop) for each in (dropping, whole))
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


def test_a_whole_package_spots_as_its_run_does(signs: Signs, long: tuple[Path, list[Gloss]]) -> None:
    done(signs.home, "package", signs.runs["colour"], signs.root / "colour.zip")
    of_run, _ = spotted(signs, "colour", long[0], *WINDOW)
    result = run(signs.home, "spot", signs.root / "colour.zip", long[0], *WINDOW, "--device", "cpu", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == of_run


def test_a_video_without_signs_is_no_error(signs: Signs) -> None:
    video = write_clip(signs.root / "still.mp4", 60, draw=lambda number, size: np.full((size[1], size[0], 3), 120, np.uint8))
    result = run(signs.home, "spot", signs.runs["derived"], video, *WINDOW, "--threshold", 1, "--device", "cpu")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no signs found" in result.stderr


def test_what_cannot_be_spotted_is_one_line(signs: Signs, tmp_path: Path) -> None:
    sound, short = write_sound(tmp_path / "sound.mp4"), write_clip(tmp_path / "short.mp4", 20)
    (tmp_path / "empty.mp4").touch()
    assert "sound.mp4: sound.mp4 has no video stream" in refused(signs, "colour", sound, *WINDOW)
    assert "has 20 frames, fewer than a window of 24; look through a smaller one: --window 20" in refused(signs, "colour", short, *WINDOW)
    assert "no file" in refused(signs, "colour", tmp_path / "gone.mp4")
    assert "cannot spot in" in refused(signs, "colour", tmp_path / "empty.mp4")
    assert "glosses are written as .eaf, .csv" in refused(signs, "colour", short, "--out", "glosses.txt")
    assert "is not calibrated yet; run: signcache calibrate" in refused(signs, "colour", short, "--gate", "calibrated")
    assert "no segmenter called 'wrist'; did you mean 'wrist_flow'?" in refused(signs, "colour", short, "--segments", "wrist")
    assert "--set sets what --segments names" in refused(signs, "colour", short, "--set", "most=9")
    assert "no run folder" in run(signs.home, "spot", tmp_path, short).stderr


def test_a_stage_that_reads_a_clip_as_a_whole_is_refused_by_name() -> None:
    stage = SimpleNamespace(name="whole", extractor=LooksAhead())
    with pytest.raises(UserError, match=r"stage 'whole' reads a clip as a whole, so no long video; use a model of other stages"):
        Stream([stage], "cpu", most=4).give((np.zeros((4, 4, 3), np.uint8),))  # type: ignore[list-item]


class LooksAhead(Extractor):
    """Takes two frames before it prepares the first."""

    source: str = "rgb"

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        for (before,), (after,) in pairwise(frames):
            yield after - before


class Known(Segmenter):
    """Cuts where it is told to."""

    spans: tuple[tuple[int, int], ...]

    @property
    def longest(self) -> int:
        return 60

    def segments(self, clip: Clip) -> list[tuple[int, int]]:
        return list(self.spans)


@pytest.mark.parametrize("which", ["derived", "streamed"])
def test_a_segment_is_guessed_once_as_the_clip_that_it_is(signs: Signs, long: tuple[Path, list[Gloss]], which: str) -> None:
    video, truth = long
    spans = tuple((round(gloss.start * RATE), round(gloss.end * RATE)) for gloss in truth)
    with opened(signs.home, signs.runs[which]) as trained:
        way = Way(Gate(30, 0.0), segmenter=Known(spans=spans))
        found = spot(signs.home, trained, video, way, device="cpu")
        sure = spot(signs.home, trained, video, replace(way, gate=Gate(30, 1.0)), device="cpu")
    assert [(each.label, each.start, each.end) for each in found.glosses] == [(each.label, each.start, each.end) for each in truth]
    assert (found.looked_at, found.empty, sure.glosses) == (len(truth), 0, [])
    clip = cut_out(video, *spans[0], signs.root / f"{which} segment.mp4")
    (said,) = predict_files(signs.home, signs.runs[which], [clip], device="cpu")
    assert found.glosses[0].probability == pytest.approx(said.top[0][1], abs=1e-6)


def test_what_was_found_is_said_as_a_sentence_and_written_beside(signs: Signs, long: tuple[Path, list[Gloss]]) -> None:
    outs = [signs.root / f"found{suffix}" for suffix in (".eaf", ".csv", ".json", ".vtt", ".mp4")]
    words = [word for out in outs for word in ("--out", out)]
    document, _ = spotted(signs, "colour", long[0], *WINDOW, *words, "--sentence", "rules", "--context", "paint")
    assert document["sentence"].endswith(" (paint).")
    for gloss in long[1]:
        assert gloss.label.lower() in document["sentence"].lower()
    for out in outs[:3]:
        assert [each.label for each in files.read(out)] == [each["label"] for each in document["glosses"]]
    assert decoded([outs[-1]], lambda clip: clip.length) == decoded([long[0]], lambda clip: clip.length)
