"""Rows belong to the code and weights that made them, whatever happens to the files of a stage while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.checkout import Checkout, write_clip

PLANNED = "    progress.start({name: len(result.todo)"
"""In `pipeline/extraction/extract.py`: the stages are fingerprinted, no decode process has started."""
SCALED = '''"""Mean colours times a weight, on the device."""

import numpy as np

from pipeline.types import Extractor


class Scaled(Extractor):
    """`(T, H, W, 3)` uint8 -> `(T, 3)` float32."""

    source: str = "rgb"
    weights: str = "scale.bin"

    @property
    def row_shape(self):
        return (3,)

    def prepare(self, frames):
        for (image,) in frames:
            yield image.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)

    def load(self, device):
        scale = float(np.fromfile(self.weights, np.float64)[0])
        return lambda items: items * scale


stage = Scaled
'''


@pytest.fixture
def copy(checkout: Checkout) -> Checkout:
    """A checkout with a clip to do of every stage, none of which is published as a whole."""
    write_clip(checkout.clip(6), 6)
    return checkout


def edited_by_the_run(checkout: Checkout, file: str, old: str, new: str, at: str = PLANNED) -> None:
    """Once the run is there, before its decode processes start, it makes this edit itself."""
    path = str(checkout.folder / file)
    edit = f"import pathlib; p = pathlib.Path({path!r}); p.write_text(p.read_text().replace({old!r}, {new!r}))"
    checkout.edit("pipeline/extraction/extract.py", at, f"    {edit}\n{at}")


def put_back(checkout: Checkout, texts: dict[str, str]) -> None:
    for file, text in texts.items():
        (checkout.folder / file).write_text(text)


def refused(checkout: Checkout, *arguments: str, reason: str) -> str:
    """What it said."""
    done = checkout.run("extract", "tiny", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.splitlines()[-1].startswith("signcache: ")
    assert reason in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stages/colour.py", "axis=(0, 1), dtype=np.float64", "axis=(0, 1), dtype=np.float32"),
        ("stages/palette.py", "SCALE = 1.0", "SCALE = 9.0"),
    ],
    ids=["its own file", "a file that it imports"],
)
@pytest.mark.parametrize("workers", ["0", "1"])
def test_code_edited_after_planning_makes_no_rows(copy: Checkout, tmp_path: Path, file: str, old: str, new: str, workers: str) -> None:
    texts = {name: (copy.folder / name).read_text() for name in (file, "pipeline/extraction/extract.py")}
    edited_by_the_run(copy, file, old, new)
    here = f"stage 'colour' changed while it ran (code of {file}); finished clips are kept"
    said = refused(copy, "colour", "--workers", workers, reason=here if workers == "0" else "none of the 1 workers can take part")
    assert workers == "0" or f"colour differs there (code of {file})" in said
    put_back(copy, texts)
    assert copy.extracted("colour") == {"colour": 1}, "put back, nothing of the other code is there"


def test_a_piece_that_is_imported_only_when_frames_come_is_compared_too(copy: Checkout) -> None:
    late = copy.folder / "stages/_late.py"
    late.write_text("GAIN = 1.0\n")
    loop, begun = "        for (image,) in frames:", "    job.moved()\n    prepared"
    copy.edit("stages/colour.py", loop, f"        from stages import _late\n{loop}")
    copy.edit("stages/colour.py", "* palette.SCALE", "* palette.SCALE * _late.GAIN")
    copy.edit("pipeline/extraction/preparing/preparation.py", begun, f"    open({str(late)!r}, 'w').write('GAIN = 2.0')\n{begun}")
    refused(copy, "colour", reason="stage 'colour' changed while it ran (code of stages/_late.py)")
    late.write_text("GAIN = 1.0\n")
    assert copy.plan("colour")["colour"]["fresh"] == 0


def test_a_derived_stage_edited_while_the_others_run_makes_no_rows(copy: Checkout) -> None:
    texts = {name: (copy.folder / name).read_text() for name in ("stages/brightness.py", "pipeline/extraction/extract.py")}
    edited_by_the_run(copy, "stages/brightness.py", "* self.gain", "+ self.gain")
    refused(copy, "brightness", reason="stage 'brightness' changed while it ran (code of stages/brightness.py)")
    put_back(copy, texts)
    assert copy.extracted("brightness") == {"brightness": 1}


def test_code_that_no_decode_process_can_import_ends_the_run(copy: Checkout) -> None:
    texts = {name: (copy.folder / name).read_text() for name in ("stages/colour.py", "pipeline/extraction/extract.py")}
    edited_by_the_run(copy, "stages/colour.py", "return (3,)", "return (3,")
    refused(
        copy,
        "colour",
        reason="a stage changed while it ran, and cannot be imported now: SyntaxError: '(' was never closed (colour.py",
    )
    put_back(copy, texts)
    assert copy.extracted("colour") == {"colour": 1}


def test_weights_replaced_between_planning_and_loading_make_no_rows(copy: Checkout) -> None:
    import numpy as np

    (copy.folder / "stages/scaled.py").write_text(SCALED)
    weights = copy.folder / "scale.bin"
    np.array([1.0]).tofile(weights)
    before = (copy.folder / "pipeline/extraction/extract.py").read_text()
    swap = f"import numpy; numpy.array([2.0]).tofile({str(weights)!r})"
    copy.edit("pipeline/extraction/extract.py", PLANNED, f"    {swap}\n{PLANNED}")
    refused(copy, "scaled", reason="stage 'scaled' changed while it ran (weights file ")
    put_back(copy, {"pipeline/extraction/extract.py": before})
    np.array([1.0]).tofile(weights)
    assert copy.extracted("scaled") == {"scaled": 7}
