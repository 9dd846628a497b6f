"""The look at media that a plan leaves out: renamed and touched clips are found again by their content."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Lock

from pipeline.cache.index import Entry
from pipeline.cache.publishing import DISPUTED
from pipeline.corpus.manifest import Manifest
from pipeline.corpus.media import content_of, hashed, stat_of
from pipeline.extraction.inputs import derived_content
from pipeline.extraction.plan import CHANGED, FAILED_BEFORE, StagePlan, Todo
from pipeline.extraction.preparing.whole_files import leave_digest


class Digests:
    """The hash of a track, read once however many clips are parts of it, by the thread that asks first."""

    def __init__(self) -> None:
        self.found: dict[tuple[Path, int], Future[str]] = {}
        """`{(track, state): hash}`"""
        self.lock = Lock()

    def __call__(self, file: Path) -> str:
        """Raises OSError."""
        key = file, stat_of([file]).token
        with self.lock:
            is_first = key not in self.found
            future = self.found.setdefault(key, Future())
        if is_first:
            try:
                future.set_result(hashed([file], lambda: None))
            except OSError as error:
                future.set_exception(error)
        return future.result()

    def leave(self, spool: Path) -> None:
        """Tell decode processes what was read here."""
        for (file, token), future in self.found.items():
            if future.done() and not future.exception():
                leave_digest(spool, file, token, future.result())


def settle(
    result: StagePlan, table: Manifest, digests: Digests | None = None, *, rehash: bool = False, retry_failed: bool = False
) -> StagePlan:
    """The plan with renamed and touched clips found by content; media are read only of clips whose size was extracted before.

    `rehash` reads every fresh clip again and turns those whose bytes changed under an unchanged stat into work. `digests` know the long
    files that were read already, and those that are read now.
    """
    suspects = [todo for todo in result.todo if todo.reason != FAILED_BEFORE and todo.stat.size in result.done.rows.sizes]
    again = list(_as_changed(result, table, result.fresh)) if rehash and not result.stage.is_imported else []
    contents = _contents(result, table, [*suspects, *again], digests)
    changed = [item for item in again if contents[item.sample.id] != _recorded(result, table, item.sample.id)]
    return _found(_doubted(result, table, changed), contents, retry_failed=retry_failed)


def settle_disputes(result: StagePlan, table: Manifest, doubted: Iterable[str] = ()) -> StagePlan:
    """The same of those clips alone whose state tells several contents, and of the `doubted` ones."""
    changed = list(_as_changed(result, table, (clip for clip in doubted if result.numbers[table.places[clip]] >= 0)))
    disputed = [todo for todo in result.todo if result.numbers[table.places[todo.sample.id]] == DISPUTED]
    return _found(_doubted(result, table, changed), _contents(result, table, [*disputed, *changed]))


def _as_changed(result: StagePlan, table: Manifest, clips: Iterable[str]) -> Iterator[Todo]:
    for clip in clips:
        stat = result.states.of(table.places[clip])
        if stat:
            yield Todo(table.samples[table.places[clip]], CHANGED, stat)


def _doubted(result: StagePlan, table: Manifest, changed: Sequence[Todo]) -> StagePlan:
    """The plan with these fresh clips to do."""
    ids, numbers = frozenset(item.sample.id for item in changed), result.numbers.copy()
    numbers[[table.places[clip] for clip in ids]] = DISPUTED
    fresh = [clip for clip in result.fresh if clip not in ids] if ids else result.fresh
    return replace(result, numbers=numbers, fresh=fresh, todo=[*changed, *result.todo], changed=ids)


def _found(result: StagePlan, contents: Mapping[str, str], *, retry_failed: bool = False) -> StagePlan:
    """The plan with every clip of known content that has a row or a failure of that content."""
    fresh, todo, failed, matches = list(result.fresh), list[Todo](), list(result.failed), dict(result.found)
    for item in result.todo:
        clip, content = item.sample.id, contents.get(item.sample.id, "")
        entry = result.done.by_content(content) if content else None
        failure = result.done.failure(clip, item.stat.token, content) if clip in contents and not retry_failed else None
        if entry:
            fresh.append(clip)
            matches[clip] = Entry(replace(entry.row, id=clip, stat=item.stat.token, size=item.stat.size), entry.shard)
        elif failure:
            failed.append(failure)
        else:
            todo.append(item)
    return replace(result, fresh=fresh, todo=todo, failed=failed, found=matches)


def _recorded(result: StagePlan, table: Manifest, clip: str) -> str:
    """The content hash that a fresh clip's row was made from."""
    content: bytes = result.done.rows.columns["content"][result.numbers[table.places[clip]]]
    return content.decode()


def _contents(result: StagePlan, table: Manifest, items: Sequence[Todo], digests: Digests | None = None) -> dict[str, str]:
    """`{clip: content hash}` of what these clips' inputs hold now."""
    source = result.stage.extractor.source
    with ThreadPoolExecutor() as pool:
        whole = digests or Digests()
        found = pool.map(lambda todo: _content(result, todo, table.paths(todo.sample, source), whole), items)
        return {todo.sample.id: content for todo, content in zip(items, found, strict=True)}


def _content(result: StagePlan, todo: Todo, paths: Sequence[Path], whole: Callable[[Path], str]) -> str:
    upstream = result.stage.upstream
    if upstream is None:
        return content_of(paths, whole)
    return derived_content(upstream, result.inputs[todo.sample.id]) if todo.sample.id in result.inputs else ""
