"""The engine as a whole: devices and decoders work beside each other, a kill or a pause loses nothing that was told."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.checkout import PATIENCE, Checkout
from tests.video_files import write_clip

"""Seconds in which what must happen happens, on any host."""

BESIDE = """
    def load(self, device):
        import os, pathlib, time
        here = pathlib.Path(PLACE)
        with open(here / "loaded", "a") as file:
            file.write(f"{os.getpid()}\\n")

        def forward(items):
            if not (here / "computing").exists():
                (here / "computing").touch()
                while not (here / "prepared").exists():
                    time.sleep(0.01)
            return items

        return forward

    def prepare(self, frames):
        import pathlib, time
        here = pathlib.Path(PLACE)
        try:
            (here / "first").touch(exist_ok=False)
        except FileExistsError:
            while not (here / "computing").exists():
                time.sleep(0.01)
        yield from self._prepare(frames)
        if (here / "computing").exists():
            (here / "prepared").touch()

    def _prepare(self, frames):"""


def until(true: Callable[[], object]) -> None:
    """Waits until it is."""
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def write_still(path: Path) -> None:
    """A clip of one grey."""
    write_clip(path, 8, draw=lambda number, size: np.full((size[1], size[0], 3), 90, np.uint8))


def extraction(folder: Path, clips: int = 6) -> Checkout:
    """A checkout where one clip is decoded after the other."""
    checkout = Checkout.make(folder, clips=clips)
    checkout.edit("pipeline/machine.py", "def cores() -> int:", "def cores() -> int:\n    return 1")
    return checkout


def test_clips_are_decoded_while_the_device_is_at_others_and_weights_load_once(tmp_path: Path) -> None:
    checkout, place = extraction(tmp_path / "checkout"), tmp_path / "place"
    place.mkdir()
    checkout.ok("extract", "tiny", "colour")
    plain = checkout.rows("colour")
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 2")
    checkout.edit("stages/colour.py", "\n    def prepare(self, frames):", BESIDE.replace("PLACE", repr(str(place))))
    checkout.ok("extract", "tiny", "colour")
    assert (place / "prepared").exists()
    assert len((place / "loaded").read_text().split()) == 1
    assert len([marker for marker in checkout.markers("colour").values() if len(marker["rows"]) == 2]) == 3
    assert checkout.rows("colour") == plain


WAITING = """            import pathlib, time
            if image[0, 0].tolist() == VICTIM:
                pathlib.Path(PLACE, "waiting").touch()
                while not pathlib.Path(PLACE, "go").exists():
                    time.sleep(0.01)
"""


def waiting_at(checkout: Checkout, number: int, place: Path) -> None:
    """The stage `colour` waits at this clip for a file `go`."""
    place.mkdir()
    with av.open(str(checkout.clip(number))) as container:
        victim = next(container.decode(video=0)).to_ndarray(format="rgb24")[0, 0].tolist()
    loop = "        for (image,) in frames:\n"
    checkout.edit("stages/colour.py", loop, loop + WAITING.replace("VICTIM", str(victim)).replace("PLACE", repr(str(place))))


def recorded(checkout: Checkout, kind: str) -> list[dict[str, Any]]:
    return [part for marker in checkout.markers("colour").values() for part in marker[kind]]


def test_failures_and_clips_without_rows_outlive_a_kill_and_are_not_done_again(tmp_path: Path) -> None:
    checkout, place = extraction(tmp_path / "checkout"), tmp_path / "place"
    loop = "        for (image,) in frames:\n"
    still = "            if image.std() < 1: return\n"
    checkout.edit("stages/colour.py", loop, loop + still)
    write_still(checkout.clip(2))
    checkout.clip(0).write_text("no video")
    waiting_at(checkout, 4, place)
    checkout.edit("pipeline/extraction/_shard_building.py", "SHARD_SECONDS = 60.0", "SHARD_SECONDS = 0.0")
    process = checkout.start("extract", "tiny", "colour")
    until((place / "waiting").exists)
    until(lambda: recorded(checkout, "failures") and recorded(checkout, "rows"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    plan = checkout.plan("colour")["colour"]
    assert (plan["failed"], plan["fresh"], plan["todo"]) == (1, 1, 4)
    (place / "go").touch()
    done = checkout.run("extract", "tiny", "colour", "--json")
    assert done.returncode == 0, "what failed before is a warning"
    assert json.loads(done.stdout.splitlines()[-1])["extracted"] == {"colour": 4}
    assert [failure["id"] for failure in recorded(checkout, "failures")] == ["class0/clip 00"]
    rows = checkout.rows("colour")
    assert rows["class0/clip 02"] == ((0, 3), b"")
    assert {clip: shape for clip, (shape, _) in rows.items()} == {
        "class0/clip 02": (0, 3),
        **dict.fromkeys(["class0/clip 04", "class1/clip 01", "class1/clip 03", "class1/clip 05"], (8, 3)),
    }


def test_failures_are_recorded_though_no_other_clip_gets_ready(tmp_path: Path) -> None:
    checkout, place = extraction(tmp_path / "checkout"), tmp_path / "place"
    checkout.clip(0).write_text("no video")
    waiting_at(checkout, 2, place)
    checkout.edit("pipeline/extraction/_shard_building.py", "SHARD_SECONDS = 60.0", "SHARD_SECONDS = 0.5")
    checkout.edit("pipeline/extraction/preparing/decode_processes.py", "PATIENCE = 10.0", "PATIENCE = 0.1")
    process = checkout.start("extract", "tiny", "colour")
    until((place / "waiting").exists)
    until(lambda: recorded(checkout, "failures"))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert checkout.plan("colour")["colour"]["failed"] == 1


def test_a_run_that_is_stopped_for_longer_than_the_deadline_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    checkout, place = extraction(tmp_path / "checkout"), tmp_path / "place"
    waiting_at(checkout, 2, place)
    process = checkout.start("extract", "tiny", "colour", "--deadline", 4)
    until((place / "waiting").exists)
    os.killpg(process.pid, signal.SIGSTOP)
    (place / "go").touch()
    time.sleep(6)  # the pause itself
    os.killpg(process.pid, signal.SIGCONT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, out + err
    assert {row["decoder"] for row in recorded(checkout, "rows")} == {"decord"}
    assert recorded(checkout, "failures") == []
