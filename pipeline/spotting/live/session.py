"""Frames as they come -> words as they are believed: the windows and the gate of long videos, and what was dropped on the way."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np

from pipeline.errors import ClipError
from pipeline.spotting.gate import Streak, Watch
from pipeline.spotting.glosses import NA, NOTHING, Gloss, Guess, document, merged
from pipeline.spotting.live.sources import Clock, LiveSource
from pipeline.spotting.recogniser import Recogniser
from pipeline.spotting.spot import MERGE_FRAMES, Way, gloss_of
from pipeline.spotting.windows import Stream, Streamed, Windows
from pipeline.types import Array

REMEMBERED = 10_000
"""Frames of which the latency is kept."""


@dataclass(frozen=True)
class Moment:
    """One frame and what is known after it; `seconds` since the first, by the frames' own rate."""

    seconds: float
    image: Array
    guess: Guess
    word: str
    """What is believed now, else NA."""
    is_new: bool
    """Whether this frame made it so."""
    sentence: tuple[str, ...]
    """The glosses of a sentence that ends with this frame, by as many frames without a word; empty at all others."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word as it was said: `at` so many seconds after the first frame came, by the clock."""

    label: str
    at: float
    probability: float


@dataclass
class Tally:
    """What a session did so far."""

    glosses: list[Gloss] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    seen: int = 0
    dropped: int = 0
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    """Seconds from when a frame came until all was known of it."""

    def latency(self, percent: float) -> float:
        return float(np.percentile(self.latencies, percent)) if self.latencies else 0.0

    def document(self) -> dict[str, object]:
        """As JSON values."""
        words = [{"label": word.label, "at": round(word.at, 3), "probability": round(word.probability, 6)} for word in self.words]
        ms = {f"p{percent}_ms": round(1000 * self.latency(percent), 3) for percent in (50, 99)}
        return {"glosses": document(self.glosses), "words": words, "seen": self.seen, "dropped": self.dropped, **ms}


class Live:
    """One session with a source of frames, or of rows of these. What comes while another is looked at is dropped, never kept waiting."""

    def __init__(self, recogniser: Recogniser, way: Way, source: LiveSource, clock: Clock, kind: type[Streamed] = Streamed) -> None:
        self.recogniser, self.way, self.source, self.clock = recogniser, way, source, clock
        stages, device = recogniser.trained.stages, recogniser.device
        self.window = way.frames(source.rate_hz)
        self.stream = Stream([stage for stage in recogniser.trained.chain if stage.upstream is None], device, self.window, kind)
        self.windows = Windows(stages, self.stream.sources, source.rate_hz, device)
        self.watch, self.tally = Watch(way.gate), Tally()
        self.guessed_at, self.guess = 0, NOTHING
        self.said, self.quiet = list[str](), 0
        """Words of the sentence so far, and frames without one since the last."""

    def moments(self) -> Generator[Moment, None, None]:
        """One for each frame that was seen; at the end the last word has become a gloss."""
        with closing(self.stream):
            yield from self._moments()

    def _moments(self) -> Generator[Moment, None, None]:
        first, began = -1, 0.0
        for number, came, image in self.source.frames():
            if first < 0:
                first, began = number, came
            passed = number - first + 1 - self.stream.stop
            self.tally.dropped += passed - 1
            self.stream.give((image,), number - first)
            before = self.watch.word
            self._guess()
            word = self.watch.word
            self.tally.seen += 1
            self.tally.latencies.append(self.clock.now() - came)
            is_new = word not in (NA, before)
            if is_new:
                self.tally.words.append(Word(word, self.clock.now() - began, self.guess.probability))
            yield Moment((number - first) / self.source.rate_hz, image, self.guess, word, is_new, self._sentence(word, passed))
        self._close(self.watch.end())

    def finished(self) -> tuple[str, ...]:
        """The words of a sentence that the end of the source cut off."""
        said, self.said = tuple(self.said), []
        return said

    def _guess(self) -> None:
        stop, since = self.stream.stop, self.stream.stop - self.guessed_at
        if stop < self.window or (self.guessed_at and since < self.way.stride):
            return
        try:
            rows = self.windows.rows(stop - self.window, stop)
        except ClipError:  # nobody is seen
            rows = None
        (self.guess,) = self.recogniser.guesses([rows])
        self._close(self.watch.give(stop, self.guess, since if self.guessed_at else self.way.stride))
        self.guessed_at = stop

    def _close(self, streak: Streak | None) -> None:
        if streak:
            rate = self.source.rate_hz
            self.tally.glosses = merged([*self.tally.glosses, gloss_of(streak, self.window, rate)], MERGE_FRAMES / rate)

    def _sentence(self, word: str, passed: int = 1) -> tuple[str, ...]:
        """As Insignia's notebook: a word that follows itself is one, and MERGE_FRAMES frames without a word end a sentence.

        Frames that were dropped have `passed` too: a sentence ends at the same time on a slow machine.
        """
        if word != NA:
            self.quiet = 0
            if self.said[-1:] != [word]:
                self.said.append(word)
            return ()
        self.quiet += passed
        return self.finished() if self.quiet >= MERGE_FRAMES and self.said else ()
