"""Parts of long files as media: `talk.mp4#t=12.5,14` is these seconds of it, `talk.mp4#frames=300,420` these frames.

From the first to before the second, counted from 0 at the first frame. Written as W3C media fragments are, after the file's own path.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["t", "frames"]
FRAGMENT = re.compile(r"(.*)#(t=-?\d+(?:\.\d+)?,-?\d+(?:\.\d+)?|frames=-?\d+,-?\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Interval:
    """`[start, end)` of a file in seconds (`t`) or in frames."""

    unit: Unit
    start: float
    end: float

    def __str__(self) -> str:
        """As it stands after the `#`, always in one form: to a microsecond."""
        return f"{self.unit}={_number(self.start)},{_number(self.end)}"

    @property
    def phrase(self) -> str:
        """`frames 300 to 420`, `12.5 to 14 s`."""
        start, end = _number(self.start), _number(self.end)
        return f"frames {start} to {end}" if self.unit == "frames" else f"{start} to {end} s"


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def part(file: str, interval: Interval) -> str:
    """The media path of a part of a file."""
    return f"{file}#{interval}"


def parted(path: str | Path) -> tuple[str, str]:
    """The file that a media path names, and the part of it, as it is written after the `#`; empty where it is the whole."""
    text = os.fspath(path)
    match = FRAGMENT.fullmatch(text) if "#" in text else None
    return (match[1], match[2]) if match else (text, "")


def interval_of(written: str) -> Interval:
    """What is written after the `#`, in whichever form."""
    unit, _, numbers = written.partition("=")
    start, end = map(float, numbers.split(","))
    return Interval("t" if unit == "t" else "frames", start, end)
