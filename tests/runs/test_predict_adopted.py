"""A run predicts files with features that were adopted from those it was trained on, and with no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cache import identity
from pipeline.corpus.manifest import Home
from tests.commands import said
from tests.runs.test_predict import Trained, train, write_frames


def test_a_run_of_before_a_refactor_predicts_once_its_features_are_adopted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    for number in range(12):
        write_frames(tmp_path / "MP_Data" / f"class{number % 2}" / f"clip {number}", number)
    write_frames(tmp_path / "new" / "clip", 100)
    said(home, "manifest", "tiny", "--corpus", "mp_data", "--root", tmp_path)
    with monkeypatch.context() as before:
        before.setattr(identity, "NUMBERS_VERSION", 0)
        said(home, "extract", "tiny", "mp_data")
        run = Trained(home, tmp_path, train(home, "tiny", "lstm_late", "--set", "stages=mp_data"))
        first, _ = run.predict(tmp_path / "new")
    assert "the run was trained on other features than tiny/mp_data makes today (decoding of signcache 0 -> 1)" in run.refused(
        tmp_path / "new"
    )
    said(home, "adopt", "tiny", "mp_data", "--sample", "2")
    again, _ = run.predict(tmp_path / "new")
    assert again == first
