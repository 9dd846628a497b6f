"""What must not grow with a corpus, or only once a clip: looks at files, markers read, objects made. Counted, not timed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cache import index, publishing, shards
from pipeline.cache.index import Entry, Index, Shard
from pipeline.cache.publishing import DISPUTED, Finished
from pipeline.cache.shards import Failure, Row
from pipeline.cache.stage import Stage, configure
from pipeline.corpus import manifest, media
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.corpus.media import States
from pipeline.corpus.splits import crossing_duplicates
from pipeline.extraction import inputs
from pipeline.extraction.plan import plan
from pipeline.reports import printed
from pipeline.types import Sample, Split
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals

Signs = tuple[Home, Manifest, Stage]


@pytest.fixture
def signs(tmp_path: Path) -> Signs:
    """Thirty clips with published features, but for one that failed."""
    home, table = corpus(tmp_path, balanced())
    rows = signals(table)
    del rows["sign1/train2"]
    return home, table, publish(home, table, rows, failed={"sign1/train2": "it holds no frames"})


def counted(monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> Counter[str]:
    """How often a function is called from now on, under its name."""
    calls, act = Counter[str](), getattr(place, name)

    def counting(*arguments: Any, **options: Any) -> Any:
        calls[name] += 1
        return act(*arguments, **options)

    monkeypatch.setattr(place, name, counting)
    return calls


@pytest.mark.parametrize("command", ["plan", "extract"])
def test_a_run_with_nothing_to_do_looks_once_at_every_file(signs: Signs, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    home, table, _ = signs
    said(home, command, "signs")
    looks = counted(monkeypatch, inputs, "token_and_size")
    said(home, command, "signs", "resnet50")
    assert looks["token_and_size"] == len(table.samples)


def test_stages_of_the_same_media_look_at_it_together(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table, _ = signs
    looks = counted(monkeypatch, inputs, "token_and_size")
    plan(home, table, [configure(home, table, name) for name in ("resnet50", "holistic", "i3d")])
    assert looks["token_and_size"] == len(table.samples)


def test_planning_an_unchanged_corpus_reads_no_marker_and_makes_no_row(signs: Signs, monkeypatch: pytest.MonkeyPatch) -> None:
    home, table, stage = signs
    markers, rows = counted(monkeypatch, shards, "read_record"), counted(monkeypatch, Index, "entry")
    result = plan(home, table, [stage])["resnet50"]
    assert (len(result.fresh), len(result.failed), result.needs_work) == (29, 1, False)
    assert markers + rows == {}


def test_planning_reads_only_the_columns_that_it_compares(signs: Signs) -> None:
    home, table, stage = signs
    result = plan(home, table, [stage])["resnet50"]
    assert set(result.done.index.columns.known) == {"details", "stat", "ids"}  # type: ignore[attr-defined]


def test_a_planned_index_can_be_published_anew_meanwhile(signs: Signs) -> None:
    home, table, stage = signs
    done = plan(home, table, [stage])["resnet50"].done
    publishing.publish(home, stage, done, done.index, [])
    assert done.index.entry(3).row.length == int(index.read(next(stage.folder(home).glob("rows-*.npz"))).columns["length"][3])


ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 2), st.integers(0, 4), st.sampled_from("xy")),
    max_size=12,
    unique_by=lambda row: (row[0], row[2]),
)


def entries(rows: list[tuple[str, int, int, str]]) -> list[Entry]:
    """A row of each (clip, state, shard, content)."""
    made = [Row(clip, 10 * i, 1, 1, 25.0, content * 32, stat, 5, "decord", (1,), "") for i, (clip, stat, _, content) in enumerate(rows)]
    return [Entry(row, Shard(f"{shard}-x", None, "zarr")) for row, (_, _, shard, _) in zip(made, rows, strict=True)]


def table_of(clips: str) -> Manifest:
    samples = tuple(Sample(clip, {"rgb": (f"a/{clip}.mp4",)}, "a", "train", None) for clip in clips)
    return Manifest("any", Binding("folder", Path("/data"), "official", 0), ("a",), samples)


@given(ROWS, st.lists(st.integers(0, 2), min_size=3, max_size=3), st.integers(0, 12))
def test_many_clips_find_the_rows_that_each_would_find_alone(rows: list[tuple[str, int, int, str]], now: list[int], indexed: int) -> None:
    every, table = entries(rows), table_of("abc")
    held = {entry.row.id: entry for entry in every[:indexed]}  # an index holds a clip once
    done = Finished(index.build(list(held.values())), index.build([entry for entry in every if entry not in held.values()]))
    states = States(np.array(now, np.uint64), np.full(3, 5), np.array([True, True, False]))
    numbers = done.current(done.places(table), states).tolist()
    fitting = [[e for e in every if (e.row.id, e.row.stat) == (clip, stat)] for clip, stat in zip("ab", now[:2], strict=True)]
    disputed = [len({entry.row.content for entry in found}) > 1 for found in fitting]
    assert [number == DISPUTED for number in numbers] == [*disputed, False]
    whole = [found if found and not doubt else [] for found, doubt in zip(fitting, disputed, strict=True)]
    alone = [min(found, key=lambda entry: entry.shard.name) if found else None for found in whole]
    assert [done.rows.entry(number) if number >= 0 else None for number in numbers] == [*alone, None]
    assert [done.has(clip, stat) for clip, stat in zip("ab", now[:2], strict=True)] == list(map(bool, fitting))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", ""]), max_size=6))
def test_ids_in_any_order_find_their_clips(ids: list[str]) -> None:
    assert table_of("abc").places_of(ids).tolist() == ["abc".index(clip) if clip and clip in "abc" else -1 for clip in ids]
    assert table_of("abc").places_of([*"abc", *ids])[:3].tolist() == [0, 1, 2]


@given(ROWS, st.sets(st.integers(0, 11)))
def test_publishing_keeps_every_row_once(rows: list[tuple[str, int, int, str]], chosen: set[int]) -> None:
    every = index.build(entries(rows))
    bound = every.taken(np.array([number for number in sorted(chosen) if number < len(every)], np.int64))
    orphans = publishing._orphans(every, bound)
    assert sorted([*bound.text("ids"), *orphans.text("ids")], key=bool) == [*[""] * len(orphans), *bound.text("ids")]
    together = index.joined([bound, orphans])
    assert sorted(together.columns["content"].tolist()) == sorted(every.columns["content"].tolist())
    assert [together.entry(i).shard for i in range(len(bound))] == [bound.entry(i).shard for i in range(len(bound))]


def test_the_state_of_a_clip_is_the_same_among_many(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for name in ("one.mp4", "frames/1.png", "frames/2.png"):
        (tmp_path / name).write_text(name)
    files = {"file": ("one.mp4",), "folder": ("frames",), "gone": ("gone.mp4",), "tracks": ("one.mp4", "gone.mp4"), "none": ()}
    samples = tuple(Sample(clip, {"rgb": paths} if paths else {}, "a", "train", None) for clip, paths in files.items())
    table = Manifest("any", Binding("folder", tmp_path, "official", 0), ("a",), samples)
    states = inputs.inputs_of(Home(tmp_path), table, configure(Home(tmp_path), table, "resnet50"))
    expected = [media.stat_of(table.paths(sample, "rgb")) if sample.media else None for sample in samples]
    assert [states.of(place) for place in range(len(samples))] == expected
    assert len(states) == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["train", "val"])), max_size=12))
def test_duplicates_are_found_among_the_rows_that_repeat(clips: list[tuple[int, Split]]) -> None:
    made = [Row(f"c{i}", i, 1, 1, 25.0, f"{content:08x}" + 24 * "0", 0, 5, "", (), "") for i, (content, _) in enumerate(clips)]
    table = index.build([Entry(row, Shard("s", None, "zarr")) for row in made])
    samples = [Sample(f"c{i}", {}, None, split, None) for i, (_, split) in enumerate(clips)]
    whole = dict(zip(table.ids, table.columns["content"].tolist(), strict=True))
    assert crossing_duplicates(samples, printed._repeated(table)) == crossing_duplicates(samples, whole)


def test_a_manifest_is_written_again_for_any_change(tmp_path: Path) -> None:
    home, table = Home(tmp_path, tmp_path), table_of("abc")
    manifest.write(home, table)
    first, *others = table.samples
    changed = [
        replace(first, label="b"),
        replace(first, split="val"),
        replace(first, signer="s"),
        replace(first, media={"rgb": ("a/a.mp4",), "radar": ("x", "y")}),
        replace(first, media={}),
    ]
    for samples in [*([sample, *others] for sample in changed), others, [*table.samples, replace(first, id="d")], table.samples]:
        before = (tmp_path / "any.csv").stat().st_ino
        manifest.write(home, replace(table, samples=tuple(samples)))
        written = (tmp_path / "any.csv").stat().st_ino
        assert written != before
        manifest.write(home, replace(table, samples=tuple(samples)))
        assert (tmp_path / "any.csv").stat().st_ino == written


def test_a_clip_with_more_tracks_than_the_first_keeps_their_places(tmp_path: Path) -> None:
    home, table = Home(tmp_path, tmp_path), table_of("ab")
    media_of: dict[str, dict[str, tuple[str, ...]]] = {
        "a": {"rgb": ("1", "2"), "radar": ("3", "4")},
        "b": {"rgb": ("5", "6", "7"), "radar": ("8", "9")},
    }
    table = replace(table, samples=tuple(replace(sample, media=media_of[sample.id]) for sample in table.samples))
    manifest.write(home, table)
    assert manifest.read(home, "any") == table


def test_a_failure_of_the_last_publication_is_no_reason_to_publish_again(signs: Signs) -> None:
    home, table, stage = signs
    done = plan(home, table, [stage])["resnet50"].done
    assert set(done.index.failures) == {"sign1/train2"}
    publishing.publish(home, stage, done, done.index, [Failure("sign1/train2", "other", "", 1, "", 0, 0)])
    assert set(index.read(next(stage.folder(home).glob("rows-*.npz"))).failures) == {"sign1/train2"}
