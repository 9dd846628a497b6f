"""A corpus of small arrays, three stages on it, and what these make of a clip in plain Python."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import xxhash

DATASET = '''"""Clips `<class>/<clip>.npy`."""

from pipeline.errors import UserError
from pipeline.types import Sample


class Toys:
    layout = "<class>/<clip>.npy"
    stages = {"steps": {}}
    training = {}

    def samples(self, root):
        if not root.is_dir():
            raise UserError(f"no folder {root}; expected there: {self.layout}")
        for path in sorted(root.glob("*/*.npy")):
            file = path.relative_to(root).as_posix()
            yield Sample(file.removesuffix(".npy"), {"signal": (file,)}, path.parent.name, "unassigned", None)

    def classes(self, labels):
        return sorted(labels)


dataset = Toys()
'''
STEPS = '''"""Frames whose first number is not negative, scaled; a frame of 1000 is refused."""

import numpy as np

from pipeline.errors import ClipError
from pipeline.types import Extractor

OFFSET, SPELLING = {offset}, {spelling}


class Steps(Extractor):
    source: str = "{source}"
    gain: int = {gain}

    @property
    def row_shape(self):
        return (2,)

    def prepare(self, frames):
        for (frame,) in frames:
            if frame[0] == 1000:
                raise ClipError("a frame of 1000")
            if frame[0] >= 0:
                yield (frame * self.gain + OFFSET).astype(np.float32)


stage = Steps
'''
SUMS = '''"""Sums of two frames, scaled, computed on the device."""

from pipeline.types import Extractor

OFFSET, SPELLING = {offset}, {spelling}


class Sums(Extractor):
    source: str = "{source}"
    gain: int = {gain}

    @property
    def row_shape(self):
        return (2,)

    def prepare(self, frames):
        for (frame,) in frames:
            yield frame

    def rows(self, items):
        return [slice(i, i + 2) for i in range(items - 1)]

    def load(self, device):
        return lambda windows: windows.sum(1) * self.gain + OFFSET


stage = Sums
'''
STAGES: Mapping[str, tuple[str, str]] = {"steps": (STEPS, "signal"), "sums": (SUMS, "signal"), "echo": (STEPS, "stage:steps")}
"""The text of each stage and what it reads."""
UPSTREAM: Mapping[str, str] = {"echo": "steps"}
ROWS = range(6)
"""Contents of which every stage makes rows."""
EMPTY, SHORT, REFUSED, BROKEN = (6, 7), (8,), (9,), (10, 11)
"""No rows of `steps`; none of `sums`; a failure of `steps` alone; of every stage that reads files."""
CONTENTS = (*ROWS, *EMPTY, *SHORT, *REFUSED, *BROKEN)
Plain = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Code:
    """What the file of a stage says; `spelling` never changes a number."""

    offset: int = 0
    gain: int = 1
    spelling: int = 0


@dataclass(frozen=True)
class Numbers:
    """All that decides the rows of a stage."""

    stage: str
    gain: int
    offset: int
    above: Numbers | None = None


def text_of(stage: str, code: Code) -> str:
    template, source = STAGES[stage]
    return template.format(offset=code.offset, gain=code.gain, spelling=code.spelling, source=source)


def frames_of(content: int) -> Plain | None:
    """The frames in a clip of this content, None where it is no array."""
    if content in BROKEN:
        return None
    frames = [(10.0 * content + i, float(i - content)) for i in range(5 if content in (4, 5) else 3)]
    if content in EMPTY:
        frames = [(-1.0 - content, second) for _, second in frames]
    if content in REFUSED:
        frames[1] = (1000.0, 0.0)
    return tuple(frames[:1] if content in SHORT else frames)


def bytes_of(content: int) -> bytes:
    """The bytes of a clip's file; many contents are of one size."""
    frames, out = frames_of(content), io.BytesIO()
    if frames is None:
        return b"no array at all %02d" % content
    np.save(out, np.array(frames, np.float32))
    return out.getvalue()


def hash_of(content: int) -> str:
    return xxhash.xxh3_128_hexdigest(bytes_of(content))


def rows_of(numbers: Numbers, content: int) -> Plain | None:
    """The rows of a clip, None where it has none but a failure."""
    frames = rows_of(numbers.above, content) if numbers.above else frames_of(content)
    if frames is None:
        return None
    gain, offset = numbers.gain, numbers.offset
    if numbers.stage == "sums":
        frames = tuple((a[0] + b[0], a[1] + b[1]) for a, b in pairwise(frames))
    elif any(first == 1000 for first, _ in frames):
        return None
    else:
        frames = tuple(frame for frame in frames if frame[0] >= 0)
    return tuple((first * gain + offset, second * gain + offset) for first, second in frames)


def key_of(upstream: str, content: int) -> str:
    """What a row of a derived stage names in place of the content hash."""
    return xxhash.xxh3_128_hexdigest(f"{upstream}:{hash_of(content)}".encode())
