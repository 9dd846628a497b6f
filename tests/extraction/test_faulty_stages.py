"""A stage whose own code is at fault stops in one line, and what is finished stays."""

from __future__ import annotations

import pytest

from tests.checkout import Checkout, write_clip


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("return (3,)", "return (3,", "stages/colour.py cannot be imported: SyntaxError in line "),
        (
            "from stages import palette",
            "from stages import pallet",
            "stages/colour.py cannot be imported: ImportError: cannot import",
        ),
        (
            "return (3,)",
            "return 3",
            "cannot say its row_shape and dtype: TypeError: Value after * must be an iterable, not int;",
        ),
        (
            "return (3,)",
            "raise SystemExit(0)",
            "cannot say its row_shape and dtype: SystemExit: 0; look at stages/colour.py",
        ),
        (
            "    max_frames: int = 30\n\n",
            "    max_frames: int = 30\n    dtype: ClassVar[str] = 'float33'\n\n",
            "cannot say its row_shape and dtype: TypeError: data type 'float33' not understood; look at stages/colour.py",
        ),
    ],
    ids=["syntax", "import", "shape", "exit", "type"],
)
def test_a_stage_that_cannot_be_imported_or_described_is_one_line(checkout: Checkout, old: str, new: str, said: str) -> None:
    checkout.edit("stages/colour.py", "from stages import palette", "from typing import ClassVar\nfrom stages import palette")
    checkout.edit("stages/colour.py", old, new)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert checkout.plan("palette")["palette"]["fresh"] == 6, "other stages go on"


def test_a_stage_that_cannot_be_loaded_is_one_line(checkout: Checkout) -> None:
    broken = "    def load(self, device):\n        raise ValueError('no such layer')\n\n    def select"
    checkout.edit("stages/colour.py", "    def select", broken)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour' cannot be loaded: ValueError: no such layer; look at stages/colour.py\n" in done.stderr


FORWARD = """
    def rows(self, items):
        made = [slice(number, number + 1) for number in range(items)]
        ROWS
        return made

    def load(self, device):
        calls = []

        def forward(items):
            calls.append(items)
            if len(calls) == 3:
                FORWARD
            return items

        return forward

    def select"""


@pytest.mark.parametrize(
    ("forward", "rows", "said"),
    [
        ("raise ValueError('no such layer\\nand more')", "pass", "cannot compute 'class0/clip 04': ValueError: no such layer; look at"),
        ("raise SystemExit(0)", "pass", "cannot compute 'class0/clip 04': SystemExit: 0; look at"),
        ("raise StopIteration", "pass", "cannot compute 'class0/clip 04': StopIteration: ; look at"),
        ("return None", "pass", "cannot compute 'class0/clip 04': AttributeError: 'NoneType' object has no attribute 'numpy'; look at"),
        ("return items[:2]", "pass", "makes 2 rows of 8; correct"),
        ("pass", "if items == 5: raise KeyError(items)", "cannot compute 'class0/clip 04': KeyError: 5; look at"),
        ("pass", "if items == 5: raise SystemExit(0)", "cannot compute 'class0/clip 04': SystemExit: 0; look at"),
        (
            "pass",
            "if items == 5: made.append(slice(4, 6))",
            "cannot compute 'class0/clip 04': ValueError: a row of the items 4:6, where there are 5;",
        ),
    ],
)
def test_what_a_stage_raises_on_the_device_is_one_line_and_what_is_finished_stays(
    checkout: Checkout, forward: str, rows: str, said: str
) -> None:
    if forward == "pass":
        write_clip(checkout.clip(4), 4, frames=5)
    checkout.edit("pipeline/machine.py", "def cores() -> int:", "def cores() -> int:\n    return 1")
    code = FORWARD.replace("FORWARD", forward).replace("ROWS", rows)
    checkout.edit("stages/colour.py", "\n    def select", code)
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert f"signcache: stage 'colour' {said}" in done.stderr
    assert done.stderr.endswith(" stages/colour.py\n")
    assert checkout.plan("colour")["colour"]["fresh"] == 2


def test_a_clip_of_which_a_stage_can_make_no_row_is_that_clips_failure(checkout: Checkout) -> None:
    code = FORWARD.replace("FORWARD", "pass").replace("ROWS", "if items == 5: raise ClipError('shorter than a window')")
    write_clip(checkout.clip(4), 4, frames=5)
    checkout.edit("stages/colour.py", "\n    def select", code)
    checkout.edit("stages/colour.py", "import numpy as np", "import numpy as np\nfrom pipeline.errors import ClipError")
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 1
    assert "failed: 'class0/clip 04': shorter than a window" in done.stderr
    assert checkout.plan("colour")["colour"]["fresh"] == 5


def test_rows_of_another_shape_than_declared_are_refused(checkout: Checkout) -> None:
    checkout.edit("stages/colour.py", "return (3,)", "return (1, 3)")
    done = checkout.run("extract", "tiny", "colour")
    assert done.returncode == 2
    assert "signcache: stage 'colour' declares rows of (1, 3) and makes (3,); correct row_shape" in done.stderr
