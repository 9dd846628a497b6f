"""When a word is believed: only after many guesses in a row that agree and are sure, as in Insignia."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.spotting.glosses import NA, Guess


@dataclass(frozen=True, slots=True)
class Gate:
    """Guesses that say one label over `frames` frames, each with a probability of `threshold` or more, are believed."""

    frames: int
    threshold: float


INSIGNIA = "insignia"
GATES: Mapping[str, Gate] = {INSIGNIA: Gate(30, 0.7), "insignia-web": Gate(10, 0.6)}
"""Published settings: of the notebook (exotic123567/Insignia: 30 frames by its README, 0.7 in its code) and of the web application
(Im-Rik/Insignia, backend/server_2: the last 10 predictions, 0.6). Both guess at every frame."""


@dataclass(slots=True)
class Streak:
    """Guesses in a row that say one label, each sure enough; `first` and `last` are the ends of the windows that said so."""

    label: str
    first: int
    last: int
    frames: int
    total: float
    guesses: int

    @property
    def probability(self) -> float:
        """The mean of what was said."""
        return self.total / self.guesses


class Watch:
    """Takes the guesses in the order of time; `word` is what is believed now, else NA."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.streak: Streak | None = None

    @property
    def word(self) -> str:
        return self.streak.label if self.streak and self._is_believed(self.streak) else NA

    def give(self, stop: int, guess: Guess, frames: int = 1) -> Streak | None:
        """A guess of the window that ends before frame `stop`, so many `frames` after the one before.

        Gives the streak that it ends, if that was believed.
        """
        sure = bool(guess.label) and guess.probability >= self.gate.threshold
        if self.streak and sure and self.streak.label == guess.label:
            self.streak.last = stop
            self.streak.frames += frames
            self.streak.total += guess.probability
            self.streak.guesses += 1
            return None
        ended = self.end()
        self.streak = Streak(guess.label, stop, stop, frames, guess.probability, 1) if sure else None
        return ended

    def end(self) -> Streak | None:
        """No more guesses: the streak that this ends, if it was believed."""
        ended, self.streak = self.streak, None
        return ended if ended and self._is_believed(ended) else None

    def _is_believed(self, streak: Streak) -> bool:
        return streak.frames >= self.gate.frames
