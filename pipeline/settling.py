"""The look at media that a plan leaves out: renamed and touched clips are found again by their content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from pipeline.index import Entry
from pipeline.inputs import derived_content
from pipeline.manifest import Manifest
from pipeline.media import content_of
from pipeline.plan import CHANGED, FAILED_BEFORE, StagePlan, Todo


def settle(result: StagePlan, table: Manifest, *, rehash: bool = False) -> StagePlan:
    """The plan with renamed and touched clips found by content; media are read only of clips whose size was extracted before.

    `rehash` reads every fresh clip again and turns those whose bytes changed under an unchanged stat into work.
    """
    suspects = [todo for todo in result.todo if todo.reason != FAILED_BEFORE and todo.stat.size in result.done.rows.sizes]
    again = list(_fresh_as_changed(result, table)) if rehash and not result.stage.is_imported else []
    contents = _contents(result, table, [*suspects, *again])
    changed = [item for item in again if contents[item.sample.id] != _recorded(result, table, item.sample.id)]
    fresh, todo, matches = list(result.fresh), list(changed), {}
    if changed:
        ids = {item.sample.id for item in changed}
        fresh = [clip for clip in fresh if clip not in ids]
    for item in result.todo:
        content = contents.get(item.sample.id, "")
        entry = result.done.by_content(content) if content else None
        if entry is None:
            todo.append(item)
        else:
            fresh.append(item.sample.id)
            row = replace(entry.row, id=item.sample.id, stat=item.stat.token, size=item.stat.size)
            matches[item.sample.id] = Entry(row, entry.shard)
    return replace(result, fresh=fresh, todo=todo, found=matches)


def _fresh_as_changed(result: StagePlan, table: Manifest) -> Iterator[Todo]:
    for clip in result.fresh:
        stat = result.states.of(table.places[clip])
        if stat:
            yield Todo(table.samples[table.places[clip]], CHANGED, stat)


def _recorded(result: StagePlan, table: Manifest, clip: str) -> str:
    """The content hash that a fresh clip's row was made from."""
    content: bytes = result.done.rows.columns["content"][result.numbers[table.places[clip]]]
    return content.decode()


def _contents(result: StagePlan, table: Manifest, items: Sequence[Todo]) -> dict[str, str]:
    """`{clip: content hash}` of what these clips' inputs hold now."""
    source = result.stage.extractor.source
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda todo: _content(result, todo, table.paths(todo.sample, source)), items)
        return {todo.sample.id: content for todo, content in zip(items, found, strict=True)}


def _content(result: StagePlan, todo: Todo, paths: Sequence[Path]) -> str:
    upstream = result.stage.upstream
    if upstream is None:
        return content_of(paths)
    return derived_content(upstream, result.inputs[todo.sample.id]) if todo.sample.id in result.inputs else ""
