"""Berkeley MHAD on a small tree in its exact layout: frames that are mosaics, sensors of their own lengths, two splits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import registry
from pipeline.cache import open_stage
from pipeline.cache.stage import configure, default_stages
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.extraction.extract import Options, extract
from pipeline.extraction.progress import Progress
from pipeline.types import Array, Sample
from tests.commands import run

RED, GREEN, BLUE = 200, 100, 50


def mosaic(height: int = 200, width: int = 220, shift: int = 0) -> Array:
    """`(H, W)` uint8 of one colour, as a filter of green, red / blue, green leaves it."""
    cells = np.full((height, width), GREEN, np.uint8)
    cells[0::2, 1::2], cells[1::2, 0::2] = RED + shift, BLUE
    return cells


def pgm(path: Path, image: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"P5\n{image.shape[1]} {image.shape[0]}\n255\n".encode() + image.tobytes())


def put(root: Path, subject: int, action: int, take: int, *, frames: int = 1, sensors: tuple[int, ...] = (1,)) -> None:
    where, name = f"S{subject:02}/A{action:02}/R{take:02}", f"s{subject:02}_a{action:02}_r{take:02}"
    for frame in range(frames):
        pgm(root / f"Camera/Cluster01/Cam01/{where}/img_l01_c01_{name}_{frame:05}.pgm", mosaic(8, 10) + frame)
    for sensor in sensors:
        path = root / f"Accelerometer/Shimmer{sensor:02}/acc_h{sensor:02}_{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = np.arange(4 * (10 + sensor)).reshape(-1, 4) / 8 + subject
        path.write_text("\n".join(" ".join(map(str, row)) for row in rows.tolist()) + "\n")


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Every subject and three actions, twice each."""
    for subject in range(1, 13):
        for action in (1, 2, 11):
            for take in (1, 2):
                put(tmp_path / "data", subject, action, take)
    return tmp_path / "data"


def bound(root: Path, split: str | None = None) -> Manifest:
    home = Home(root.parent / "cache", root.parent / f"manifests{split or ''}")
    return manifest.bind(home, "berkeley_mhad", root=root, split=split)


def listed(root: Path) -> dict[str, Sample]:
    return {sample.id: sample for sample in registry.create("dataset", "berkeley_mhad").samples(root)}


def test_a_clip_is_a_folder_of_frames_and_a_file_of_each_sensor(tmp_path: Path) -> None:
    put(tmp_path, 4, 8, 1, sensors=(1, 2, 6))
    put(tmp_path, 12, 11, 5, sensors=())
    put(tmp_path, 1, 1, 2, frames=0)
    (tmp_path / "Camera/Cluster01/Cam01/S01/A01/R09").mkdir(parents=True)
    (tmp_path / "Camera/Cluster01/Cam01/S01/notes.txt").write_text("no clip")
    found = listed(tmp_path)
    assert sorted(found) == ["s01_a01_r02", "s04_a08_r01", "s12_a11_r05"]
    assert found["s04_a08_r01"] == Sample(
        "s04_a08_r01",
        {
            "bayer_grbg": ("Camera/Cluster01/Cam01/S04/A08/R01",),
            "inertial": ("Accelerometer/Shimmer01/acc_h01_s04_a08_r01.txt",),
            "inertial_h02": ("Accelerometer/Shimmer02/acc_h02_s04_a08_r01.txt",),
            "inertial_h06": ("Accelerometer/Shimmer06/acc_h06_s04_a08_r01.txt",),
        },
        "a08",
        "test",
        "s04",
    )
    assert set(found["s12_a11_r05"].media) == {"bayer_grbg"}
    assert set(found["s01_a01_r02"].media) == {"inertial"}


