"""A cache in a bucket keeps the promises of one in a folder, for several machines and over a line that fails."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.cache import mirror
from pipeline.cache.mirror import _publishing
from pipeline.cache.publishing import open_stage, opened
from pipeline.cli import main
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.objects.bucket import Bucket
from pipeline.types import Array
from tests.checkout import Checkout
from tests.feature_cache import balanced, corpus, publish, signals
from tests.s3_server import Line

URL = "s3://lab/cache"
STAGES = ("colour", "brightness")
Machine = Callable[[str], Home]


@pytest.fixture
def table(tmp_path: Path) -> Manifest:
    """30 clips, bound once for every machine."""
    return corpus(tmp_path, balanced())[1]


@pytest.fixture
def machine(line: Line, tmp_path: Path, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The folders of a machine of this name, up to date with the bucket."""

    def on(name: str) -> Home:
        monkeypatch.setenv("SIGNCACHE_WORK", str(tmp_path / name))
        return Home(Path(str(mirror.folder_of(URL))), tmp_path / "manifests")

    return on


def shards_of(home: Home) -> set[str]:
    """The shards whose rows lie on a machine."""
    return {path.name for path in home.cache.glob("*/*/*/*.zarr")}


def read(home: Home) -> dict[str, bytes]:
    features = open_stage("signs", "resnet50", cache=home.cache, manifests=home.manifests)
    return {clip: features[clip].tobytes() for clip in features}


def bytes_of(rows: dict[str, Array]) -> dict[str, bytes]:
    return {clip: values.tobytes() for clip, values in rows.items()}


@pytest.mark.parametrize("fault", ["", "refuse", "drop", "lose the answer", "cut", "double"])
def test_what_one_machine_extracts_another_reads(machine: Machine, table: Manifest, line: Line, fault: str) -> None:
    rows = signals(table)
    home = machine("mine")
    line.faults.extend(itertools.islice(itertools.cycle([fault, "", ""]), 300 if fault else 0))
    publish(home, table, rows)
    other = machine("yours")
    assert shards_of(other) == set(), "rows come when they are read"
    assert read(other) == bytes_of(rows)
    assert shards_of(other) == shards_of(home)


def test_the_command_line_and_python_take_the_url(machine: Machine, table: Manifest) -> None:
    rows, home = signals(table), machine("mine")
    publish(home, table, rows)
    machine("yours")
    done = CliRunner().invoke(main, ["--cache", URL, "--manifests", str(home.manifests), "plan", "signs", "resnet50"])
    assert "resnet50  30 fresh" in done.output
    features = open_stage("signs", "resnet50", cache=URL, manifests=home.manifests)
    assert {clip: features[clip].tobytes() for clip in features} == bytes_of(rows)
    for command in ("gc", "verify", "compact"):
        done = CliRunner().invoke(main, ["--cache", URL, command])
        assert (done.exit_code, done.output) == (
            2,
            f"signcache: {command} looks after a cache in a folder, and {URL} is none; name one: --cache DIR\n",
        )


