"""What happens to the files and stages of a world of toys, its extractions, and what must hold after each."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import toys
from tests.toy_cache import Finished, ToyCache
from tests.toys import Code, Plain
from tests.world import Answer, Workshop, World


class Extractions:
    """A world, its cache, and what is known of both by what has happened so far."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self.world = World(workshop, folder)
        self.cache = ToyCache(self.world)
        self.splits: dict[str, str] = {}
        self.given: dict[str, set[str]] = {stage: {""} for stage in toys.STAGES}
        """What `--set gain=` may have been kept of each stage: one value, unless a command was killed."""
        self.since: dict[tuple[str, tuple[str, int, int]], int] = {}
        """(digest, state of a clip) -> the first of the contents held in it that `--rehash` has not overruled."""
        self.complete: dict[str, tuple[str, dict[str, tuple[int, int]]]] = {}
        """The digest and the clips when a stage was last extracted as a whole."""

    def check(self) -> None:
        """What always holds: rows are right for what they were made from, and a clip that was listed once keeps its split."""
        self.cache.finished()
        for stage in toys.STAGES:
            self.cache.published(stage)
        for clip, split in self.cache.splits():
            assert self.splits.setdefault(clip, split) == split, f"{clip} was in {self.splits[clip]} and is now in {split}"

    def bind(self) -> None:
        self.world.command("manifest", "toys", "--corpus", "toys", "--root", self.world.folder / "clips")
        self.world.described(*toys.STAGES)

    def clip(self, number: int) -> str | None:
        known = sorted(self.world.clips)
        return known[number % len(known)] if known else None

    def put(self, clip: str, content: int) -> None:
        """A new clip, or other bytes for one."""
        self.world.put(clip, content)

    def change_secretly(self, number: int, other: int) -> None:
        """Other bytes of the same size under the same time."""
        clip = self.clip(number)
        if clip:
            content, mtime = self.world.clips[clip]
            alike = [each for each in toys.CONTENTS if len(toys.bytes_of(each)) == len(toys.bytes_of(content)) and each != content]
            for each in alike[other % len(alike) :][:1] if alike else ():
                self.world.put(clip, each, mtime)

    def swap(self, number: int, other: int) -> None:
        a, b = self.clip(number), self.clip(other)
        if a and b and a != b:
            held = self.world.path(a).with_suffix(".held")
            os.rename(self.world.path(a), held)
            os.rename(self.world.path(b), self.world.path(a))
            os.rename(held, self.world.path(b))
            before = dict(self.world.clips)
            self.world.settle(a, *before[b])
            self.world.settle(b, *before[a])

    def rename(self, number: int, name: str) -> None:
        clip = self.clip(number)
        if clip and name not in self.world.clips:
            self.world.path(name).parent.mkdir(exist_ok=True)
            os.rename(self.world.path(clip), self.world.path(name))
            self.world.settle(name, *self.world.clips.pop(clip))

    def touch(self, number: int) -> None:
        clip = self.clip(number)
        if clip:
            self.world.settle(clip, self.world.clips[clip][0], self.world.now())

    def remove(self, number: int) -> None:
        clip = self.clip(number)
        if clip:
            self.world.attic[clip] = self.world.take(clip)

    def bring_back(self, number: int, as_it_was: bool) -> None:
        if self.world.attic:
            clip = sorted(self.world.attic)[number % len(self.world.attic)]
            content, mtime = self.world.attic.pop(clip)
            self.world.put(clip, content, mtime if as_it_was else None)

    def miss_a_class(self, label: str, meanwhile: bool) -> None:
        """Half of the clips are not there for one command."""
        away = {clip: self.world.take(clip) for clip in [*self.world.clips] if clip.startswith(label)}
        self.extract(("steps",)) if meanwhile else self.list_clips()
        self.complete.clear()
        for clip, (content, mtime) in away.items():
            self.world.put(clip, content, mtime)

    def edit(self, stage: str, code: Code) -> None:
        self.world.edit(stage, code)

    def list_clips(self) -> None:
        self.world.command("manifest", "toys")

    def extract_without_the_disk(self) -> None:
        """The disk of the clips is not there for one command."""
        root, away = self.world.folder / "clips", self.world.folder / "away"
        before = self.cache.files()
        os.rename(root, away)
        try:
            assert self.world.command("extract", "toys").status == 2
        finally:
            os.rename(away, root)
        assert self.cache.files() == before

    def extract(
        self, names: Sequence[str], options: Sequence[object] = (), *, events: Sequence[dict[str, Any]] = (), changing: str = ""
    ) -> Answer:
        """Extract, and see that it does what is to be done and nothing else; the clip that is `changing` meanwhile may be of any state."""
        words = [*names, *map(str, options)]
        if not self.world.clips:
            assert self.world.command("extract", "toys", *words).status == 2
            return Answer(2, "", "")
        self.list_clips()
        sets = [word for word in words if word.startswith("gain=")]
        digests = self.described(*names, *sets)
        before = self.cache.finished()
        answer = self.world.command("extract", "toys", *words, "--json", events=events)
        made = self._made(before, words, digests, changing)
        for word in sets:
            self.given[names[0]].add(word.removeprefix("gain="))
        if not events:
            assert answer.status != 2, answer.err
            assert json.loads(answer.out)["extracted"] == {stage: rows for stage, (rows, _) in made.items() if rows}
            assert answer.status == any(failures for _, failures in made.values()), answer
            if not {"--limit", "--only"} & set(words):
                for word in sets:
                    self.given[names[0]] = {word.removeprefix("gain=")}
                self._check_rows(digests, words)
        return answer

    def described(self, *words: str) -> dict[str, str]:
        digests = self.world.described(*words)
        sets = {word.removeprefix("gain=") for word in words if word.startswith("gain=")}
        asked = {words[0]: sets} if sets else {}
        for stage, digest in digests.items():
            gains = {int(gain or self.world.code[stage].gain) for gain in asked.get(stage, self.given[stage])}
            assert self.world.numbers[digest].gain in gains, f"{stage} has another gain than was set: {gains}"
        return digests

    def _made(self, before: Finished, words: Sequence[str], digests: dict[str, str], changing: str) -> dict[str, tuple[int, int]]:
        """{stage: (clips extracted, clips failed)}: none whose rows or failure in this state were known."""
        after, limit = self.cache.finished(), int(words[words.index("--limit") + 1]) if "--limit" in words else 10**6
        self.nothing_is_lost(before, after, set())
        found = {}
        for digest in after.rows:
            made = after.rows[digest] - before.rows.get(digest, set())
            failed = after.failures[digest] - before.failures.get(digest, Counter())
            assert digest in digests.values() or not (made or failed), f"{digest} was not asked for"
            tried = [*((each.clip, each.stat) for each in made), *failed.elements()]
            assert len(tried) == len(set(tried)) <= limit, f"{digest}: {tried}"
            if "--only" in words:
                assert {clip for clip, _ in tried} <= {words[words.index("--only") + 1]}
            if "--rehash" not in words:
                again = {each.content for each in made if each.clip != changing} & before.contents(digest)
                assert not again, f"{digest}: {[each for each in made if each.content in again]} were there already"
            if "--retry-failed" not in words:
                known = [each for each in tried if each in before.failures.get(digest, ()) and each[0] != changing]
                assert not known, f"{digest}: {known} had failed in this state"
            found[digest] = len(made), failed.total()
        return {stage: found.get(digest, (0, 0)) for stage, digest in digests.items()}

    def nothing_is_lost(self, before: Finished, after: Finished, but: set[str]) -> None:
        """Finished rows and recorded failures stay, but of some digests."""
        for digest in before.rows.keys() - but:
            lost = before.contents(digest) - after.contents(digest)
            assert not lost, f"{digest} lost the rows of {[each for each in before.rows[digest] if each.content in lost]}"
            forgotten = before.failures[digest].keys() - after.failures.get(digest, {}).keys()
            assert not forgotten, f"{digest} lost the failures of {forgotten}"

    def _check_rows(self, digests: dict[str, str], words: Sequence[str]) -> None:
        """Every clip of these stages is published with the rows of what it holds now, or failed."""
        for stage, digest in digests.items():
            for clip in self.world.clips if "--rehash" in words else ():
                self.since[digest, self.world.state(clip)] = len(self.world.held[self.world.state(clip)]) - 1
            assert self.cache.digest(stage) == digest
            rows = self.cache.published(stage) or {}
            assert rows.keys() <= self.world.clips.keys(), f"{stage}: {rows.keys() - self.world.clips.keys()} are gone"
            for clip in self.world.clips:
                possible = self.possible(digest, clip)
                assert rows.get(clip) in possible, f"{stage}: {clip} is published as {rows.get(clip)}, not as one of {possible}"
            self.complete[stage] = digest, dict(self.world.clips)

    def possible(self, digest: str, clip: str) -> list[Plain | None]:
        """The rows that a clip may have: those of what it holds, or of what it held before it was secretly changed."""
        state = self.world.state(clip)
        held, first = self.world.held[state], self.since.get((digest, state), 0)
        failed = [None] if any(self.world.rows(digest, content) is None for content in held) else []
        return [*(self.world.rows(digest, content) for content in held[first:]), *failed]

    def is_whole(self, stage: str, digest: str) -> bool:
        """Whether a stage of this identity was extracted as a whole, and no clip has changed since."""
        return self.complete.get(stage) == (digest, self.world.clips)

    def extract_one(self, names: Sequence[str], number: int) -> None:
        clip = self.clip(number)
        if clip:
            self.extract(names, ["--only", clip])

    def kill_an_extraction(self, names: Sequence[str], at: int) -> None:
        self.extract(names, events=[{"at": at}])

    def extract_twice(self, names: Sequence[str]) -> None:
        """The second time there is nothing to do, and nothing is written."""
        if self.extract(names).status == 2:
            return
        before = self.cache.files()
        assert json.loads(self.world.command("extract", "toys", *names, "--json").out)["extracted"] == {}
        assert self.cache.files() == before

    def edit_meanwhile(self, names: Sequence[str], stage: str, at: int, code: Code, back: int | None) -> None:
        """A stage's file is edited while an extraction runs, and perhaps put back."""
        file, old = self.world.workshop.file(stage), self.world.code[stage]
        events = [self._written(at, file, toys.text_of(stage, code).encode())]
        events += [self._written(at + back, file, toys.text_of(stage, old).encode())] if back else []
        self.extract(names, events=events)
        self.world.code[stage] = next(each for each in (old, code) if file.read_text() == toys.text_of(stage, each))
        if self.world.clips:
            self.world.described(*toys.STAGES)

    def put_meanwhile(self, names: Sequence[str], number: int, content: int, at: int) -> None:
        """A clip gets other bytes while an extraction runs."""
        clip = self.clip(number)
        if clip:
            event = self._written(at, self.world.path(clip), toys.bytes_of(content))
            self.extract(names, events=[event], changing=clip)
            if self.world.path(clip).stat().st_mtime_ns == event["mtime"]:
                self.world.settle(clip, content, event["mtime"])

    def _written(self, at: int, file: Path, content: bytes) -> dict[str, Any]:
        return {"at": at, "file": str(file), "bytes": content.hex(), "mtime": self.world.now()}
