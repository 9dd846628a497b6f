"""A corpus of toys with its cache, all that a user may do to them, and what is known of them without the engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests import toys, warm
from tests.checkout import ROOT, Checkout
from tests.toys import Code, Numbers, Plain

FIRST_NS = 1_700_000_000 * 10**9
Words = Sequence[object]


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    status: int
    out: str
    err: str


class Workshop:
    """A checkout with toy stages, and the warm process that runs its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in ("pipeline", "stages", "models"):
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(warm.__file__, folder / "warm.py")
        (folder / "pipeline/datasets/toys.py").write_text(toys.DATASET)
        Checkout(folder).edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 3")
        subprocess.run([sys.executable, "-m", "compileall", "-q", "pipeline"], cwd=folder, check=True)
        environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", "import warm; warm.serve()"]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, **pipes)

    def ask(self, words: Words, events: Sequence[dict[str, Any]] = ()) -> Answer:
        """The answer of a command; whatever it was asked, it ends in a way that a user understands."""
        assert self.process.stdin
        assert self.process.stdout
        print(json.dumps({"words": [str(word) for word in words], "events": list(events)}), file=self.process.stdin, flush=True)
        answer = Answer(**json.loads(self.process.stdout.readline()))
        assert "Traceback" not in answer.err, f"{words} {events}\n{answer.err}"
        assert answer.status in (0, 1, 2) or (events and answer.status == -9), f"{words} {events}: {answer}"
        if answer.status == 2:
            assert len([line for line in answer.err.splitlines() if line.startswith("signcache: ")]) == 1, answer.err
        return answer

    def write(self, stage: str, code: Code) -> None:
        self.file(stage).write_text(toys.text_of(stage, code))

    def file(self, stage: str) -> Path:
        return self.folder / "stages" / f"{stage}.py"

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


@dataclass
class World:
    """The files of one history of events, in a new folder; `clips` are {id: (content, mtime)} of those that are there."""

    workshop: Workshop
    folder: Path
    clips: dict[str, tuple[int, int]] = field(default_factory=dict)
    attic: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Clips that were taken away, to come back as they were."""
    held: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    """(id, size, mtime) -> the contents that it had, one after the other: more than one where bytes changed secretly."""
    code: dict[str, Code] = field(default_factory=lambda: {stage: Code() for stage in toys.STAGES})
    numbers: dict[str, Numbers] = field(default_factory=dict)
    """What every digest seen so far stands for."""
    tick: int = 0

    def __post_init__(self) -> None:
        (self.folder / "clips").mkdir(parents=True)
        for stage, code in self.code.items():
            self.workshop.write(stage, code)

    @cached_property
    def places(self) -> list[object]:
        return ["--cache", self.folder / "cache", "--manifests", self.folder / "manifests"]

    def command(self, *words: object, events: Sequence[dict[str, Any]] = ()) -> Answer:
        return self.workshop.ask([*self.places, *words], events)

    def ask(self, word: str, *words: str) -> Answer:
        """What only Python can be asked of this cache."""
        return self.workshop.ask([word, *self.places[1::2], "toys", *words])

    def path(self, clip: str) -> Path:
        return self.folder / "clips" / f"{clip}.npy"

    def now(self) -> int:
        self.tick += 1
        return FIRST_NS + self.tick * 10**9

    def put(self, clip: str, content: int, mtime: int | None = None) -> None:
        """The file of a clip with these bytes; with an `mtime` of its own, as a backup or a copy leaves it."""
        path = self.path(clip)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(toys.bytes_of(content))
        self.settle(clip, content, self.now() if mtime is None else mtime)

    def settle(self, clip: str, content: int, mtime: int) -> None:
        """From now on the clip, whose file is in place, is of this state."""
        os.utime(self.path(clip), ns=(mtime, mtime))
        self.clips[clip] = (content, mtime)
        known = self.held.setdefault(self.state(clip), [])
        if known[-1:] != [content]:
            known.append(content)

    def state(self, clip: str) -> tuple[str, int, int]:
        content, mtime = self.clips[clip]
        return clip, len(toys.bytes_of(content)), mtime

    def take(self, clip: str) -> tuple[int, int]:
        self.path(clip).unlink()
        return self.clips.pop(clip)

    def described(self, *words: str) -> dict[str, str]:
        """{stage: digest} of what `extract NAME WORDS` runs; what each digest stands for is known from then on."""
        answer = self.ask("described", *words)
        assert answer.status == 0, answer.err
        found: dict[str, tuple[str, int]] = {stage: tuple(said) for stage, said in json.loads(answer.out).items()}
        for stage, (digest, gain) in found.items():
            above = self.numbers[found[toys.UPSTREAM[stage]][0]] if stage in toys.UPSTREAM else None
            numbers = Numbers(stage, gain, self.code[stage].offset, above)
            assert self.numbers.setdefault(digest, numbers) == numbers, f"{digest} stands for other rows than before"
        return {stage: digest for stage, (digest, _) in found.items()}

    def rows(self, digest: str, content: int) -> Plain | None:
        return toys.rows_of(self.numbers[digest], content)

    def contents(self, digest: str) -> Iterator[tuple[str, int]]:
        """(content hash of a row, content of its clip), as rows of this digest may name it."""
        above = self.numbers[digest].above
        for content in toys.CONTENTS:
            if above is None:
                yield toys.hash_of(content), content
            else:
                for upstream in (key for key, numbers in self.numbers.items() if numbers == above):
                    yield toys.key_of(upstream, content), content

    def edit(self, stage: str, code: Code) -> None:
        self.workshop.write(stage, code)
        self.code[stage] = code
        if self.is_bound:
            self.described(*toys.STAGES)

    @property
    def is_bound(self) -> bool:
        return (self.folder / "manifests/toys.json").exists()
