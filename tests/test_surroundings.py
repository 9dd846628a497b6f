"""What surrounds an extraction may fail: the disk is full, the cache is read-only, another one runs, the clock is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from pipeline.atomic import seal, unseal
from tests.checkout import PATIENCE, ROOT, Checkout

CLIPS = 24


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A corpus whose shards close at four clips and whose rows are wide enough to fill a small disk."""
    checkout = Checkout.make(tmp_path_factory.mktemp("template") / "checkout", clips=CLIPS)
    checkout.edit("pipeline/cache/shards.py", "SHARD_CLIPS = 64", "SHARD_CLIPS = 4")
    checkout.edit("stages/colour.py", "return (3,)", "return (3, 1000)")
    checkout.edit("stages/colour.py", "yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)", WIDE)
    return checkout


WIDE = "yield np.repeat(image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)[:, None], 1000, 1)"


@pytest.fixture
def checkout(template: Checkout, tmp_path: Path) -> Checkout:
    subprocess.run(["cp", "-a", str(template.folder), str(tmp_path / "checkout")], check=True)
    copy = Checkout(tmp_path / "checkout")
    copy.ok("manifest", "tiny", "--root", copy.folder / "clips")
    return copy


@pytest.fixture
def small_disk(checkout: Checkout) -> Iterator[Path]:
    """The checkout's cache on a file system of 1 MiB."""
    folder = checkout.folder / "cache"
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no right to mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def one_line(err: str, text: str) -> None:
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("signcache: ")]
    assert len(lines) == 1, err
    assert text in lines[0]


def test_a_full_disk_is_one_line_and_finished_clips_go_on_from_there(checkout: Checkout, small_disk: Path) -> None:
    checkout.edit("pipeline/extraction/estimate.py", "PROBED = 8, 64, 5", "PROBED = 8, 64, 0")  # lengths unknown: it starts
    full = checkout.run("extract", "tiny", "colour")
    assert full.returncode == 2
    one_line(full.stderr, f"cannot write to the cache {small_disk}: No space left on device; finished clips and what is published are kept")
    fresh = checkout.plan("colour")["colour"]["fresh"]
    assert fresh == sum(len(marker["rows"]) for marker in checkout.markers("colour").values())
    assert checkout.plan("colour")["colour"]["failed"] == 0, "a full disk is no clip's failure"
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    assert checkout.extracted("colour") == {"colour": CLIPS - fresh}
    assert all(shape == (8, 3, 1000) for shape, _ in checkout.rows("colour").values())


