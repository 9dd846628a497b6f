"""How many rows a forward pass takes: the fastest size that was tried, and no more than the device has memory for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.batching import SIZES, TRIES, BatchSize
from tests.checkout import Checkout

FORWARD = """
    def load(self, device):
        import torch

        def forward(items):
            if len(items) > MOST:
                raise torch.OutOfMemoryError("no memory")
            return items * 2

        return forward

    def select"""


def tried(size: BatchSize, seconds_a_row: dict[int, float]) -> None:
    """Full passes until every size has been tried."""
    for _ in range(TRIES * len(seconds_a_row)):
        size.took(size.rows, size.rows * seconds_a_row[size.rows])


@pytest.mark.parametrize("device", SIZES)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_size_with_the_most_rows_a_second_is_kept(device: str, place: int) -> None:
    size = BatchSize(device)
    best = SIZES[device][place]
    tried(size, {rows: 0.1 if rows == best else 0.2 for rows in SIZES[device]})
    assert size.rows == best
    size.took(best, 1000.0)
    assert size.rows == best


def test_the_first_pass_of_a_size_which_prepares_its_kernels_does_not_condemn_it() -> None:
    size = BatchSize("cpu")
    for rows in SIZES["cpu"]:
        size.took(rows, 100.0)
        size.took(rows, 0.1 if rows == 16 else 10.0)
    assert size.rows == 16


def test_a_pass_that_was_not_full_tells_nothing() -> None:
    size = BatchSize("cpu")
    for _ in range(10):
        size.took(size.rows - 1, 0.001)
    assert (size.rows, size.pace) == (SIZES["cpu"][0], {})


@pytest.mark.parametrize(("most", "expected"), [(100, 64), (3, 2), (1, 1)])
def test_a_size_that_the_device_has_no_memory_for_is_never_taken_again(most: int, expected: int) -> None:
    size = BatchSize("cuda")
    for _ in range(40):
        if size.rows > most:
            assert size.was_too_large()
        else:
            size.took(size.rows, 1 / size.rows)
    assert size.rows == expected


def extraction(folder: Path, most: int) -> Checkout:
    checkout = Checkout.make(folder, clips=2)
    checkout.edit("stages/colour.py", "\n    def select", FORWARD.replace("MOST", str(most)))
    return checkout


def test_clips_are_extracted_in_batches_that_the_device_has_memory_for(tmp_path: Path) -> None:
    checkout = extraction(tmp_path / "checkout", 3)
    done = checkout.run("extract", "tiny", "colour", "palette")
    assert done.returncode == 0, done.stderr
    assert checkout.plan("colour")["colour"]["fresh"] == 2


def test_a_device_without_memory_for_one_row_stops_the_run_in_one_line(tmp_path: Path) -> None:
    done = extraction(tmp_path / "checkout", 0).run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour': cpu has no memory for one row; free some, or use --device cpu" in done.stderr
