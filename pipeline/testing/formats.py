"""What every format of other programs keeps to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline import registry
from pipeline.corpus.manifest import Binding, Manifest
from pipeline.errors import UserError
from pipeline.formats import Format, Incoming, Outgoing, clips_of
from pipeline.testing._contract import Contract
from pipeline.testing.models import Rows
from pipeline.types import Array, Sample


def format_of(name: str) -> Format:
    """The format of this name."""
    found: Format = registry.create("format", name)
    return found


def outgoing() -> Outgoing:
    """Published features of five clips of two classes, 1 to 5 rows of three values each."""
    rows = {f"{label}/clip{n}": np.arange(3 * n, dtype=np.float32).reshape(n, 3) + 1 for n, label in enumerate("ababa", 1)}
    samples = tuple(Sample(clip, {}, clip[0], "train", None) for clip in rows)
    features = Rows(rows, (3,))
    features.index.position = {clip: number for number, clip in enumerate(rows)}
    features.index.columns = {"source_length": np.array([10 * len(each) for each in rows.values()])}
    table = Manifest("signs", Binding("folder", Path("data"), "official", 0), ("a", "b"), samples)
    return Outgoing(table, features, samples)  # type: ignore[arg-type]


class FormatContract(Contract):
    """A format is read, written, or both; what it wrote it reads again; what is not of it is one line."""

    def concerns(self, name: str, fixtures: Sequence[str]) -> bool:
        found = format_of(name)
        return ("reads" not in fixtures or found.read is not None) and ("writes" not in fixtures or found.write is not None)

    @pytest.fixture
    def reads(self) -> None:
        """A test of formats that are read."""

    @pytest.fixture
    def writes(self) -> None:
        """A test of formats that are written."""

    def test_a_format_is_read_or_written(self, name: str) -> None:
        found = format_of(name)
        assert found.read or found.write

    def test_what_is_not_of_the_format_is_one_line(self, name: str, reads: None, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "text.npy").write_text("no array\n")
        for source in (tmp_path / "gone", tmp_path / "empty", tmp_path / "text.npy"):
            with pytest.raises(UserError) as told:
                list(clips_of(source, name))
            assert "\n" not in str(told.value)

    def test_what_was_written_is_read_again(self, name: str, reads: None, writes: None, tmp_path: Path) -> None:
        source, out = outgoing(), tmp_path / "out"
        write = format_of(name).write
        assert write is not None
        write(source, out)
        found = {_whole_id(clip, set(source.features)): clip for clip in clips_of(out, name)}
        assert set(found) == set(source.features)
        for clip, rows in source.features.items():
            _same(found[clip], rows, clip[0])

    def test_a_source_is_read_in_one_order(self, name: str, reads: None, writes: None, tmp_path: Path) -> None:
        write = format_of(name).write
        assert write is not None
        write(outgoing(), tmp_path / "out")
        one, other = ([clip.ids for clip in clips_of(tmp_path / "out", name)] for _ in range(2))
        assert one == other


def _whole_id(clip: Incoming, known: set[str]) -> str:
    return next(name for name in clip.ids if name in known)


def _same(clip: Incoming, rows: Array, label: str) -> None:
    np.testing.assert_array_equal(clip.rows, rows)
    assert clip.label == label
