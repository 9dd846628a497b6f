"""Media that are no video: every form gives one instant a row, and a bad file says why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.corpus.media import content_of, exists, files_of, natural, series_name, stat_of
from pipeline.decoding.decode import open_clip
from pipeline.errors import ClipError
from pipeline.types import Array


def frames(path: Path) -> list[Array]:
    """Every frame of the one track of a clip."""
    clip = open_clip([path], decord=True, lengths={})
    return [frame for (frame,) in clip.frames(np.arange(clip.length))]


def rows(path: Path) -> Array:
    return np.stack(frames(path))


ROWS = np.arange(15.0).reshape(5, 3) / 4


def test_rows_of_every_form_are_the_same(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", ROWS)
    scipy.io.savemat(tmp_path / "a.mat", {"d_iner": ROWS})
    np.savetxt(tmp_path / "a.txt", ROWS)
    np.savetxt(tmp_path / "a.csv", ROWS, delimiter=",", header="x,y,z", comments="")
    for suffix in ("npy", "mat", "txt", "csv"):
        np.testing.assert_array_equal(rows(tmp_path / f"a.{suffix}"), ROWS)


@pytest.mark.parametrize(("key", "shape"), [("d_skel", (20, 3, 7)), ("d_depth", (24, 32, 5)), ("anything", (2, 2, 9))])
def test_the_last_of_three_axes_of_a_matlab_file_is_time(key: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).random(shape)
    scipy.io.savemat(tmp_path / "a.mat", {key: values})
    found = frames(tmp_path / "a.mat")
    assert len(found) == shape[2]
    for instant, frame in enumerate(found):
        np.testing.assert_array_equal(frame, values[..., instant])


@pytest.mark.parametrize(
    "text",
    ["1 2\n3 4\n", "1,2\n3,4", "1;2\r\n3;4\r\n", "\ufeff1\t2\n3\t4\n", "# made by a watch\n1 2\n\n3 4 # end\n", "ax, ay\n1, 2\n3, 4\n"],
)
def test_text_may_be_separated_by_anything_usual(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode())
    np.testing.assert_array_equal(rows(tmp_path / "a.txt"), [[1, 2], [3, 4]])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(length=st.integers(1, 6), width=st.integers(1, 5), separator=st.sampled_from([",", ";", " ", "\t"]), seed=st.integers(0, 3))
def test_written_numbers_are_read_back_exactly(length: int, width: int, separator: str, seed: int, tmp_path: Path) -> None:
    values = np.random.default_rng(seed).normal(size=(length, width)) * 10.0**seed
    (tmp_path / "a.csv").write_text("\n".join(separator.join(map(repr, row)) for row in values.tolist()))
    np.testing.assert_array_equal(rows(tmp_path / "a.csv"), values)


def test_lists_of_a_json_are_fields_of_its_rows(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"uid": "x", "n": 2, "p": [[1, 2], [NaN, null]], "q": [[1], NaN], "t": [0.5, null]}')
    first, second = frames(tmp_path / "a.json")
    assert first.dtype.names == ("p", "q", "t")
    np.testing.assert_array_equal(first["p"], [1, 2])
    np.testing.assert_array_equal(second["p"], [np.nan, np.nan])
    np.testing.assert_array_equal([second["q"][0], second["t"]], [np.nan, np.nan])


def write(path: Path, content: Any) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", "", "a.txt is empty"),
        ("a.txt", "# nothing\n", "a.txt holds no frames"),
        ("a.txt", "1 2\n3\n", "a.txt, line 2: 1 values after lines of 2"),
        ("a.csv", "1,2\nthree,4\n", "a.csv, line 2: could not convert string to float: 'three'"),
        ("a.csv", b"\xff\xfe1\x00", "a.csv cannot be read as text"),
        ("a.mat", "no matlab", "a.mat is no MATLAB file that can be read"),
        ("a.json", "{", "a.json is no JSON object of lists"),
        ("a.json", "[1]", "a.json is no JSON object of lists"),
        ("a.json", '{"uid": 1}', "a.json holds no lists"),
        ("a.json", '{"p": [1], "q": [1, 2]}', "a.json: its lists differ in length: p 1, q 2"),
        ("a.json", '{"p": [[1, 2], [1]]}', "a.json: p has 1 values in row 1, 2 in others"),
        ("a.json", '{"p": ["x"]}', "a.json: p holds what is no number"),
        ("a.json", '{"p": []}', "a.json holds no frames"),
    ],
)
def test_a_bad_file_says_why(name: str, content: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=reason):
        frames(write(tmp_path / name, content))


def test_a_matlab_file_of_several_arrays_names_them(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"x": ROWS, "y": ROWS[:2]})
    with pytest.raises(ClipError, match=r"a\.mat is to hold one array of numbers; it holds x \(5, 3\), y \(2, 3\)"):
        frames(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "b.mat", {"name": "walk"})
    with pytest.raises(ClipError, match=r"b\.mat is to hold one array of numbers; it holds name"):
        frames(tmp_path / "b.mat")


@pytest.mark.parametrize("name", ["gone.npy", "gone.mat", "gone.csv", "gone.json", "gone.*.jpg"])
def test_a_missing_file_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="is missing"):
        frames(tmp_path / name)
    assert not exists(tmp_path / name)
    assert content_of([tmp_path / name]) == ""


def image(path: Path, value: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(path)
    return path


def test_frames_of_a_series_come_by_their_number(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        image(tmp_path / f"v1.clip.{number}.png", number)
    image(tmp_path / "v2.clip.1.png", 99)
    assert [frame[0, 0, 0] for frame in frames(tmp_path / "v1.clip.*.png")] == [1, 2, 10]
    assert [path.name for path in files_of(tmp_path / "v2.clip.*.png")] == ["v2.clip.1.png"]


def test_a_series_that_got_a_frame_is_another_clip(tmp_path: Path) -> None:
    image(tmp_path / "c.1.png", 1)
    track = [tmp_path / "c.*.png"]
    before = stat_of(track), content_of(track)
    image(tmp_path / "c.2.png", 2)
    os.utime(tmp_path, ns=(1, 1))
    assert exists(track[0])
    assert stat_of(track) != before[0]
    assert content_of(track) != before[1]


def test_a_broken_image_fails_its_clip(tmp_path: Path) -> None:
    image(tmp_path / "c.1.jpg", 1)
    write(tmp_path / "c.2.jpg", "no image")
    with pytest.raises(ClipError, match=r"c\.2\.jpg cannot be decoded"):
        frames(tmp_path / "c.*.jpg")


def test_a_folder_of_arrays_is_a_clip_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    for number in range(12):
        np.save(tmp_path / f"{number}.npy", np.full(4, number, np.float64))
    assert rows(tmp_path)[:, 0].tolist() == list(range(12))
    (tmp_path / "5.npy").unlink()
    with pytest.raises(ClipError, match="has frame 4 and then 6: one is missing"):
        rows(tmp_path)


def test_frames_of_one_folder_have_one_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros(4))
    np.save(tmp_path / "1.npy", np.zeros(5))
    with pytest.raises(ClipError, match=r"1\.npy is \(5,\), 0\.npy is \(4,\)"):
        rows(tmp_path)
    write(tmp_path / "notes.txt", "x")
    with pytest.raises(ClipError, match="holds other files than frames"):
        rows(tmp_path)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=8))
def test_names_with_numbers_are_ordered_by_value(numbers: list[int]) -> None:
    names = [f"clip.{number}.jpg" for number in numbers]
    assert sorted(names, key=natural) == [f"clip.{number}.jpg" for number in sorted(numbers)]
    assert {series_name(name) for name in names} == {"clip.*.jpg"}


def test_json_of_a_real_form_is_read_in_a_moment(tmp_path: Path) -> None:
    content = {"uid": "x", "pose_x": [[0.5] * 33] * 100, "hand1_x": [[float("nan")] * 21] * 100}
    write(tmp_path / "a.json", json.dumps(content))
    assert rows(tmp_path / "a.json")["pose_x"].shape == (100, 33)
