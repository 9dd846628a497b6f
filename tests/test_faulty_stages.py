"""A stage whose own code is at fault stops in one line, and what is finished stays."""

from __future__ import annotations

import pytest

from tests.checkout import Checkout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return (3,)", "return (3,", "stages/colour.py cannot be imported: SyntaxError in line "),
        (
            "from stages import palette",
            "from stages import pallet",
            "stages/colour.py cannot be imported: ImportError: cannot import",
        ),
    ],
    ids=["syntax", "import"],
)
def test_a_stage_that_cannot_be_imported_is_one_line(checkout: Checkout, old: str, new: str, said: str) -> None:
    checkout.edit("stages/colour.py", old, new)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert checkout.plan("palette")["palette"]["fresh"] == 6, "other stages go on"


def test_a_stage_whose_forward_raises_stops_in_one_line_and_keeps_what_is_finished(checkout: Checkout) -> None:
    broken = "    def load(self, device):\n        raise ValueError('no such layer')\n\n    def select"
    checkout.edit("stages/colour.py", "    def select", broken)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour' cannot be loaded: ValueError: no such layer" in done.stderr


def test_rows_of_another_shape_than_declared_are_refused(checkout: Checkout) -> None:
    checkout.edit("stages/colour.py", "return (3,)", "return (1, 3)")
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour' declares rows of (1, 3) and makes (3,); correct row_shape" in done.stderr
