"""What an extraction will cost is said before it starts, and what the disk cannot hold does not start."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from pipeline.extraction.log import KEPT, without_secrets
from pipeline.machine import shown_size, shown_time
from tests.checkout import Checkout, write_clip


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of eight frames; `colour` makes rows of 12 kB; nothing is extracted yet."""
    checkout = Checkout.make(tmp_path_factory.mktemp("template") / "checkout")
    checkout.edit("stages/colour.py", "return (3,)", "return (3, 1000)")
    wide = "yield np.repeat(image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)[:, None], 1000, 1)"
    checkout.edit("stages/colour.py", "yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)", wide)
    return checkout.folder


@pytest.fixture
def checkout(template: Path, tmp_path: Path) -> Checkout:
    copy = Checkout(tmp_path / "checkout")
    subprocess.run(["cp", "-a", str(template), str(copy.folder)], check=True)
    copy.ok("manifest", "tiny", "--root", copy.folder / "clips")
    return copy


def logs(checkout: Checkout) -> list[Path]:
    return sorted((checkout.folder / "cache/tiny/logs").glob("*.log"))


def test_plan_says_time_and_disk_once_it_knows_them(checkout: Checkout) -> None:
    assert "colour  6 new  (time unknown, up to 2.2 MB)" in re.sub("  0 fresh", "", checkout.ok("plan", "tiny", "colour").stdout)
    checkout.ok("extract", "tiny", "colour", "--limit", "2")
    document = json.loads(checkout.ok("plan", "tiny", "colour", "--json").stdout)
    assert document["estimates"]["colour"]["bytes"] == 4 * 8 * 12_000
    assert 0 < document["estimates"]["colour"]["seconds"] < 60
    assert document["estimates"]["colour"]["is_bound"] is False
    assert re.search(r"colour  2 fresh  4 new  \(about \d+ s, about 384 kB\)", checkout.ok("plan", "tiny", "colour").stdout)
    checkout.ok("extract", "tiny", "colour")
    assert json.loads(checkout.ok("plan", "tiny", "colour", "--json").stdout)["estimates"] == {}


def test_lengths_that_another_stage_found_tell_a_new_one_its_size(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "palette")
    estimate = json.loads(checkout.ok("plan", "tiny", "colour", "--json").stdout)["estimates"]["colour"]
    assert (estimate["bytes"], estimate["is_bound"]) == (6 * 8 * 12_000, False)


def test_what_the_disk_cannot_hold_does_not_start(checkout: Checkout) -> None:
    checkout.edit("pipeline/extraction/estimate.py", "free = free_bytes(home.cache)", "free = 500_000")
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    line = f"signcache: the cache {checkout.folder / 'cache'} has 500 kB free and this needs about 576 kB; "
    assert f"{line}make room (signcache gc), take another place (--cache DIR), or fewer clips (--limit N)\n" in done.stderr
    assert not list((checkout.folder / "cache").rglob("*.zarr"))
    assert "stopped by UserError: the cache " in logs(checkout)[0].read_text()
    checkout.ok("extract", "tiny", "colour", "--limit", "5")


def test_every_extraction_that_does_something_leaves_a_log(checkout: Checkout) -> None:
    checkout.clip(7).write_text("no video at all")
    checkout.run("extract", "tiny", "palette")
    (log,) = logs(checkout)
    lines = [line.split("  ", 1)[1] for line in log.read_text().splitlines()]
    assert re.fullmatch(r"\d{8}T\d{6}-extract\.log", log.name)
    assert lines[0] == "signcache extract tiny palette"
    assert lines[1].startswith("palette  0 fresh  7 new  (time unknown, ")
    assert "palette: 6 clips extracted, 1 failed, 6 of 7 ready" in lines
    assert any(line.startswith("  failed: 'class1/clip 07': clip 07.mp4 cannot be decoded") for line in lines)
    assert re.fullmatch(r"done after \d+\.\d s", lines[-1])
    checkout.ok("extract", "tiny", "palette")
    assert logs(checkout) == [log], "nothing to do, nothing written"


def test_the_last_fifty_logs_are_kept(checkout: Checkout) -> None:
    folder = checkout.folder / "cache/tiny/logs"
    folder.mkdir(parents=True)
    for number in range(60):
        (folder / f"20200101T0000{number:02d}-extract.log").touch()
    write_clip(checkout.clip(6), 6)
    checkout.ok("extract", "tiny", "palette", "--limit", "1")
    kept = logs(checkout)
    assert len(kept) == KEPT
    assert kept[0].name == "20200101T000011-extract.log"
    assert kept[-1].stat().st_size


def test_logs_hold_no_secrets() -> None:
    assert without_secrets("extract lis --set a.token=abc --root https://me:pw@host/x") == (
        "extract lis --set a.token=*** --root https://me:***@host/x"
    )
    assert without_secrets("extract lis --api-key abc resnet50") == "extract lis --api-key *** resnet50"
    assert without_secrets("extract lis resnet50 --set max_frames=30") == "extract lis resnet50 --set max_frames=30"


def test_amounts_are_short() -> None:
    assert [shown_size(size) for size in (0, 999, 1000, 12_345, 999_000, 5e9, 7e13)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 kB",
        "999 kB",
        "5.0 GB",
        "70.0 TB",
    ]
    assert [shown_time(seconds) for seconds in (0.2, 89, 100, 5000, 7200)] == ["0 s", "89 s", "2 min", "83 min", "2.0 h"]
