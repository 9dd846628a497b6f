"""A refactor with equal numbers keeps its features on evidence; one with other numbers keeps nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from pipeline.corpus.manifest import Home
from tests.checkout import Checkout
from tests.commands import said

REFACTOR = ("image.mean(axis=(0, 1), dtype=np.float64)", "np.mean(image, axis=(0, 1), dtype=np.float64)")
SLIGHT = ("* palette.SCALE", "* palette.SCALE + np.float32(1e-4)")


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with `colour` in shards of two, one clip that cannot be decoded, and `brightness`, which derives from it."""
    checkout = Checkout.make(tmp_path_factory.mktemp("extracted") / "checkout")
    checkout.clip(7).write_text("no video at all")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    assert checkout.run("extract", "tiny", "colour", "brightness").returncode == 1
    return checkout.folder


LOCKS = (".lock", ".gate", ".publishing")


def tree(checkout: Checkout) -> dict[str, bytes]:
    folders = (checkout.folder / name for name in ("cache", "manifests"))
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file() and path.name not in LOCKS}


def digest(checkout: Checkout, stage: str = "colour") -> str:
    return str(json.loads((checkout.folder / "cache/tiny" / stage / "published.json").read_text())["digest"])


def test_equal_numbers_are_adopted_with_the_evidence_recorded(checkout: Checkout) -> None:
    before, old = checkout.rows("colour"), digest(checkout)
    checkout.edit("stages/colour.py", *REFACTOR)
    done = checkout.ok("adopt", "tiny", "colour", "--sample", "3")
    assert "tiny/colour: 6 clips adopted; 3 tried, equal byte for byte" in done.stdout
    assert "brightness derives from it and is stale by that; keep it with: signcache adopt tiny brightness --sample 3" in done.stderr
    assert checkout.rows("colour") == before
    assert digest(checkout) != old
    for marker in (m for path, m in checkout.markers("colour").items() if path.parent.name == digest(checkout)):
        evidence = marker["made"]["adopted"]
        assert (evidence["from"], evidence["largest_difference"], evidence["equal_bytes"]) == (old, 0, True)
        assert evidence["because"] == "code of stages/colour.py"
        assert len(evidence["sample"]) == 3
    assert checkout.extracted("colour") == {}, "the failure is known, too"
    assert "all whole" in checkout.ok("verify").stderr
    assert not list((checkout.folder / "cache").rglob(".adopt-*"))


def test_a_derived_stage_follows_after_its_upstream(checkout: Checkout) -> None:
    before = checkout.rows("brightness")
    checkout.edit("stages/colour.py", *REFACTOR)
    done = checkout.run("adopt", "tiny", "brightness", "--sample", "2")
    assert done.returncode == 2
    assert "tiny/brightness derives from 'colour', which is stale itself; adopt or extract tiny colour first" in done.stderr
    checkout.ok("adopt", "tiny", "colour", "--sample", "2")
    assert checkout.plan("brightness")["brightness"]["todo"] == 6
    checkout.ok("adopt", "tiny", "brightness", "--sample", "2")
    assert checkout.extracted("colour", "brightness") == {}
    assert checkout.rows("brightness") == before


def test_other_numbers_change_nothing_and_name_the_largest_difference(checkout: Checkout) -> None:
    checkout.edit("stages/colour.py", *SLIGHT)
    before = tree(checkout)
    done = checkout.run("adopt", "tiny", "colour", "--sample", "2")
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("signcache: today's code gives other numbers: the largest difference is ")
    assert last.endswith("(2 clips tried, tolerance 0); nothing is adopted")
    assert "of the largest value, in 'class" in last
    assert tree(checkout) == before
    made = json.loads(checkout.ok("adopt", "tiny", "colour", "--sample", "9", "--tolerance", "1e-4", "--json").stdout)
    assert 0 < made["evidence"]["largest_difference"] <= 1e-4
    assert len(made["evidence"]["sample"]) == 6, "all there are"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_frames: int = 30", "max_frames: int = 5", "has 8 rows, and 5 with today's code; nothing is adopted"),
        ("return (3,)", "return (3, 1)", "the features of tiny/colour are float32 (3,) and today's float32 (3, 1); run: signcache extract"),
        ("        for (image,)", "        raise ValueError('broken')\n        for (image,)", "fails with today's code: ValueError: broken"),
    ],
    ids=["fewer rows", "another shape", "broken"],
)
def test_what_cannot_be_the_same_is_refused_in_one_line(checkout: Checkout, old: str, new: str, message: str) -> None:
    checkout.edit("stages/colour.py", old, new)
    before = tree(checkout)
    done = checkout.run("adopt", "tiny", "colour", "--sample", "1")
    assert done.returncode == 2
    assert message in done.stderr
    assert tree(checkout) == before


THREADS = """

    def load(self, device):
        import torch

        return lambda batch: torch.full((len(batch), 3), float(torch.get_num_threads()))


stage = Colour
"""


