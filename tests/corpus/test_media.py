"""The state of files: what tells that they changed, and the hash of what they hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.media import content_of, stat_of


def files(folder: Path, *contents: bytes) -> list[Path]:
    folder.mkdir(exist_ok=True)
    paths = [folder / str(place) for place in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def test_a_content_hash_is_of_the_bytes_and_not_of_the_name(tmp_path: Path) -> None:
    one, two = files(tmp_path / "a", b"same")[0], files(tmp_path / "b", b"same", b"other")
    assert content_of([one]) == content_of(two[:1])
    assert content_of([one]) != content_of(two[1:])
    assert len(content_of([one])) == len(content_of(two)) == 32


def test_the_order_of_tracks_counts(tmp_path: Path) -> None:
    one, two = files(tmp_path, b"one", b"two")
    assert len({content_of(paths) for paths in ([one, two], [two, one], [one], [one, one])}) == 4


def test_bytes_cannot_move_from_one_track_to_the_next(tmp_path: Path) -> None:
    assert content_of(files(tmp_path / "a", b"ab", b"c")) != content_of(files(tmp_path / "b", b"a", b"bc"))


def test_files_larger_than_a_read_count_to_their_end(tmp_path: Path) -> None:
    long = bytes(3 << 20)
    assert content_of(files(tmp_path / "a", long)) != content_of(files(tmp_path / "b", long[:-1] + b"x"))


def test_a_file_that_cannot_be_read_has_no_content(tmp_path: Path) -> None:
    assert content_of([tmp_path / "gone"]) == content_of([tmp_path]) == ""
    assert content_of([*files(tmp_path, b"x"), tmp_path / "gone"]) == ""


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 2**40)), min_size=1, max_size=4))
def test_a_stat_tells_any_change_of_size_or_time(tmp_path_factory: pytest.TempPathFactory, states: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.getbasetemp() / "stats"
    paths = files(folder, *(bytes(size) for size, _ in states))
    for path, (_, nanoseconds) in zip(paths, states, strict=True):
        os.utime(path, ns=(0, nanoseconds))
    before = stat_of(paths)
    assert before == stat_of(paths)
    assert before.size == sum(size for size, _ in states)
    os.utime(paths[-1], ns=(0, states[-1][1] + 1))
    assert stat_of(paths).token != before.token
    paths[-1].write_bytes(b"x" * 60)
    os.utime(paths[-1], ns=(0, states[-1][1]))
    assert stat_of(paths).token != before.token
    paths[-1].unlink()
    assert stat_of(paths).token != before.token
