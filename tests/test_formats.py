"""What every format of other programs keeps to: each file of `pipeline/formats/` is tested without being named here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import registry
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.formats import readable, writable
from pipeline.testing import FormatContract
from tests.commands import said


class TestFormats(FormatContract):
    names = registry.names("format")


def test_what_is_only_written_or_only_read_is_said_in_one_line(signs: tuple[Home, Manifest], tmp_path: Path) -> None:
    home, _ = signs
    (tmp_path / "source").mkdir()
    out = said(home, "import", "signs", "again", str(tmp_path / "source"), "--format", "lengths", status=2)
    assert f"'lengths' is written by `signcache export` only; what is read: {', '.join(readable())}" in out
    out = said(home, "export", "signs", "resnet50", str(tmp_path / "out"), "--format", "npz", status=2)
    assert f"'npz' is read by `signcache import` only; what is written: {', '.join(writable())}" in out
    assert not (tmp_path / "out").exists()


def test_a_misspelt_format_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(UserError, match=r"no format called 'zar'; did you mean 'zarr'\? Known: .*one file: pipeline/formats/zar\.py"):
        registry.create("format", "zar")
