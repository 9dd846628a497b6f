"""Exports hold the published rows and open with plain libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.types import Array
from tests.commands import said
from tests.feature_cache import balanced, corpus, publish, signals


@pytest.fixture(scope="module")
def signs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Manifest, dict[str, Array]]:
    """Twelve clips of which one failed."""
    home, table = corpus(tmp_path_factory.mktemp("signs"), balanced(2, 4, 1))
    rows = signals(table)
    del rows["sign1/train2"]
    publish(home, table, rows, failed={"sign1/train2": "it holds no frames"}, shard_clips=5)
    return home, table, rows


def test_npy_is_one_file_a_clip_in_the_folders_of_its_id(signs: tuple[Home, Manifest, dict[str, Array]], tmp_path: Path) -> None:
    home, _, rows = signs
    out = said(home, "export", "signs", "resnet50", tmp_path / "out")
    assert out.startswith(f"{tmp_path / 'out'}: 11 clips, ")
    assert "1 clips have no features and are left out: 'sign1/train2'; see: signcache status signs" in out
    files = {path.relative_to(tmp_path / "out").with_suffix("").as_posix(): np.load(path) for path in (tmp_path / "out").rglob("*.npy")}
    assert files.keys() == rows.keys()
    for clip, values in rows.items():
        np.testing.assert_array_equal(files[clip], values, strict=True)


@pytest.mark.parametrize("group_bytes", [1, 64 << 20])
@pytest.mark.parametrize("form", ["zarr", "hdf5"])
def test_dense_arrays_are_padded_with_zeros_and_carry_lengths_ids_and_labels(
    signs: tuple[Home, Manifest, dict[str, Array]], tmp_path: Path, form: str, group_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, table, rows = signs
    monkeypatch.setattr("pipeline.formats._clips.GROUP_BYTES", group_bytes)
    said(home, "export", "signs", "resnet50", tmp_path / "out", "--format", form)
    opened: Any = zarr.open_group(tmp_path / "out", mode="r") if form == "zarr" else h5py.File(tmp_path / "out")
    features, lengths = np.asarray(opened["features"]), np.asarray(opened["lengths"])
    ids, labels = ([str(word) for word in _texts(opened[name])] for name in ("ids", "labels"))
    longest = max(map(len, rows.values()))
    assert features.shape == (11, longest, 2048)
    assert features.dtype == np.float32
    assert ids == [sample.id for sample in table.samples if sample.id in rows]
    assert labels == [clip.partition("/")[0] for clip in ids]
    assert list(opened.attrs["classes"]) == ["sign0", "sign1"]
    for i, clip in enumerate(ids):
        assert lengths[i] == len(rows[clip])
        np.testing.assert_array_equal(features[i, : lengths[i]], rows[clip], strict=True)
        assert not features[i, lengths[i] :].any()


def _texts(found: Any) -> Array:
    return np.asarray(found.asstr()[:] if isinstance(found, h5py.Dataset) else found[:])


def test_lengths_are_the_lis_systems_tables(tmp_path: Path) -> None:
    """Official folders count, not the validation part that the manifest cut out of train."""
    root = tmp_path / "lis"
    clips = [("train/0_A", f"SAMPLE_{i}") for i in range(10)] + [("val", "SAMPLE_0"), ("test", "SAMPLE_7")]
    for folder, clip in clips:
        (root / folder / clip).mkdir(parents=True)
        for name in ("RGB.mkv", "RDM1.mp4", "RDM2.mp4", "RDM3.mp4"):
            (root / folder / clip / f"{clip}_{name}").write_text(folder + clip + name)
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    table = manifest.bind(home, "lis", corpus="lis", root=root)
    rows = {sample.id: np.zeros((n + 1, 2048), np.float32) for n, sample in enumerate(table.samples)}
    publish(home, table, rows)
    said(home, "export", "lis", "resnet50", tmp_path / "out", "--format", "lengths")
    found = {path.name: json.loads(path.read_text()) for path in (tmp_path / "out").iterdir()}
    assert found["lengths_train.json"] == {f"SAMPLE_{i}": len(rows[f"0_A/SAMPLE_{i}"]) for i in range(10)}
    assert found["lengths_val.json"] == {"SAMPLE_0": len(rows["SAMPLE_0"])}
    assert found["lengths_test.json"] == {"SAMPLE_7": len(rows["SAMPLE_7"])}


def test_nothing_is_overwritten_and_nothing_half_is_left(
    signs: tuple[Home, Manifest, dict[str, Array]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = signs[0]
    (tmp_path / "mine").write_text("mine")
    out = said(home, "export", "signs", "resnet50", tmp_path / "mine", "--format", "hdf5", status=2)
    assert out == f"signcache: {tmp_path / 'mine'} exists already; remove it or choose another place\n"
    out = said(home, "export", "signs", "resnet50", tmp_path / "mine" / "out", status=2)
    assert f"{tmp_path / 'mine' / 'out'} cannot be written: " in out
    monkeypatch.setattr(np, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    out = said(home, "export", "signs", "resnet50", tmp_path / "out", status=2)
    assert out == f"signcache: {tmp_path / 'out'} cannot be written: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_disk_that_cannot_hold_it_is_said_before(
    signs: tuple[Home, Manifest, dict[str, Array]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(0, 0, 10_000))
    out = said(signs[0], "export", "signs", "resnet50", tmp_path / "out", "--format", "zarr", status=2)
    assert f"{tmp_path / 'out'} needs 631 kB and 10.0 kB are free there; choose another place" in out
    assert not list(tmp_path.iterdir())


def test_what_is_not_published_is_one_line(signs: tuple[Home, Manifest, dict[str, Array]], tmp_path: Path) -> None:
    out = said(signs[0], "export", "signs", "radar_cnn", tmp_path / "out", status=2)
    assert "no features of signs/radar_cnn are published; run: signcache extract signs radar_cnn" in out