def test_packed_rows_are_tried_with_the_threads_that_made_them(checkout: Checkout) -> None:
    checkout.edit("stages/colour.py", "\n\nstage = Colour\n", THREADS)
    for number, threads in enumerate((1, 2)):
        checkout.edit("pipeline/extraction/extract.py", "threads: int = 0", f"threads: int = {threads}")
        checkout.run("extract", "tiny", "colour", *([] if number else ["--limit", "3"]))
        checkout.edit("pipeline/extraction/extract.py", f"threads: int = {threads}", "threads: int = 0")
    checkout.ok("compact", "tiny", "colour")
    rows = checkout.rows("colour")
    assert len(set(rows.values())) == 2
    checkout.edit("stages/colour.py", *REFACTOR)
    assert "6 tried, equal byte for byte" in checkout.ok("adopt", "tiny", "colour", "--sample", "6").stdout
    assert checkout.rows("colour") == rows


def test_nothing_to_adopt_is_said(checkout: Checkout) -> None:
    done = checkout.run("adopt", "tiny", "colour", "--sample", "1")
    assert done.returncode == 2
    assert "the features of tiny/colour are today's already; there is nothing to adopt" in done.stderr


@pytest.mark.parametrize("line", ["        shards.write_marker(", "    publishing.publish("], ids=["before a marker", "before publishing"])
def test_killed_while_adopting_nothing_is_lost_and_it_goes_on(checkout: Checkout, line: str) -> None:
    before, old, home = checkout.rows("colour"), digest(checkout), Home(checkout.folder / "cache", checkout.folder / "manifests")
    checkout.edit("stages/colour.py", *REFACTOR)
    moment = "len(list(folder.glob('*.json'))) >= 2 and " if "marker" in line else ""
    death = f"{line[: len(line) - len(line.lstrip())]}{moment}__import__('os').kill(__import__('os').getpid(), 9)\n"
    checkout.edit("pipeline/cache/upkeep/restamp.py", line, death + line)
    assert checkout.run("adopt", "tiny", "colour", "--sample", "1").returncode == -signal.SIGKILL
    checkout.edit("pipeline/cache/upkeep/restamp.py", death + line, line)
    assert (checkout.rows("colour"), digest(checkout)) == (before, old)
    assert "all whole" in said(home, "verify")
    checkout.ok("adopt", "tiny", "colour", "--sample", "1")
    assert checkout.rows("colour") == before
    assert digest(checkout) != old
    assert "all whole" in said(home, "verify")
    assert f"identity {old}" in said(home, "gc", "tiny", "colour", "--yes")
    assert checkout.rows("colour") == before
    assert checkout.plan("colour")["colour"]["fresh"] == 6


@pytest.fixture
def left(checkout: Checkout) -> Checkout:
    """A checkout whose published features are stale, and whose extraction by newer code was left after four of six clips."""
    checkout.edit("stages/colour.py", "* palette.SCALE", "* palette.SCALE * 2")
    checkout.run("extract", "tiny", "colour", "--limit", "4")
    return checkout


def test_an_unfinished_extraction_goes_on_after_its_code_was_mended(left: Checkout) -> None:
    left.edit("stages/colour.py", *REFACTOR)
    assert left.plan("colour")["colour"]["fresh"] == 0
    done = left.ok("adopt", "tiny", "colour", "--sample", "2")
    assert "tiny/colour: 4 clips adopted; 2 tried, equal byte for byte" in done.stdout
    assert "go on with the line that was left, or: signcache extract tiny colour" in done.stderr
    plan = left.plan("colour")["colour"]
    assert (plan["fresh"], plan["failed"]) == (4, 0), "what failed is tried again by the mended code"
    again = left.run("extract", "tiny", "colour", "--json")
    assert json.loads(again.stdout.splitlines()[-1])["extracted"] == {"colour": 2}
    rows, line = left.rows("colour"), "adopted from "
    shown = [left.ok("show", "tiny", "colour", clip).stdout for clip in rows]
    assert sum("its extraction was left unfinished" in text for text in shown) == 4, "each row says whose it is"
    assert f"4 of 6 clips {line}" in left.run("doctor").stdout
    left.ok("compact", "tiny", "colour")
    assert f"4 of 6 clips {line}" in left.run("doctor").stdout, "packing mixes no rows of different origin"
    fresh = left.folder / "fresh"
    left.run("--cache", fresh, "extract", "tiny", "colour")
    (left.folder / "cache").rename(left.folder / "adopted")
    fresh.rename(left.folder / "cache")
    assert left.rows("colour") == rows


def test_an_unfinished_extraction_of_other_numbers_is_refused(left: Checkout) -> None:
    left.edit("stages/colour.py", *REFACTOR)
    left.edit("stages/colour.py", "* palette.SCALE * 2", "* palette.SCALE * 2.5")
    before = tree(left)
    done = left.run("adopt", "tiny", "colour", "--sample", "2")
    assert done.returncode == 2
    assert "today's code gives other numbers: the largest difference is " in done.stderr.splitlines()[-1]
    assert tree(left) == before
