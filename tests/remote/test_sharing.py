"""What a colleague extracted is pulled, under any name, and believed only after it was tried."""

from __future__ import annotations

import getpass
import json
import shutil
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import shards
from pipeline.cache.publishing import opened
from pipeline.corpus.manifest import Home
from pipeline.remote import signing
from tests.checkout import Checkout
from tests.remote.conftest import SECRET


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkouts, `mine` with `colour` and `brightness` in shards of two, and `yours`, whose same clips have other names and classes."""
    folder = tmp_path_factory.mktemp("two")
    mine = Checkout.make(folder / "mine")
    yours = Checkout(folder / "yours")
    shutil.copytree(mine.folder, yours.folder)
    shutil.rmtree(yours.folder / "clips")
    for number in range(6):
        there = yours.folder / "clips" / f"sign{number % 3}" / f"{number}.mp4"
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(mine.clip(number), there)
    shutil.rmtree(yours.folder / "manifests")
    yours.ok("manifest", "ours", "--corpus", "folder", "--root", yours.folder / "clips")
    mine.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    mine.ok("extract", "tiny", "colour", "brightness")
    return folder


@pytest.fixture
def two(made: Path, tmp_path: Path) -> tuple[Checkout, Checkout, Path]:
    """Copies of both, and a folder to share."""
    shutil.copytree(made, tmp_path / "two")
    return Checkout(tmp_path / "two/mine"), Checkout(tmp_path / "two/yours"), tmp_path / "remote"


def extracted(checkout: Checkout, *arguments: object) -> dict[str, int]:
    """Clips that an extraction of `ours` made, by stage."""
    made: dict[str, int] = json.loads(checkout.ok("extract", "ours", *arguments, "--json").stdout.splitlines()[-1])["extracted"]
    return made


def test_a_second_checkout_with_the_same_clips_extracts_none(two: tuple[Checkout, Checkout, Path]) -> None:
    mine, yours, remote = two
    said = mine.ok("push", "tiny", "brightness", remote).stdout
    assert "tiny/colour: 6 clips in 3 shards pushed" in said
    assert "tiny/brightness: 6 clips in 3 shards pushed" in said
    done = yours.ok("extract", "ours", "colour", "brightness", "--remote", remote, "--json")
    assert "colour: 6 clips in 3 shards taken" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["extracted"] == {}
    assert extracted(yours, "colour", "brightness") == {}
    for stage in ("colour", "brightness"):
        theirs = {f"clip {Path(clip).name:0>2}": rows for clip, rows in rows_of(yours, stage).items()}
        assert theirs == {Path(clip).name: rows for clip, rows in mine.rows(stage).items()}, "byte for byte"
    assert "all whole" in yours.ok("verify").stderr


def rows_of(checkout: Checkout, stage: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """Shape and bytes of every published row of `ours`."""
    features = opened(Home(checkout.folder / "cache", checkout.folder / "manifests"), "ours", stage)
    return {clip: (features[clip].shape, features[clip].tobytes()) for clip in features}


def test_where_rows_came_from_is_kept_and_shown(two: tuple[Checkout, Checkout, Path]) -> None:
    mine, yours, remote = two
    mine.ok("push", "tiny", "colour", remote)
    yours.ok("pull", "ours", "colour", remote, "--sample", "1")
    markers = [json.loads(path.read_text()) for path in (yours.folder / "cache/ours/colour").glob("*/*-*.json")]
    assert len(markers) == 3
    for made in (marker["made"]["pulled"] for marker in markers):
        assert made["from"] == str(remote)
        assert made["by"] == f"{getpass.getuser()}@{socket.gethostname()}"
        assert made["pushed_at"] <= made["at"]
        assert made["signer"] == signing.Key(SECRET).signer
        assert (len(made["sample"]), made["equal_bytes"], made["trusted"]) == (1, True, False)
    clip = next(iter(rows_of(yours, "colour")))
    said = f"pushed by {getpass.getuser()}@{socket.gethostname()} on "
    assert f"  pulled    from {remote}, {said}" in yours.ok("show", "ours", "colour", clip).stdout
    assert json.loads(yours.ok("show", "ours", "colour", clip, "--json").stdout)["pulled"]["from"] == str(remote)
    yours.ok("compact", "ours", "colour")
    assert len([*(yours.folder / "cache/ours/colour").glob("*/*-*.json")]) == 1
    assert f"6 of 6 clips from {remote}, {said}" in yours.run("doctor").stdout
    assert SECRET not in "".join(path.read_text(errors="replace") for path in [*remote.rglob("*.json"), *yours.folder.rglob("*.json")])


def test_a_flipped_byte_is_refused_and_its_clips_are_extracted(two: tuple[Checkout, Checkout, Path]) -> None:
    mine, yours, remote = two
    mine.ok("push", "tiny", "colour", remote)
    file = max(remote.glob("shards/*/*.zarr/**/*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    shard = next(part for part in file.parts if part.endswith(".zarr"))[:-5]
    done = yours.run("pull", "ours", "colour", remote, "--trust")
    assert done.returncode == 1
    assert f"refused: shard {shard}: shards/" in done.stderr + done.stdout
    assert "differs from its checksum" in done.stderr + done.stdout
    assert extracted(yours, "colour", "--remote", remote) == {"colour": 2}
    assert sorted(map(repr, rows_of(yours, "colour").values())) == sorted(map(repr, mine.rows("colour").values()))


def test_a_wrong_row_with_right_checksums_is_refused(two: tuple[Checkout, Checkout, Path]) -> None:
    mine, yours, remote = two
    path, marker = next(iter(mine.markers("colour").items()))
    record, folder = shards.read_record(path), path.parent
    wrong = record.marker.rows[1]
    values = np.array(shards.open_shard(folder, "zarr", marker["shard"]))
    values[wrong.start, 1] += 1
    rows = (record.marker.rows[0], replace(wrong, checksum=shards.checksum(values[wrong.start :])))
    shutil.rmtree(folder / marker["shard"])
    shards.write_shard(folder, replace(record.marker, rows=rows), values, record.made)
    mine.ok("push", "tiny", "colour", remote)
    done = yours.run("pull", "ours", "colour", remote)
    assert done.returncode == 1
    assert f"refused: shard {record.marker.name}: 'sign" in done.stdout
    assert "has other rows there than where it is extracted here: off by 0.00" in done.stdout
    assert "4 clips in 2 shards taken" in done.stdout
    assert "2 clips in 1 shards taken, 1.2 kB, none of them tried" in yours.ok("pull", "ours", "colour", remote, "--trust").stdout
    assert not list(yours.folder.rglob(".pulled"))