def test_a_read_only_cache_is_one_line(checkout: Checkout, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = checkout.run("extract", "tiny", "colour")
    assert refused.returncode == 2
    one_line(refused.stderr, f"cannot write to the cache {small_disk}: Read-only file system")


def test_a_published_read_only_cache_trains_and_has_nothing_to_do(checkout: Checkout, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    checkout.ok("extract", "tiny", "colour")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert len(checkout.rows("colour")) == CLIPS
    assert checkout.plan("colour")["colour"]["fresh"] == CLIPS
    assert checkout.extracted("colour") == {}


def test_what_deletes_and_an_extraction_keep_each_other_out(checkout: Checkout) -> None:
    checkout.slow("palette", 0.05)
    first = checkout.start("extract", "tiny", "palette")
    assert first.stderr is not None
    next(line for line in first.stderr if line.startswith("palette: 1/"))
    second = checkout.run("drop", "tiny", "palette", "--yes")
    assert second.returncode == 2
    one_line(second.stderr, "an extraction of tiny/palette is running; wait for it, then run this again")
    with FileLock(checkout.folder / "cache/tiny/colour/.lock"):
        third = checkout.run("extract", "tiny", "colour")
    assert third.returncode == 2
    one_line(third.stderr, "tiny/colour is being imported, adopted, mended or cleaned up; wait for it, then run this again")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert checkout.run("extract", "tiny", "palette").returncode == 0, "the lock of a killed run must not stay"


def test_readers_keep_what_they_opened_while_the_stage_is_rebuilt(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "colour")
    from pipeline.cache.publishing import Features
    from pipeline.cache.stage import published
    from pipeline.corpus.manifest import Home

    home = Home(checkout.folder / "cache", checkout.folder / "manifests")
    said = published(home, "tiny", "colour")
    assert said is not None
    features = Features(home, "tiny", "colour", said)
    before = {clip: np.array(features[clip]) for clip in features}
    checkout.edit("stages/palette.py", "SCALE = 1.0", "SCALE = 2.0")
    checkout.ok("extract", "tiny", "colour")
    late = Features(home, "tiny", "colour", said) if (features.folder / said.index).exists() else features
    for clip, rows in before.items():
        np.testing.assert_array_equal(features[clip], rows)
        np.testing.assert_array_equal(late[clip], rows)


def test_a_clock_that_was_set_back_changes_nothing(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "colour")
    ahead = time.time() + 10 * 365 * 86400
    for path in (checkout.folder / "cache").rglob("*"):
        os.utime(path, (ahead, ahead))
    for path in checkout.markers("colour"):
        content = unseal(path.read_bytes())
        path.write_bytes(seal({**content, "made": {**content["made"], "at": ahead}}))
    assert checkout.plan("colour")["colour"]["fresh"] == CLIPS
    assert checkout.extracted("colour") == {}


def test_a_cache_on_another_file_system_is_a_cache(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm") / f"signcache-test-{os.getpid()}"  # noqa: S108 (the other file system that most machines have)
    if not elsewhere.parent.is_dir():
        pytest.skip("no /dev/shm here")
    try:
        checkout.ok("--cache", elsewhere, "extract", "tiny", "palette")
        status = checkout.ok("--cache", elsewhere, "plan", "tiny", "palette", "--json")
        assert json.loads(status.stdout)["stages"]["palette"]["fresh"] == CLIPS
    finally:
        subprocess.run(["rm", "-rf", str(elsewhere)], check=True)


def test_one_stage_may_hold_shards_of_both_stores(checkout: Checkout) -> None:
    checkout.ok("extract", "tiny", "colour", "--limit", "5", "--store", "hdf5")
    checkout.ok("extract", "tiny", "colour")
    suffixes = {path.suffix for path in (checkout.folder / "cache/tiny/colour").glob("*/*-*") if path.suffix not in (".json", ".npz")}
    assert suffixes == {".h5", ".zarr"}
    assert len(checkout.rows("colour")) == CLIPS


def test_ctrl_c_after_the_end_changes_no_exit_status() -> None:
    code = """if True:
        import os
        class Last:
            def __init__(self):
                self.kill, self.process = os.kill, os.getpid()
            def __del__(self):
                self.kill(self.process, 2)
                print("interrupted")
        last = Last()
        from pipeline.cli import main
        main(["extract", "--help"])"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("interrupted\n")
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_while_a_class_is_made_from_text_is_an_interruption_like_any(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text("""if True:
        import sys
        sys.argv = ["signcache", "plan", "signs"]
        import pipeline.learning.devices
        from pipeline.cli import main
        main.commands["plan"].callback = lambda **_: exec("import os; os.kill(os.getpid(), 2)\\nwhile True: pass")
        main()""")
    command, env = [sys.executable, "-m", "interrupted"], {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    one_line(done.stderr.strip(), "interrupted; finished clips are kept. Go on with: signcache plan signs")


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.6])
def test_ctrl_c_in_any_phase_ends_in_one_line_and_loses_nothing(checkout: Checkout, seconds: float) -> None:
    process = checkout.start("extract", "tiny", "colour", "palette")
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode in (0, 130), err
    if process.returncode:
        one_line(err, "interrupted; finished clips are kept. Go on with: signcache extract tiny colour palette")
    plan = checkout.plan("colour", "palette")
    for stage in ("colour", "palette"):
        assert plan[stage]["fresh"] == sum(len(marker["rows"]) for marker in checkout.markers(stage).values())
    checkout.ok("extract", "tiny", "colour", "palette")
    assert len(checkout.rows("colour")) == len(checkout.rows("palette")) == CLIPS
