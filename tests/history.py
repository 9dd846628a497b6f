"""All events of a world of toys: besides extractions, what reads the cache and what looks after it."""

from __future__ import annotations

import json
from pathlib import Path

from tests import toys
from tests.extractions import Extractions
from tests.world import Answer


class History(Extractions):
    """A world, its cache, and what is known of both by what has happened so far."""

    def read(self, stage: str) -> None:
        """What a training opens is of what the clips hold now, or it is refused in one line."""
        digest = self.described(*toys.STAGES)[stage]
        answer = self.world.ask("opened", stage)
        is_whole = self.is_whole(stage, digest)
        assert not is_whole or answer.status == 0, answer.err
        if answer.status == 0:
            found, _ = json.loads(answer.out)
            assert self.cache.digest(stage) == digest
            assert not is_whole or found.keys() == (self.cache.published(stage) or {}).keys()
            for clip in found.keys() & self.world.clips.keys():
                rows, possible = tuple(map(tuple, found[clip])), self.possible(digest, clip)
                assert rows in possible, f"{stage}: a training reads {rows} of {clip}, not one of {possible}"

    def verify(self) -> None:
        answer = self.world.command("verify", "toys")
        assert answer.status == 0 or (answer.status == 2 and not self.cache.finished().rows), answer

    def compact(self, stage: str, at: int | None) -> None:
        """Packing, killed or not, loses nothing but rows that no clip has."""
        before, rows, digest = self.cache.finished(), self.cache.published(stage), self.cache.digest(stage)
        used = self.cache.published_contents(stage)
        self._run("compact", "toys", stage, at=at)
        after = self.cache.finished()
        self.nothing_is_lost(before, after, {digest})
        assert self.cache.published(stage) == rows
        assert before.contents(digest) & used <= after.contents(digest)
        assert before.failures.get(digest, {}).keys() <= after.failures.get(digest, {}).keys()

    def adopt(self, stage: str, at: int | None) -> None:
        """Published rows become today's where today's code gives the same numbers."""
        now, digest = self.described(*toys.STAGES)[stage], self.cache.digest(stage)
        if not digest or self.world.numbers[digest] != self.world.numbers[now]:
            return
        before, rows = self.cache.finished(), self.cache.published(stage) or {}
        answer = self._run("adopt", "toys", stage, "--sample", 100, at=at)
        self.nothing_is_lost(before, self.cache.finished(), set())
        after = self.cache.published(stage) or {}
        assert after.items() <= rows.items()
        if answer.status == 0:
            assert self.cache.digest(stage) == now
        else:
            assert after == rows or answer.status < 0

    def adopt_other_numbers(self, stage: str) -> None:
        """An edit that changes numbers is found out by a sample, and nothing changes."""
        now = self.described(*toys.STAGES)
        links = [stage, toys.UPSTREAM.get(stage, stage)]
        if all(self.is_whole(link, now[link]) for link in links) and any((self.cache.published(stage) or {}).values()):
            self.world.edit(stage, toys.Code(1 - self.world.code[stage].offset, self.world.code[stage].gain))
            before = self.cache.files()
            assert self.world.command("adopt", "toys", stage, "--sample", 100).status == 2
            assert self.cache.files() == before

    def collect_garbage(self, at: int | None) -> None:
        """What is published, and what the next extraction goes on with, stays."""
        kept = {*map(self.cache.digest, toys.STAGES), *self.described(*toys.STAGES).values()}
        before = self.cache.finished()
        self._run("gc", "toys", "--yes", at=at)
        self.nothing_is_lost(before, self.cache.finished(), before.rows.keys() - kept)

    def collect_garbage_beside_a_broken_stage(self, stage: str) -> None:
        """Nobody knows then what the next extraction goes on with."""
        self.described(*toys.STAGES)
        before = self.cache.finished()
        self.world.workshop.file(stage).write_text("def broken(:")
        assert self.world.command("plan", "toys", stage).status == 2
        self._run("gc", "toys", stage, "--yes", at=None)
        self.world.workshop.write(stage, self.world.code[stage])
        self.nothing_is_lost(before, self.cache.finished(), set())

    def drop(self, stage: str, at: int | None) -> None:
        """Features of one stage go, with its settings, and nothing else."""
        before = self.cache.finished()
        answer = self._run("drop", "toys", stage, "--yes", at=at)
        after = self.cache.finished()
        own = {digest for digest in before.rows if self.world.numbers[digest].stage == stage}
        self.nothing_is_lost(before, after, own)
        self.complete.pop(stage, None)
        self.given[stage].add("")
        if answer.status == 0:
            self.given[stage] = {""}
            assert not own & after.rows.keys()
            assert self.cache.published(stage) is None

    def damage(self, stage: str, number: int) -> None:
        """Damage that matters is found, the file set aside, and what it held is made again."""
        digest, rows = self.cache.digest(stage), self.cache.published(stage)
        if not digest or not self.world.clips:
            return
        file = self._file(stage, digest, number)
        content = bytearray(file.read_bytes())
        content[number * len(content) // 60] ^= 0xFF
        file.write_bytes(content)
        if self.world.command("verify", "toys", stage).status == 0:
            assert self.cache.published(stage) == rows
            return  # of no shard, or where nobody looks: the headers of an archive say some things twice
        assert self.world.command("verify", "toys", stage, "--mend").status == 0
        self.complete.pop(stage, None)
        self.extract([stage])
        self.verify()

    def _file(self, stage: str, digest: str, number: int) -> Path:
        """One of those that a stage's published features consist of."""
        place = self.cache.home.cache / "toys" / stage
        inside = (path for path in (place / digest).rglob("*") if path.is_file() and "damaged" not in path.parts)
        files = sorted([place / "published.json", *(path for path in inside if not path.name.startswith("."))])
        return files[number % len(files)]

    def _run(self, *words: object, at: int | None) -> Answer:
        """A command, killed before its change number `at` to the disk where that is given."""
        return self.world.command(*words, events=[] if at is None else [{"at": at}])
