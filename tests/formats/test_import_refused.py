"""What cannot be imported is one line that names it, and nothing is left behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from pipeline.formats import import_rows
from tests.feature_cache import corpus, publish, signals
from tests.import_sources import lis, rows, run, sequences


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


def broken(path: Path, **changed: Any) -> tuple[Path, str]:
    return sequences(path / "s.npz", **changed), "npz"


X = np.stack([rows(5, seed) for seed in range(8)])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"x": np.where(np.arange(8)[:, None, None] == 6, np.nan, X)}, "'b/2' holds NaN or infinity in row 0; mend or leave out that clip"),
        ({"sequence": np.array(["0"] * 8)}, "holds 'a/0' twice; each clip may come once"),
        ({"label": np.array(["a", "", *"aabbbb"])}, r"clip 1 \(sequence '1'\) has no label"),
        ({"label": None}, "has no labels: expected an array 'label' with one value a clip beside x"),
        ({"label": np.array(["a"] * 7)}, "has 7 values of 'label' for 8 clips"),
        ({"x": X[:, 0]}, r"is to hold an array x of \(clips, rows, values\); it holds x \(8, 4\), label \(8,\), sequence \(8,\)"),
        ({"x": X[:, :, :0]}, r"'a/0' is \(5, 0\); expected \(rows, values\)"),
        ({"x": np.array([{}] * 8, dtype=object)}, r"is no \.npz file of plain arrays"),
        ({"length": np.array([-1] * 8)}, "clip 'a/0' has the length '-1'"),
        ({"length": np.array(["five"] * 8)}, "clip 'a/0' has the length 'five'; expected a whole number, 0 or more"),
        ({"length": np.array([2.5] * 8)}, "clip 'a/0' has the length '2.5'; expected a whole number"),
        ({"length": np.array([np.nan] * 8)}, "clip 'a/0' has the length 'nan'; expected a whole number"),
        ({"length": np.array([np.inf] * 8)}, "clip 'a/0' has the length 'inf'; expected a whole number"),
        ({"sequence": None, "id": np.array(["", *"bcdefgh"])}, "clip 0 has the id ''; expected one character or more, and no NUL"),
        ({"sequence": None, "id": np.array(["a", "b\0c", *"cdefgh"])}, r"clip 1 has the id 'b\\x00c'; expected one character or more"),
        ({"split": np.array(["dev"] * 8)}, "split 'dev' is none of train, val, test"),
    ],
)
def test_a_bad_npz_is_one_line_and_leaves_nothing(changed: dict[str, Any], reason: str, home: Home, tmp_path: Path) -> None:
    source, form = broken(tmp_path, **changed)
    with pytest.raises(UserError, match=reason) as told:
        import_rows(home, "signs", "holistic", source, form)
    assert "\n" not in str(told.value)
    assert not home.manifests.exists()
    assert not home.cache.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_npz_is_one_line(share: float, compressed: bool, home: Home, tmp_path: Path) -> None:
    source = tmp_path / "s.npz"
    (np.savez_compressed if compressed else np.savez)(source, x=X, label=np.array([*"aabbccdd"]))
    content = source.read_bytes()
    source.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"s\.npz is no \.npz file of plain arrays: ") as told:
        import_rows(home, "signs", "holistic", source, "npz")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("compressed", [False, True])
def test_an_npz_of_spoilt_bytes_is_one_line(compressed: bool, home: Home, tmp_path: Path) -> None:
    source = tmp_path / "s.npz"
    (np.savez_compressed if compressed else np.savez)(source, x=X, label=np.array([*"aabbccdd"]))
    content = bytearray(source.read_bytes())
    content[150:190] = bytes(40)
    source.write_bytes(content)
    with pytest.raises(UserError, match=r"s\.npz is no \.npz file of plain arrays: ") as told:
        import_rows(home, "signs", "holistic", source, "npz")
    assert "\n" not in str(told.value)


def spoil_width(root: Path) -> None:
    np.save(root / "train" / "0_SI" / "SAMPLE_001.npy", np.zeros((30, 5), np.float32))


def spoil_length(root: Path) -> None:
    (root / "lengths_val.json").write_text("{}")


def spoil_count(root: Path) -> None:
    (root / "lengths_train.json").write_text('{"SAMPLE_000": -3}')


def endless_count(root: Path) -> None:
    (root / "lengths_train.json").write_text('{"SAMPLE_000": Infinity}')


def lose_lengths(root: Path) -> None:
    for split in ("train", "val", "test"):
        (root / f"lengths_{split}.json").unlink()


def lose_a_split(root: Path) -> None:
    (root / "lengths_test.json").unlink()


def lose_label(root: Path) -> None:
    (root / "train" / "0_SI" / "SAMPLE_000.npy").rename(root / "train" / "SAMPLE_000.npy")


def spoil_file(root: Path) -> None:
    (root / "train" / "0_SI" / "SAMPLE_000.npy").write_text("x")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (spoil_width, r"'0_SI/SAMPLE_001' has rows of float32 \(5,\), '\S+' of float32 \(4,\)"),
        (spoil_length, r"the lengths JSON has no 'SAMPLE_1\d\d'; add its number of frames"),
        (
            spoil_count,
            r"lengths_train\.json is no JSON object of clip names and lengths: the length -3; expected a whole number, 0 or more",
        ),
        (endless_count, r"lengths_train\.json is no JSON object of clip names and lengths: the length inf; expected a whole number"),
        (lose_lengths, r"ends with rows of zeros, and there is no lengths JSON that says whether they are padding"),
        (lose_a_split, r"has lengths_train\.json and no lengths_test\.json, so which rows of its clips are padding is unknown; write it"),
        (lose_label, r"SAMPLE_000\.npy lies in no class folder, so its label is missing"),
        (spoil_file, r"SAMPLE_000\.npy is no plain \.npy array"),
    ],
)
def test_a_bad_folder_of_the_lis_system_is_one_line(spoil: Any, reason: str, home: Home, tmp_path: Path) -> None:
    lis(tmp_path / "f")
    spoil(tmp_path / "f")
    with pytest.raises(UserError, match=reason):
        import_rows(home, "signs", "resnet50", tmp_path / "f", "npy")
    assert not home.cache.exists()


def test_clips_and_labels_that_contradict_the_manifest_are_named(home: Home, tmp_path: Path) -> None:
    corpus(tmp_path, {"a/1": ("train", "x"), "b/1": ("test", "y")})
    source = sequences(tmp_path / "s.npz", x=X[:2], label=np.array(["a", "c"]), sequence=np.array(["1", "7"]))
    with pytest.raises(UserError, match="1 clips are none of the manifest, first 'c/7'; bind another name for them"):
        import_rows(home, "signs", "theirs", source, "npz")
    np.savez(source, x=X[:1], label=np.array(["b"]), id=np.array(["a/1"]))
    with pytest.raises(UserError, match="'a/1' has the label 'b', the manifest says 'a'"):
        import_rows(home, "signs", "theirs", source, "npz")


def test_extracted_features_are_not_replaced_by_an_import(home: Home, tmp_path: Path) -> None:
    _, table = corpus(tmp_path, {"a/1": ("train", "x"), "b/1": ("test", "y")})
    publish(home, table, signals(table))
    source = sequences(tmp_path / "s.npz", x=X[:2], label=np.array(["a", "b"]), sequence=np.array(["1", "1"]))
    with pytest.raises(UserError, match="signs/resnet50 holds features of 'resnet50' that were extracted here; choose another name"):
        import_rows(home, "signs", "resnet50", source, "npz")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("gone.npz", "--format", "npz"), "gone.npz does not exist"),
        ((".", "--format", "npy"), "holds no clips of the form 'npy'"),
        ((".", "--format", "mp_data"), "no MP_Data folders at .*: expected MP_Data/<label>/<sequence>/<frame>.npy"),
    ],
)
def test_a_source_of_another_form_is_one_line(arguments: tuple[str, ...], reason: str, home: Home, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    done = run(home, "import", "signs", "holistic", tmp_path / "src" / arguments[0], *arguments[1:])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert re.search(reason, done.output)


def test_a_stage_that_nothing_was_imported_as_says_what_to_run(home: Home, tmp_path: Path) -> None:
    import_rows(home, "signs", "holistic", sequences(tmp_path / "s.npz"), "npz")
    done = run(home, "plan", "signs", "imported")
    assert done.exit_code == 2
    assert "nothing is imported as 'imported' yet; run: signcache import signs imported SRC --format FORMAT" in done.output