def test_the_split_is_that_of_the_self_learning_fusion_and_that_of_others_is_a_word(whole: Path) -> None:
    def tested(table: Manifest) -> set[str | None]:
        return {sample.signer for sample in table.samples if sample.split == "test"}

    own, others = bound(whole), bound(whole, "first_seven")
    assert (own.binding.split, tested(own)) == ("official", {"s04", "s06", "s08", "s10"})
    assert (others.binding.split, tested(others)) == ("first_seven", {"s08", "s09", "s10", "s11", "s12"})
    for table in (own, others):
        validation = {sample.signer for sample in table.samples if sample.split == "val"}
        assert validation
        assert all(sample.split == "val" for sample in table.samples if sample.signer in validation), "a subject is cut whole"
    put(whole, 3, 4, 1)
    again = bound(whole, "first_seven")
    assert Counter(s.split for s in again.samples) == Counter(s.split for s in others.samples) + Counter(train=1)
    with pytest.raises(UserError, match=r"--split first: no such split; use official, signer, first_seven or stratified"):
        bound(whole, "first")


def test_classes_are_the_11_actions_by_number(whole: Path) -> None:
    assert bound(whole).classes == tuple(f"a{number:02}" for number in range(1, 12))


def test_sensors_keep_their_own_lengths_and_the_first_three_columns(whole: Path) -> None:
    put(whole, 1, 1, 1, sensors=(1, 2))
    table, home = bound(whole), Home(whole.parent / "cache", whole.parent / "manifests")
    first = configure(home, table, "inertial")
    assert extract(home, table, [first], Options(device="cpu"), Progress()).failed == {}
    done = run(home, "extract", "berkeley_mhad", "inertial", "--as", "inertial_h02", "--set", "source=inertial_h02")
    assert done.exit_code == 0, done.output
    rows = {name: open_stage("berkeley_mhad", name, cache=home.cache, manifests=home.manifests) for name in ("inertial", "inertial_h02")}
    assert rows["inertial"]["s01_a01_r01"].shape == (11, 3)
    assert rows["inertial_h02"]["s01_a01_r01"].shape == (12, 3)
    np.testing.assert_allclose(rows["inertial"]["s01_a01_r01"][1], np.array([4, 5, 6]) / 8 + 1)


def test_frames_reach_i3d_in_their_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.machine.cores", lambda: 1)
    torch.set_num_threads(1)
    root, name = tmp_path / "data", "s01_a01_r01"
    for frame in range(9):
        pgm(root / f"Camera/Cluster01/Cam01/S01/A01/R01/img_l01_c01_{name}_{frame:05}.pgm", mosaic(shift=frame))
    put(root, 2, 2, 1)
    table, home = bound(root), Home(tmp_path / "cache", tmp_path / "manifests")
    assert default_stages(table) == (["i3d", "inertial"], {})
    stage = configure(home, table, "i3d", now={"window": "9", "frames": "9", "pool": "2", "short_side": "193", "side": "193"})
    assert stage.fingerprint.identity["fields"]["source"] == "bayer_grbg", "that frames are mosaics is part of the identity"
    assert extract(home, table, [stage], Options(device="cpu", only=[name]), Progress()).failed == {}
    seen = np.zeros((9, 193, 193, 3), np.uint8)
    seen[:] = RED, GREEN, BLUE
    seen[..., 0] += np.arange(9, dtype=np.uint8)[:, None, None]
    forward = stage.extractor.load("cpu")
    assert forward is not None
    with torch.inference_mode():
        wanted = forward(torch.from_numpy(seen[None])).numpy()
    found = open_stage("berkeley_mhad", "i3d", cache=home.cache, manifests=home.manifests)[name]
    np.testing.assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())


def test_a_root_without_it_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no Berkeley MHAD at .*: expected Camera/Cluster01/Cam01/S<nn>/A<nn>/R<nn>/img_l01"):
        listed(tmp_path)


def test_two_files_of_one_sensor_are_one_error_that_names_both(tmp_path: Path) -> None:
    put(tmp_path, 1, 1, 1)
    first = tmp_path / "Accelerometer/Shimmer01/acc_h01_s01_a01_r01.txt"
    (tmp_path / "Accelerometer/copy").mkdir()
    (tmp_path / "Accelerometer/copy/acc_h01_s01_a01_r01.txt").write_text(first.read_text())
    with pytest.raises(
        UserError, match=r"two inertial media below .* are of one clip: \S+Shimmer01/acc_h01\S+ and \S+copy/acc_h01\S+; remove one"
    ):
        listed(tmp_path)
