"""What cuts a video into signs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from pipeline.decoding.decode import Clip


class Segmenter(BaseModel):
    """Where the signs of a video lie; its fields are settings, `--set k=v`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def longest(self) -> int:
        """Frames that a segment has at most."""
        raise NotImplementedError

    def segments(self, clip: Clip) -> list[tuple[int, int]]:
        """`(first, stop)` frames of each sign, in the order of time, apart from one another."""
        raise NotImplementedError
