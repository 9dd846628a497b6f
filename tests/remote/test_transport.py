"""Pushing and pulling over a folder and over a bucket whose line fails: interrupted, twice at once, under other names."""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import objects
from pipeline.cache.publishing import opened
from pipeline.cache.stage import configure
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.corpus.media import content_of
from pipeline.extraction.progress import Progress
from pipeline.objects.folder import Folder
from pipeline.remote import pull as pulling
from pipeline.remote.push import push
from pipeline.remote.signing import key
from tests.commands import run, said
from tests.feature_cache import publish
from tests.remote.conftest import Mine
from tests.s3_server import Line


@pytest.fixture(params=["folder", "bucket", "bad line"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "remote")
    line = request.getfixturevalue("line")
    if request.param == "bad line":
        slow = itertools.cycle(["", "refuse", "", "cut", "", "lose the answer", "", "drop", "", "double", ""])
        line.faults.extend(itertools.islice(slow, 400))
    return "s3://lab/features"


def same_rows(mine: Mine, yours: Home) -> bool:
    """Whether every row that `yours` reads is, byte for byte, that of the clip of `mine` with the same content."""
    there = opened(mine[0], "signs", "resnet50")
    by_content = {there.content(clip): there[clip].tobytes() for clip in there}
    here = opened(yours, "ours", "resnet50")
    return len(here) == 30 and all(here[clip].tobytes() == by_content[here.content(clip)] for clip in here)


def test_what_a_colleague_extracted_is_taken_under_any_name(mine: Mine, yours: Home, remote: str) -> None:
    assert "signs/resnet50: 30 clips in 6 shards pushed" in said(mine[0], "push", "signs", "resnet50", remote)
    assert "resnet50: 30 clips in 6 shards taken" in said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert same_rows(mine, yours)
    assert "all whole" in said(yours, "verify")
    again = said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert "resnet50: nothing taken" in again
    assert json.loads(said(yours, "plan", "ours", "resnet50", "--json").splitlines()[-1])["stages"]["resnet50"]["todo"] == 3
    assert "0 clips in 0 shards pushed, 0 B; the rows of 6 shards are there already" in said(yours, "push", "ours", "resnet50", remote)


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_an_interrupted_push_goes_on(mine: Mine, yours: Home, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = itertools.count()
    send = Folder.send

    def dying(self: Folder, file: Path, name: str) -> None:
        if next(sent) == 5:
            raise KeyboardInterrupt
        send(self, file, name)

    monkeypatch.setattr(Folder, "send", dying)
    assert run(mine[0], "push", "signs", "resnet50", remote).exit_code == 130
    monkeypatch.setattr(Folder, "send", send)
    done = said(mine[0], "push", "signs", "resnet50", remote)
    assert "20 clips in 4 shards pushed" in done
    assert "the rows of 2 shards are there already" in done
    said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert same_rows(mine, yours)


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_an_interrupted_pull_fetches_nothing_twice(mine: Mine, yours: Home, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said(mine[0], "push", "signs", "resnet50", remote)
    landed = itertools.count()
    land = pulling._land

    def dying(*arguments: object) -> None:
        if next(landed) == 2:
            raise KeyboardInterrupt
        land(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pulling, "_land", dying)
    assert run(yours, "pull", "ours", "resnet50", remote, "--trust").exit_code == 130
    monkeypatch.setattr(pulling, "_land", land)
    shutil.rmtree(Path(remote) / "shards")
    assert "20 clips in 4 shards taken" in said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert same_rows(mine, yours)


def test_two_who_push_at_once_do_no_harm(mine: Mine, yours: Home, remote: str) -> None:
    table = manifest.read(yours, "ours")
    there = opened(mine[0], "signs", "resnet50")
    rows = {there.content(clip): there[clip] for clip in there}
    contents = {s.id: content_of(table.paths(s, "rgb")) for s in table.samples}
    publish(yours, table, {clip: rows[content] for clip, content in contents.items() if content in rows}, shard_clips=7)
    theirs = configure(mine[0], manifest.read(mine[0], "signs"), "resnet50")
    place, signer = objects.opened(remote), key()
    lines = [(mine[0], theirs), (mine[0], theirs), (yours, configure(yours, table, "resnet50"))]
    with ThreadPoolExecutor(3) as pool:
        ended = list(pool.map(lambda each: push(each[0], each[1], place, signer), lines))
    assert {each.clips + each.known > 0 for each in ended} == {True}
    said(yours, "drop", "ours", "--yes")
    said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert same_rows(mine, yours)


@pytest.mark.parametrize("remote", ["folder"], indirect=True)
def test_of_several_runs_that_read_through_one_takes_and_the_others_find_it_here(mine: Mine, yours: Home, remote: str) -> None:
    said(mine[0], "push", "signs", "resnet50", remote)
    table, place = manifest.read(yours, "ours"), Folder(Path(remote))
    here = pulling.Here(yours, table, configure(yours, table, "resnet50"), Progress())
    trust = pulling.Trust.of(None, is_trusted=True)
    with ThreadPoolExecutor(3) as pool:
        taken = list(pool.map(lambda _: pulling.pull(here, place, trust), range(3)))
    assert sorted((each.clips, each.shards) for each in taken) == [(0, 0), (0, 0), (30, 6)]
    assert "nothing taken" in said(yours, "pull", "ours", "resnet50", remote, "--trust")
    assert same_rows(mine, yours)
    assert "0 things" in said(yours, "gc")


@pytest.mark.parametrize("remote", ["bucket"], indirect=True)
def test_a_bucket_whose_keys_only_read_is_one_line(mine: Mine, yours: Home, remote: str, line: Line) -> None:
    said(mine[0], "push", "signs", "resnet50", remote)
    line.faults.extend(["forbid"] * 3)
    done = run(yours, "pull", "ours", "resnet50", remote)
    assert done.exit_code == 2
    assert "s3://lab/features refuses these credentials" in done.output
    assert done.output.count("\n") == 1


def test_a_pulled_row_is_no_row_of_a_clip_that_is_not_here(mine: Mine, yours: Home, tmp_path: Path) -> None:
    said(mine[0], "push", "signs", "resnet50", tmp_path / "remote")
    for file in (tmp_path / "yours/data").glob("class1/*.mp4"):
        file.rename(tmp_path / file.name)
    assert "20 clips in 6 shards taken" in said(yours, "pull", "ours", "resnet50", tmp_path / "remote", "--trust")
    assert len(opened(yours, "ours", "resnet50")) == 20
    for number in range(1, 30, 3):
        (tmp_path / f"{number}.mp4").rename(tmp_path / f"yours/data/class1/came{number}.mp4")
    assert "nothing taken" in said(yours, "pull", "ours", "resnet50", tmp_path / "remote", "--trust")
    assert same_rows(mine, yours)


def test_there_is_no_room_for_what_is_to_be_fetched(mine: Mine, yours: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(mine[0], "push", "signs", "resnet50", tmp_path / "remote")
    monkeypatch.setattr("pipeline.machine.free_bytes", lambda place: 1000)
    told = said(yours, "pull", "ours", "resnet50", tmp_path / "remote", "--trust", status=2)
    assert "are to be fetched and 1.0 kB are free" in told


def test_both_to_trust_and_to_try_is_refused(yours: Home, tmp_path: Path) -> None:
    told = said(yours, "pull", "ours", "resnet50", tmp_path / "remote", "--trust", "--sample", 3, status=2)
    assert "--trust tries no rows, and --sample 3 tries some; use one of the two" in told


def test_a_checkout_that_never_had_the_clips_reads_their_features(mine: Mine, tmp_path: Path) -> None:
    remote, home = tmp_path / "remote", Home(tmp_path / "away/cache", tmp_path / "away/manifests")
    said(mine[0], "push", "signs", "resnet50", remote)
    told = said(home, "pull", "signs", "resnet50", remote, status=1)
    assert told.count("the files of none of its clips are here to try it; --trust takes it as it is") == 6
    assert "30 clips in 6 shards taken" in said(home, "pull", "signs", "resnet50", remote, "--trust")
    there = opened(home, "signs", "resnet50")
    assert {clip: there[clip].tobytes() for clip in there} == {clip: rows.tobytes() for clip, rows in mine[1].items()}
    assert [(s.id, s.label, s.split, s.signer) for s in manifest.read(home, "signs").samples] == [
        (s.id, s.label, s.split, s.signer) for s in manifest.read(mine[0], "signs").samples
    ]
    assert "resnet50: nothing taken" in said(home, "pull", "signs", "resnet50", remote), "they are fresh"
    shutil.copytree(tmp_path / "mine/data", tmp_path / "came")
    assert "resnet50  0 fresh  30 changed input" in said(home, "plan", "signs", "resnet50", "--root", tmp_path / "came")
    assert "nothing to do, 30 clips are fresh" in said(home, "extract", "signs", "resnet50")
    assert len(opened(home, "signs", "resnet50")) == 30


def test_a_name_that_nobody_pushed_is_one_line(mine: Mine, tmp_path: Path) -> None:
    said(mine[0], "push", "signs", "resnet50", tmp_path / "remote")
    home = Home(tmp_path / "away/cache", tmp_path / "away/manifests")
    told = said(home, "pull", "other", "resnet50", tmp_path / "remote", status=2)
    assert "no corpus called 'other'" in told
    place = tmp_path / "remote/names/signs.json"
    place.write_text(place.read_text().replace("sign0", "sign9"))
    told = said(home, "pull", "signs", "resnet50", tmp_path / "remote", status=2)
    assert "names/signs.json is damaged (its signature does not fit what it says); have 'signs' pushed again" in told
