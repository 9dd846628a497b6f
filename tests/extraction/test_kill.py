"""An extraction may be killed at any moment: nothing finished is lost, nothing wrong is ever read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import av
import pytest

from tests.checkout import PATIENCE, Checkout

CLIPS = 24
STAGES = ("resnet50", "colour")
LINE = ("extract", "tiny", *STAGES, "--set", "resnet50.weights=random:0", "--set", "resnet50.resize=32,32", "--set", "max_frames=4")


@pytest.fixture(scope="module")
def unharmed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A finished extraction of four clips a shard."""
    checkout = Checkout.make(tmp_path_factory.mktemp("unharmed") / "checkout", clips=CLIPS)
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 4")
    checkout.ok(*LINE)
    return checkout


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def emptied(unharmed: Checkout, folder: Path) -> Checkout:
    """The same code and clips without a cache."""
    subprocess.run(["cp", "-a", str(unharmed.folder), str(folder)], check=True)
    subprocess.run(["rm", "-rf", str(folder / "cache"), str(folder / "manifests")], check=True)
    checkout = Checkout(folder)
    checkout.ok("manifest", "tiny", "--corpus", "folder", "--root", folder / "clips")
    return checkout


def finished_clips(checkout: Checkout, stage: str) -> list[str]:
    return [row["id"] for marker in checkout.markers(stage).values() for row in marker["rows"]]


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_and_resumed_rows_equal_those_of_an_uninterrupted_run(unharmed: Checkout, tmp_path: Path, seed: int) -> None:
    checkout, chance = emptied(unharmed, tmp_path / "checkout"), random.Random(seed)
    for _ in range(3):
        process = checkout.start(*LINE)
        try:
            process.communicate(timeout=chance.uniform(0.3, 6.0))
        except subprocess.TimeoutExpired:
            kill(process)
        before = checkout.markers("resnet50"), checkout.markers("colour")
        plan = checkout.plan(*LINE[2:])
        for stage, markers in zip(STAGES, before, strict=True):
            assert plan[stage]["fresh"] == sum(len(marker["rows"]) for marker in markers.values())
    checkout.ok(*LINE)
    for stage in STAGES:
        assert checkout.rows(stage) == unharmed.rows(stage)
        clips = finished_clips(checkout, stage)
        assert len(clips) == len(set(clips)) == CLIPS, "a finished clip was extracted again"


def test_a_kill_between_shard_and_marker_leaves_no_shard(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.edit(
        "pipeline/cache/shards.py",
        "    write_marker(folder, Record(marker, files",
        "    import os, signal; os.killpg(os.getpgid(0), signal.SIGKILL)\n    write_marker(folder, Record(marker, files",
    )
    process = checkout.start(*LINE)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert list((checkout.folder / "cache/tiny").glob("*/*/*.zarr"))
    assert checkout.plan(*LINE[2:])["resnet50"]["fresh"] == 0
    checkout.edit("pipeline/cache/shards.py", "    import os, signal; os.killpg(os.getpgid(0), signal.SIGKILL)\n", "")
    checkout.ok(*LINE)
    assert checkout.rows("resnet50") == unharmed.rows("resnet50")


def test_a_kill_just_before_publishing_keeps_every_shard(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    death = '    import os, signal; os.killpg(os.getpgid(0), signal.SIGKILL)\n    atomic.replace(folder.parent / "published.json"'
    checkout.edit("pipeline/cache/publishing.py", '    atomic.replace(folder.parent / "published.json"', death)
    checkout.start(*LINE).communicate()
    assert not list((checkout.folder / "cache/tiny").glob("*/published.json"))
    checkout.edit("pipeline/cache/publishing.py", death, '    atomic.replace(folder.parent / "published.json"')
    assert checkout.extracted(*LINE[2:]) == {}
    for stage in STAGES:
        assert checkout.rows(stage) == unharmed.rows(stage)


def test_ctrl_c_keeps_finished_clips_and_says_how_to_go_on(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.slow("colour", 0.1)
    process = checkout.start("extract", "tiny", "colour")
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("colour: 3/"))
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert err.endswith("signcache: interrupted; finished clips are kept. Go on with: signcache extract tiny colour\n")
    assert "Traceback" not in err
    assert checkout.plan("colour")["colour"]["fresh"] >= 3


def test_a_killed_run_leaves_no_process_and_no_spool_behind(unharmed: Checkout, tmp_path: Path) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    checkout.slow("colour", 0.1)
    process = checkout.start("extract", "tiny", "colour")
    assert process.stderr is not None
    next(line for line in process.stderr if line.startswith("colour: 1/"))
    process.kill()  # the parent alone: its children must notice
    process.communicate()  # ends when the last child has closed the pipes
    assert list((checkout.folder / "cache/tiny").glob("*/.spool-*"))
    checkout.ok("extract", "tiny", "colour")
    assert not list((checkout.folder / "cache/tiny").glob("*/.spool-*"))


HARM = """

def harm(image):
    import ctypes, os, signal

    if image[0, 0].tolist() == VICTIM:
        DEED
"""


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        ("ctypes.PyDLL(None).sleep(1000)", "its decoding made no progress for 12 s"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "its decoding process was killed by SIGSEGV"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "its decoding process was killed by SIGKILL"),
        ("os._exit(3)", "its decoding process ended with status 3"),
        ("os._exit(0)", "its decoding process ended with status 0"),
        ("raise ValueError('bad')", "ValueError: bad"),
    ],
    ids=["hangs with the GIL held", "segmentation fault", "killed by the system", "exits", "exits as if all were well", "raises"],
)
def test_a_clip_that_harms_its_process_costs_that_clip_and_that_stage(unharmed: Checkout, tmp_path: Path, deed: str, reason: str) -> None:
    checkout = emptied(unharmed, tmp_path / "checkout")
    with av.open(str(checkout.clip(5))) as container:
        victim = next(container.decode(video=0)).to_ndarray(format="rgb24")[0, 0].tolist()
    checkout.edit("stages/palette.py", "SCALE = 1.0", "SCALE = 1.0" + HARM.replace("VICTIM", str(victim)).replace("DEED", deed))
    checkout.edit("stages/colour.py", "        for (image,) in frames:", "        for (image,) in frames:\n            palette.harm(image)")
    done = checkout.run("extract", "tiny", "colour", "palette", "--deadline", 12)
    assert done.returncode == 1
    assert f"failed: 'class1/clip 05': {reason}" in done.stderr
    plan = checkout.plan("colour", "palette")
    assert (plan["colour"]["fresh"], plan["colour"]["failed"]) == (CLIPS - 1, 1)
    assert (plan["palette"]["fresh"], plan["palette"]["failed"]) == (CLIPS, 0)
