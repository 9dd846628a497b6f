"""Live: the words of a played file by a clock that only moves when somebody works or waits, and what is dropped when work takes long."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.layouts import LANDMARKS, Layout
from pipeline.runs.packaging.reading import opened
from pipeline.spotting.gate import GATES
from pipeline.spotting.glosses import NA, Gloss
from pipeline.spotting.live import screen, sources
from pipeline.spotting.live.session import Live, Moment
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.sentences.voice import voice
from pipeline.spotting.spot import MERGE_FRAMES, Way, spot
from pipeline.spotting.windows import Stream
from pipeline.testing.long_videos import compose
from pipeline.types import Frame
from tests.commands import run
from tests.spotting.signs import RATE, Signs
from tests.video_files import numbered, write_clip, write_sound

WAY = Way(GATES["insignia-web"], window=24)
FRAME = 1 / RATE


@dataclass
class FakeClock:
    """Stands still but for what is waited and worked."""

    time: float = 100.0
    waited: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.waited.append(seconds)
        self.time += seconds


@pytest.fixture(scope="module")
def long(signs: Signs) -> tuple[Path, list[Gloss]]:
    out = signs.root / "live.mp4"
    return out, compose(signs.clips(), out, seed=7)


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> dict[FakeClock, float]:
    """`costs[clock] = seconds` makes every frame take so long."""
    found: dict[int, tuple[FakeClock, float]] = {}
    original = Stream.give

    class Costs(dict[Any, float]):
        def __setitem__(self, clock: Any, seconds: float) -> None:
            found[0] = (clock, seconds)

    def give(self: Stream, frame: Frame, number: int | None = None) -> None:
        original(self, frame, number)
        if found:
            clock, seconds = found[0]
            clock.time += seconds

    monkeypatch.setattr(Stream, "give", give)
    return Costs()


def session(signs: Signs, video: Path, clock: FakeClock, which: str = "colour") -> Iterator[tuple[Live, Moment]]:
    with opened(signs.home, signs.runs[which]) as trained:
        live = Live(Recogniser(trained, "cpu"), WAY, sources.opened(str(video), clock), clock)
        for moment in live.moments():
            yield live, moment


@pytest.mark.parametrize("which", ["colour", "derived", "streamed"])
def test_a_played_file_is_said_to_be_what_spot_finds_in_it(signs: Signs, long: tuple[Path, list[Gloss]], which: str) -> None:
    clock = FakeClock()
    *_, (live, last) = session(signs, long[0], clock, which)
    with opened(signs.home, signs.runs[which]) as trained:
        found = spot(signs.home, trained, long[0], WAY, device="cpu")
    assert [(g.label, g.start, g.end) for g in live.tally.glosses] == [(g.label, g.start, g.end) for g in found.glosses]
    assert [g.probability for g in live.tally.glosses] == pytest.approx([g.probability for g in found.glosses], abs=1e-5)
    assert {each.label for each in long[1]} <= {each.label for each in found.glosses}
    assert live.tally.dropped == 0
    assert last.seconds == pytest.approx((live.tally.seen - 1) * FRAME)
    assert clock.waited == pytest.approx([FRAME] * (live.tally.seen - 1))
    assert live.tally.latency(100) == 0


def test_frames_are_dropped_where_work_takes_longer_than_they_last(
    signs: Signs, long: tuple[Path, list[Gloss]], costs: dict[FakeClock, float]
) -> None:
    clock = FakeClock()
    costs[clock] = 2.5 * FRAME
    seen = list(session(signs, long[0], clock))
    live = seen[-1][0]
    numbers = [round(moment.seconds * RATE) for _, moment in seen]
    steps = set(np.diff(numbers).tolist())
    assert steps <= {2, 3}
    assert live.tally.seen == len(numbers)
    assert live.tally.seen + live.tally.dropped == numbers[-1] + 1
    assert max(live.tally.latencies) < 3.5 * FRAME + 1e-9
    assert clock.now() - 100 <= (numbers[-1] + 4) * FRAME
    truth = {each.label for each in long[1]}
    assert truth <= {each.label for each in live.tally.glosses}


def test_a_word_is_new_once_and_follows_its_sign_within_a_window(
    signs: Signs, long: tuple[Path, list[Gloss]], costs: dict[FakeClock, float]
) -> None:
    clock = FakeClock()
    costs[clock] = FRAME / 2
    *_, (live, _) = seen = list(session(signs, long[0], clock))
    words = [(moment.seconds, moment.word) for _, moment in seen if moment.is_new]
    assert [word.label for word in live.tally.words] == [label for _, label in words]
    assert [word.at for word in live.tally.words] == pytest.approx([seconds + FRAME / 2 for seconds, _ in words])
    assert all(word != NA for _, word in words)
    for gloss in long[1]:
        assert any(word == gloss.label and gloss.start < seconds < gloss.end + 24 * FRAME for seconds, word in words)


def test_a_sentence_ends_after_so_many_frames_without_a_word(signs: Signs) -> None:
    with opened(signs.home, signs.runs["colour"]) as trained:
        live = Live(Recogniser(trained, "cpu"), WAY, sources.Played(write_clip(signs.root / "any.mp4", 5), FakeClock()), FakeClock())
        words = ["RED"] * 3 + [NA] * 5 + ["RED", "BLUE"] + [NA] * (MERGE_FRAMES - 1)
        assert {live._sentence(word) for word in words} == {()}
        assert live._sentence(NA) == ("RED", "BLUE")
        assert {live._sentence(NA) for _ in range(50)} == {()}
        live._sentence("BLUE")
        assert live._sentence(NA, MERGE_FRAMES) == ("BLUE",), "frames that were dropped have passed"
        live._sentence("BLUE")
        assert live.finished() == ("BLUE",)
        assert live.finished() == ()


def test_a_camera_gives_the_newest_frame_and_counts_those_that_nobody_took(tmp_path: Path) -> None:
    """A file stands for the camera: OpenCV reads both; the thread is asked to take all before the first is looked at."""
    camera = sources.Camera(str(write_clip(tmp_path / "camera.mp4", 12, draw=numbered)))
    assert camera.rate_hz == RATE
    camera._take()
    camera.newest.is_over = False
    number, _, picture = next(camera.frames())
    assert number == 11
    assert picture.shape == (48, 64, 3)


@pytest.mark.parametrize("words", [("--text",), ()])
def test_without_a_display_words_are_lines(
    signs: Signs, long: tuple[Path, list[Gloss]], words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sources, "WallClock", FakeClock)
    options = ("--source", long[0], "--gate", "insignia-web", "--window", 24, "--sentence", "rules", "--device", "cpu", *words)
    result = run(signs.home, "live", signs.runs["colour"], *options)
    assert result.exit_code == 0, result.output
    for gloss in long[1]:
        assert f" s  {gloss.label} " in result.stderr
    assert "frames seen, 0 dropped; latency 0 ms a frame" in result.stderr.splitlines()[-1]
    document = json.loads(run(signs.home, "live", signs.runs["colour"], *options, "--json").stdout)
    assert {each["label"] for each in document["glosses"]} >= {gloss.label for gloss in long[1]}
    assert document["dropped"] == 0
    assert document["sentences"]
    assert all(sentence in result.stderr for sentence in document["sentences"])


def test_sentences_are_said_aloud_by_the_machines_voice(
    signs: Signs, long: tuple[Path, list[Gloss]], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, told = list[str](), list[str]()
    engine = SimpleNamespace(say=told.append, runAndWait=lambda: heard.append(told.pop()))
    monkeypatch.setitem(sys.modules, "pyttsx3", SimpleNamespace(init=lambda: engine))
    monkeypatch.setattr(sources, "WallClock", FakeClock)
    options = ("--source", long[0], "--gate", "insignia-web", "--window", 24, "--text", "--device", "cpu", "--json")
    line = ("live", signs.runs["colour"], *options)
    assert heard == json.loads(run(signs.home, *line, "--sentence", "rules", "--speak").stdout)["sentences"] != []
    assert "--speak is for sentences; give --sentence rules too" in run(signs.home, *line, "--speak").stderr


def test_a_machine_without_a_voice_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def mute() -> None:
        raise RuntimeError("eSpeak is not installed\nmore of it")

    monkeypatch.setitem(sys.modules, "pyttsx3", SimpleNamespace(init=mute))
    with pytest.raises(UserError, match=r"^--speak finds no voice here \(eSpeak is not installed\); on Debian: apt-get install espeak-ng"):
        voice()
    monkeypatch.setitem(sys.modules, "pyttsx3", None)
    with pytest.raises(UserError, match=r"^--speak needs pyttsx3: pip install -e '\.\[speech\]', or leave --speak out$"):
        voice()


def test_a_window_shows_what_is_known(signs: Signs, long: tuple[Path, list[Gloss]]) -> None:
    pairs = session(signs, long[0], FakeClock())
    live, moment = next((live, moment) for live, moment in pairs if moment.word != NA)
    moment = replace(moment, image=np.zeros((240, 320, 3), np.uint8))
    picture = screen.drawn(live, moment, "")
    bar = (picture == screen.GREEN).all(-1).any(0)
    assert bar.sum() == pytest.approx(320 * moment.guess.probability, abs=2)
    with_sentence = screen.drawn(live, moment, "I am sick.")
    changed = np.flatnonzero((with_sentence != picture).any((1, 2)))
    assert len(changed) > 0
    assert changed.min() > 120
    assert not moment.image.any()


def test_landmarks_are_drawn_where_they_were_seen() -> None:
    layout = Layout((LANDMARKS["pose"], LANDMARKS["left_hand"], LANDMARKS["right_hand"]))
    row = np.zeros(layout.width, np.float32)
    row[layout.columns["left_hand"]] = np.tile([0.25, 0.5, 0.0], 21)
    extractor = type("Stage", (), {"row_layout": layout})()
    source = type("Source", (), {"extractor": extractor, "forward": None, "items": [row]})()
    found = screen.landmarks(type("Session", (), {"stream": type("All", (), {"sources": {"holistic": source}})()})())
    assert found.keys() == {"left_hand"}
    np.testing.assert_array_equal(found["left_hand"], np.tile(np.array([0.25, 0.5], np.float32), (21, 1)))


def test_a_source_that_is_not_there_is_one_line(signs: Signs, tmp_path: Path) -> None:
    for name, text in (
        (str(tmp_path / "gone.mp4"), "no such file; name a video, a camera by its number (0), or an address (rtsp://...)"),
        (str(write_sound(tmp_path / "sound.mp4")), "sound.mp4 has no video stream"),
    ):
        result = run(signs.home, "live", signs.runs["colour"], "--source", name, "--text")
        assert result.exit_code == 2
        assert text in result.stderr.splitlines()[-1]
    with pytest.raises(UserError, match=r"--source 98: no camera answers there"):
        sources.opened("98", FakeClock())
    result = run(signs.home, "live", signs.runs["colour"], "--context", "chest")
    assert "--context is for sentences; give --sentence rules too" in result.stderr


def test_what_a_stage_holds_is_let_go_when_a_session_ends_early(signs: Signs, long: tuple[Path, list[Gloss]]) -> None:
    """MediaPipe's graph, which is closed by the end of `prepare`, hangs a process that ends before."""
    with opened(signs.home, signs.runs["colour"]) as trained:
        clock = FakeClock()
        live = Live(Recogniser(trained, "cpu"), WAY, sources.opened(str(long[0]), clock), clock)
        moments = live.moments()
        next(moments)
        (source,) = live.stream.sources.values()
        moments.close()
        with pytest.raises(UserError, match=r"prepares no item of each frame"):
            source.give((np.zeros((8, 8, 3), np.uint8),))