def test_what_was_not_sent_goes_with_the_next_command(machine: Machine, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, home, sent = signals(table), machine("mine"), itertools.count()
    write = Bucket.write

    def failing(self: Bucket, name: str, content: bytes, *, only_new: bool = False) -> bool:
        if next(sent) == 3:
            raise UserError("the line is down")
        return write(self, name, content, only_new=only_new)

    monkeypatch.setattr(Bucket, "write", failing)
    with pytest.raises(UserError, match="the line is down"):
        publish(home, table, rows)
    monkeypatch.setattr(Bucket, "write", write)
    assert len(list(machine("yours").cache.glob("*/*/*/*.json"))) == 3
    machine("mine")
    assert len(list(machine("yours").cache.glob("*/*/*/*.json"))) == 4, "the one whose marker was here alone"


@pytest.mark.parametrize("heeds_conditions", [True, False])
def test_of_two_that_publish_at_once_one_does_and_the_other_goes_on_from_it(
    machine: Machine, table: Manifest, line: Line, heeds_conditions: bool
) -> None:
    line.heeds_conditions = heeds_conditions
    assert Bucket(URL).is_conditional == heeds_conditions
    rows = signals(table)
    half = {clip: rows[clip] for clip in list(rows)[:15]}
    mine, yours = machine("mine"), machine("yours")
    publish(mine, table, half)
    with pytest.raises(
        UserError, match=r"another writer published s3://lab/cache/signs/resnet50/published.json meanwhile; what was extracted"
    ):
        publish(yours, table, {clip: rows[clip] for clip in rows if clip not in half})
    assert read(machine("third")) == bytes_of(half), "what is published stays whole"
    yours = machine("yours")
    publish(yours, table, rows, shard_clips=30)
    assert read(machine("third")) == bytes_of(rows)
    assert read(machine("mine")) == bytes_of(rows)
    assert len([name for name in Bucket(URL).names("signs/") if "/rows-" in name]) == 1
    assert list(Bucket(URL).names("leases/")) == []


def test_without_conditions_nobody_publishes_beside_anothers_lease(
    machine: Machine, table: Manifest, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    line.heeds_conditions = False
    monkeypatch.setattr(_publishing, "WAITS", (0.0, 0.0))
    home = machine("mine")
    Bucket(URL).write("leases/signs/resnet50/published.json/other", b"host")
    with pytest.raises(UserError, match=r"or, where it died, delete s3://lab/cache/leases/signs/resnet50/published.json/other first"):
        publish(home, table, signals(table))
    assert not Bucket(URL).has("signs/resnet50/published.json")
    Bucket(URL).delete("leases/signs/resnet50/published.json/other")
    publish(machine("mine"), table, signals(table))
    assert read(machine("yours")) == bytes_of(signals(table))


def test_least_recently_read_shards_go_where_there_are_too_many(machine: Machine, table: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = signals(table)
    publish(machine("mine"), table, rows)
    yours = machine("yours")
    monkeypatch.setenv("SIGNCACHE_WORK_GB", str(2 * sum(values.nbytes for values in rows.values()) / 6 / 1e9))
    assert read(yours) == bytes_of(rows)
    assert 1 <= len(shards_of(yours)) <= 2
    assert read(yours) == bytes_of(rows), "they come back"
    monkeypatch.setenv("SIGNCACHE_WORK_GB", "plenty")
    shutil.rmtree(next(yours.cache.glob("*/*/*/*.zarr")))
    mirror.working_folder._mirror.cache_clear()
    with pytest.raises(UserError, match="SIGNCACHE_WORK_GB='plenty': expected a number of GB, as in SIGNCACHE_WORK_GB=50"):
        read(yours)


def test_a_flipped_byte_in_the_bucket_is_one_line(machine: Machine, table: Manifest) -> None:
    publish(machine("mine"), table, signals(table))
    store = Bucket(URL)
    name = next(name for name in sorted(store.names("signs/")) if "/c/" in name)
    content = bytearray(store.read(name))
    content[9] ^= 1
    store.write(name, bytes(content))
    yours = machine("yours")
    with pytest.raises(UserError, match=rf"{URL}/{name} differs from its checksum; delete its marker there, then extract again"):
        read(yours)
    assert not list(yours.cache.rglob(".*.zarr.*"))


def test_what_a_killed_process_fetched_half_goes_after_a_day(machine: Machine, table: Manifest) -> None:
    publish(machine("mine"), table, signals(table))
    yours = machine("yours")
    folder = next(yours.cache.glob("*/*/*/*.json")).parent
    old, new = (folder / f".0000000-0123456789ab.zarr.{token}" for token in ("00000000", "11111111"))
    for path in (old, new):
        (path / "c").mkdir(parents=True)
    os.utime(old, (1, 1))
    machine("yours")
    assert (old.exists(), new.exists()) == (False, True)


def test_rows_damaged_on_a_machine_are_fetched_anew(machine: Machine, table: Manifest) -> None:
    publish(machine("mine"), table, signals(table))
    yours = machine("yours")
    read(yours)
    file = next(path for path in yours.cache.glob("*/*/*/*.zarr/c/**/*") if path.is_file())
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(UserError, match=r"; run: rm -r .*/signs/resnet50, then extract again") as raised:
        read(yours)
    shutil.rmtree(str(raised.value).partition("rm -r ")[2].partition(",")[0])
    assert read(machine("yours")) == bytes_of(signals(table))


def test_a_name_in_the_bucket_that_leads_elsewhere_is_left_alone(machine: Machine, table: Manifest, tmp_path: Path) -> None:
    publish(machine("mine"), table, signals(table))
    for name in ("signs/resnet50/0123456789abcdef/notes.json", "signs/.hidden/0123456789abcdef/0000000-0123456789ab.json"):
        Bucket(URL).write(name, b"{}")
    yours = machine("yours")
    assert not list(yours.cache.rglob("notes.json"))
    assert not list(yours.cache.rglob(".hidden"))
    assert manifest.read(yours, "signs") == table


def test_an_extraction_works_in_a_bucket_and_goes_on_elsewhere(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = Checkout.make(tmp_path / "checkout", clips=2)
    monkeypatch.setenv("SIGNCACHE_WORK", str(tmp_path / "mine"))
    assert "colour: 2 clips extracted" in checkout.ok("--cache", URL, "extract", "tiny", "colour").stderr
    assert not (checkout.folder / "cache").exists()
    monkeypatch.setenv("SIGNCACHE_WORK", str(tmp_path / "yours"))
    done = checkout.ok("--cache", URL, "extract", "tiny", "colour", "brightness").stderr
    assert "colour: nothing to do, 2 clips are fresh" in done
    assert "brightness: 2 clips extracted" in done
    colours, means = (opened(Home(Path(str(mirror.folder_of(URL))), checkout.folder / "manifests"), "tiny", s) for s in STAGES)
    assert len(colours) == 2
    assert all(np.array_equal(means[clip][:, 0], [row.mean() for row in colours[clip]]) for clip in colours)
