"""How many rows a forward pass takes: no more than the device has memory for, and never so few that their last bits differ."""

from __future__ import annotations

from pathlib import Path

from tests.checkout import Checkout

FORWARD = """
    def load(self, device):
        import torch

        def forward(items):
            if len(items) > MOST:
                raise torch.OutOfMemoryError("no memory")
            if len(items) not in (2, 4, 8):
                raise ValueError(f"a pass of {len(items)} rows")
            return items * 2

        return forward

    def select"""


def extraction(folder: Path, most: int) -> Checkout:
    checkout = Checkout.make(folder, clips=2)
    checkout.edit("stages/colour.py", "\n    def select", FORWARD.replace("MOST", str(most)))
    return checkout


def test_clips_are_extracted_in_batches_that_the_device_has_memory_for(tmp_path: Path) -> None:
    checkout = extraction(tmp_path / "checkout", 3)
    done = checkout.run("extract", "tiny", "colour", "palette", "--set", "max_frames=5")
    assert done.returncode == 0, done.stderr
    assert checkout.plan("colour")["colour"]["fresh"] == 2


def test_passes_are_of_sizes_whose_kernels_agree_to_the_bit(tmp_path: Path) -> None:
    checkout = extraction(tmp_path / "checkout", 8)
    for frames in ("1", "3", "4"):
        done = checkout.run("extract", "tiny", "colour", "--set", f"max_frames={frames}")
        assert done.returncode == 0, done.stderr


def test_a_device_without_memory_for_one_row_stops_the_run_in_one_line(tmp_path: Path) -> None:
    done = extraction(tmp_path / "checkout", 0).run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour': cpu has no memory for one row; free some, or use --device cpu" in done.stderr


def test_rows_are_the_same_where_passes_are_on_their_way_as_others_are_gathered(tmp_path: Path) -> None:
    found = []
    for name, passes in (("one", 0), ("two", 2)):
        checkout = extraction(tmp_path / name, 8)
        checkout.edit("pipeline/extraction/forward_passes.py", '"cpu": 0', f'"cpu": {passes}')
        checkout.ok("extract", "tiny", "colour", "--set", "max_frames=7")
        found.append(checkout.rows("colour"))
    assert found[0] == found[1]
