"""A long video -> glosses: every window guessed and gated, or each segment guessed; what was extracted before is looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.manifest import Home
from pipeline.decoding.decode import Clip, decoded, open_clip
from pipeline.decoding.video import media_errors
from pipeline.errors import ClipError, UserError
from pipeline.machine import chosen_device
from pipeline.runs.trained import Trained
from pipeline.spotting._every_frame import extracted, is_frame_wise
from pipeline.spotting.gate import Gate, Streak, Watch
from pipeline.spotting.glosses import Gloss, Guess, merged
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.segmenter import Segmenter
from pipeline.spotting.windows import Kept, Rows, Source, Stream, Windows, spans

AT_ONCE = 32
"""Windows of a batch."""
Span = tuple[int, int]
Advance = Callable[[int], None]
"""Sees to it that the frames up to this one were given to the stages that take them as they come."""
MERGE_FRAMES = 20
"""Glosses of one label this near are one: after as many frames without a word Insignia's notebook takes a sentence to be over."""


@dataclass(frozen=True)
class Way:
    """How a video is looked at: through windows of `window_seconds`, of `window` frames where that is None, one every `stride` frames.

    With a segmenter, each segment is one guess, which is believed where it is as sure as the gate's threshold.
    """

    gate: Gate
    window: int = 60
    window_seconds: float | None = None
    stride: int = 1
    temperature: float = 1.0
    segmenter: Segmenter | None = None

    def frames(self, rate_hz: float) -> int:
        """Of a window of a video of this rate."""
        return max(1, round(self.window_seconds * rate_hz)) if self.window_seconds and rate_hz else self.window


@dataclass(frozen=True)
class Spotted:
    """The glosses of a video, and how many windows or segments were looked at, of which so many gave no rows."""

    glosses: list[Gloss]
    looked_at: int
    empty: int
    rate_hz: float


def spot(home: Home, trained: Trained, video: Path, way: Way, *, device: str = "auto") -> Spotted:
    """What a model finds in a video. Raises UserError for what cannot be spotted, with the reason."""
    device = chosen_device(device)
    recogniser = Recogniser(trained, device, way.temperature)
    try:
        return _Look(home, recogniser, video, way).found()
    except ClipError as error:
        raise UserError(f"cannot spot in {video}: {error}") from error


@dataclass(frozen=True)
class _Look:
    """One video and how it is looked at."""

    home: Home
    recogniser: Recogniser
    video: Path
    way: Way

    def found(self) -> Spotted:
        opened = self._opened()
        trained, device = self.recogniser.trained, self.recogniser.device
        roots = [stage for stage in trained.chain if stage.upstream is None]
        ready = [stage for stage in roots if is_frame_wise(stage.extractor)]
        rows = extracted(self.home, ready, self.video, device)
        kept: dict[str, Source] = {stage.name: Kept(stage.extractor, rows[stage.name].rows) for stage in ready}
        frames = min((len(of.rows) for of in rows.values()), default=opened.length)
        streamed = [stage for stage in roots if stage.name not in kept]
        if not streamed:
            return self._judged(opened.rate_hz, frames, kept, lambda stop: None)

        def take(clip: Clip) -> Spotted:
            stream = Stream(streamed, device, self._most(clip.rate_hz))
            wanted = enumerate(clip.frames(_all(clip.length)))

            def advance(stop: int) -> None:
                for _, frame in islice(wanted, max(0, stop - stream.stop)):
                    stream.give(frame)

            with closing(stream):
                return self._judged(clip.rate_hz, clip.length, {**kept, **stream.sources}, advance)

        return decoded([self.video], take)

    def _opened(self) -> Clip:
        if not self.video.is_file():
            raise UserError(f"no file {self.video}; name one video")
        with media_errors(self.video):
            return open_clip([self.video], decord=False, lengths={})

    def _most(self, rate_hz: float) -> int:
        segmenter = self.way.segmenter
        return segmenter.longest if segmenter else self.way.frames(rate_hz)

    def _judged(self, rate_hz: float, frames: int, sources: Mapping[str, Source], advance: Advance) -> Spotted:
        if not rate_hz:
            raise ClipError("it does not say how many frames a second it has, so times cannot be told")
        windows = Windows(self.recogniser.trained.stages, dict(sources), rate_hz, self.recogniser.device)
        if self.way.segmenter:
            return self._of_segments(self.way.segmenter, windows, frames, advance)
        window = self.way.frames(rate_hz)
        if frames < window:
            raise UserError(
                f"{self.video} has {frames} frames, fewer than a window of {window}; look through a smaller one: --window {frames}, "
                f"or label it as one clip: signcache predict"
            )
        watch, streaks, empty, looked_at = Watch(self.way.gate), list[Streak | None](), 0, 0
        for (_, stop), guess in self._guesses(windows, spans(frames, window, self.way.stride), advance):
            streaks.append(watch.give(stop, guess, self.way.stride))
            looked_at, empty = looked_at + 1, empty + (not guess.label)
        glosses = [gloss_of(streak, window, rate_hz) for streak in (*streaks, watch.end()) if streak]
        return Spotted(merged(glosses, MERGE_FRAMES / rate_hz), looked_at, empty, rate_hz)

    def _of_segments(self, segmenter: Segmenter, windows: Windows, frames: int, advance: Advance) -> Spotted:
        cut = decoded([self.video], segmenter.segments)
        segments = [(first, min(stop, frames)) for first, stop in cut if first < frames]
        said = list(self._guesses(windows, segments, advance))
        rate = windows.rate_hz
        sure = [(span, guess) for span, guess in said if guess.label and guess.probability >= self.way.gate.threshold]
        glosses = [Gloss(guess.label, first / rate, stop / rate, guess.probability) for (first, stop), guess in sure]
        return Spotted(merged(glosses, MERGE_FRAMES / rate), len(said), sum(not guess.label for _, guess in said), rate)

    def _guesses(self, windows: Windows, wanted: Iterable[Span], advance: Advance) -> Iterator[tuple[Span, Guess]]:
        """What each span shows, in their order; rows of no more than a batch of them are in memory."""
        left = iter(wanted)
        while some := list(islice(left, AT_ONCE)):
            yield from zip(some, self.recogniser.guesses([self._rows(windows, span, advance) for span in some]), strict=True)

    @staticmethod
    def _rows(windows: Windows, span: Span, advance: Advance) -> Rows | None:
        advance(span[1])
        try:
            return windows.rows(*span)
        except ClipError:  # a window in which nobody is seen, say
            return None


def _all(frames: int) -> NDArray[np.int64]:
    return np.arange(frames, dtype=np.int64)


def gloss_of(streak: Streak, window: int, rate_hz: float) -> Gloss:
    """A guess is about the middle of its window: the gloss lasts from that of the first to that of the last window that said it."""
    first, last = (max(0.0, (stop - window / 2) / rate_hz) for stop in (streak.first, streak.last))
    return Gloss(streak.label, first, max(last, first + 1 / rate_hz), streak.probability)
