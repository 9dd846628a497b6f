"""Features of other programs become a published stage with an identity of their own, read like any other."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache.stage import published
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.data import batches
from pipeline.data.batch import fused
from pipeline.errors import UserError
from pipeline.extraction import plan
from pipeline.extraction.plan import wanted_stages
from pipeline.formats import import_rows
from pipeline.runs.predict import Prediction, write_submission
from pipeline.runs.predict import write_table as write_predictions
from tests.feature_cache import corpus, publish, signals
from tests.import_sources import LABELS, dense, lis, opened, rows, run, sequences
from tests.shared_data import shared


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


def test_the_lis_systems_folders_are_read_without_their_padding(home: Home, tmp_path: Path) -> None:
    expected = lis(tmp_path / "features_RGB")
    done = import_rows(home, "signs", "resnet50", tmp_path / "features_RGB", "npy")
    features = opened(home, "resnet50")
    assert (done.clips, len(features)) == (36, 36)
    for clip, values in expected.items():
        np.testing.assert_array_equal(features[clip], values)
    table = manifest.read(home, "signs")
    assert table.classes == LABELS, "classes come by their number, not as text"
    assert table.binding.split == "official"
    assert {sample.label for sample in table.samples if sample.split == "test"} == {None}


def test_the_lis_systems_own_caches_are_fused_though_their_padding_is_features_of_black(home: Home, tmp_path: Path) -> None:
    widths = {"resnet50": ("features_RGB", 2048), "radar_cnn": ("features_radar", 96)}
    expected = {stage: lis(tmp_path / folder, width=width, black=0.4) for stage, (folder, width) in widths.items()}
    for table in (tmp_path / "features_RGB").glob("lengths_*.json"):
        table.rename(tmp_path / table.name)  # as the source has them: one table for both modalities, beside their folders
        (tmp_path / "features_radar" / table.name).unlink()
    for stage, (folder, _) in widths.items():
        done = run(home, "import", "signs", stage, tmp_path / folder, "--format", "npy")
        assert done.exit_code == 0, done.output
    for clip, values in expected["radar_cnn"].items():
        np.testing.assert_array_equal(opened(home, "radar_cnn")[clip], values)
    (batch,) = batches("signs", ["resnet50", "radar_cnn"], shuffle=False, cache=home.cache, manifests=home.manifests)
    inputs, lengths = fused(batch, ["resnet50", "radar_cnn"])
    assert inputs.shape == (12, 30, 2144)
    for clip, row, length in zip(batch.ids, inputs.numpy(), lengths.tolist(), strict=True):
        own = np.concatenate([expected["resnet50"][clip], expected["radar_cnn"][clip]], 1)
        np.testing.assert_array_equal(row[:length], own)
        assert not row[length:].any()


def test_a_length_before_the_cap_is_kept_as_the_source_length(home: Home, tmp_path: Path) -> None:
    lis(tmp_path / "f")
    import_rows(home, "signs", "resnet50", tmp_path / "f", "npy")
    row = opened(home, "resnet50").index.entry(opened(home, "resnet50").index.position["0_SI/SAMPLE_003"]).row
    assert (row.length, row.source_length) == (30, 31)


def test_a_bound_name_keeps_its_clips_and_names_what_the_import_lacks(home: Home, tmp_path: Path) -> None:
    _, table = corpus(tmp_path, {"a/1": ("train", "x"), "a/2": ("train", "x"), "b/1": ("test", "y")})
    for clip in ("a/1", "b/1"):
        (tmp_path / "src" / clip).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "src" / f"{clip}.npy", rows(3))
    done = import_rows(home, "signs", "theirs", tmp_path / "src", "npy")
    assert (done.clips, done.lacking, done.twins) == (2, ["a/2"], [["a/1", "b/1"]])
    assert manifest.read(home, "signs") == table
    state = plan.plan(home, table, wanted_stages(home, table, ["theirs"], {}))["theirs"]
    assert (state.fresh, [(failure.id, failure.reason) for failure in state.failed]) == (
        ["a/1", "b/1"],
        [("a/2", "not among what was imported")],
    )
    with pytest.raises(UserError, match=r"clip 'a/2' has no features in signs/theirs; extraction failed: not among what was imported"):
        opened(home, "theirs")["a/2"]


def test_sequences_of_an_npz_are_clips_of_their_label(home: Home, tmp_path: Path) -> None:
    import_rows(home, "signs", "holistic", sequences(tmp_path / "s.npz"), "npz")
    assert sorted(opened(home, "holistic")) == [f"{label}/{number}" for label in "ab" for number in range(4)]
    np.testing.assert_array_equal(opened(home, "holistic")["b/1"], rows(5, 5))


def test_frames_of_mp_data_are_rows(home: Home, tmp_path: Path) -> None:
    for label in ("x", "y"):
        for sequence in range(3):
            folder = tmp_path / "MP_Data" / label / str(sequence)
            folder.mkdir(parents=True)
            for frame in range(11):
                np.save(folder / f"{frame}.npy", np.full(6, frame + sequence / 4 + (label == "x")))
    import_rows(home, "signs", "holistic", tmp_path / "MP_Data", "mp_data")
    features = opened(home, "holistic")
    assert features["y/1"][:, 0].tolist() == [frame + 0.25 for frame in range(11)]
    assert features["y/1"].dtype == np.float32


@pytest.mark.parametrize("name", ["d/x.npy", "x.h5", "x.zarr", "x.attrs"])
def test_a_dense_array_is_cut_to_its_lengths(name: str, home: Home, tmp_path: Path) -> None:
    path, expected = dense(tmp_path / name)
    import_rows(home, "signs", "theirs", path, "dense")
    features = opened(home, "theirs")
    assert set(features) == set(expected)
    for clip, values in expected.items():
        np.testing.assert_array_equal(features[clip], values)


@pytest.mark.parametrize("form", ["zarr", "hdf5", "npy"])
def test_what_was_exported_can_be_imported(form: str, home: Home, tmp_path: Path) -> None:
    _, table = corpus(tmp_path, {f"{label}/{n}": ("train", "x") if n else ("test", "y") for label in "ab" for n in range(3)})
    expected = signals(table)
    publish(home, table, expected)
    out = tmp_path / f"out.{'h5' if form == 'hdf5' else form}"
    assert run(home, "export", "signs", "resnet50", out, "--format", form).exit_code == 0
    kind = "npy" if form == "npy" else "dense"
    import_rows(home, "signs", "again", out, kind)
    for clip, values in expected.items():
        np.testing.assert_array_equal(opened(home, "again")[clip], values)


def test_the_same_import_again_writes_nothing_and_another_content_replaces_it(home: Home, tmp_path: Path) -> None:
    source = sequences(tmp_path / "s.npz")
    first = import_rows(home, "signs", "holistic", source, "npz")
    shards = sorted(home.cache.rglob("*.zarr"))
    assert import_rows(home, "signs", "holistic", source, "npz").digest == first.digest
    assert sorted(home.cache.rglob("*.zarr")) == shards
    changed = np.stack([rows(5, seed + 100) for seed in range(8)])
    second = import_rows(home, "signs", "holistic", sequences(source, x=changed), "npz")
    assert second.digest != first.digest
    np.testing.assert_array_equal(opened(home, "holistic")["a/0"], changed[0])


def test_an_id_with_a_carriage_return_stays_whole_in_every_table(home: Home, tmp_path: Path) -> None:
    ids = ["a\rb", "c\r\nd", "e\nf", "g,h", 'i"j', "k", "l", "m"]
    import_rows(home, "signs", "holistic", sequences(tmp_path / "s.npz", sequence=None, id=np.array(ids)), "npz")
    for table in ("signs.csv", "signs/holistic.csv", "signs/imported/clips.csv"):
        with open(home.manifests / table, newline="", encoding="utf-8") as file:
            assert sorted(row["id"] for row in csv.DictReader(file)) == sorted(ids)
    write_predictions(tmp_path / "out.csv", [Prediction(clip, (("a", 1.0),)) for clip in ids])
    write_submission(tmp_path / "own.csv", manifest.read(home, "signs").dataset, [Prediction(clip, (("a", 1.0),)) for clip in ids])
    for path in ("out.csv", "own.csv"):
        with open(tmp_path / path, newline="", encoding="utf-8") as file:
            assert [row["id"] for row in csv.DictReader(file)] == ids


@pytest.mark.parametrize("bound", ["NFC", "NFD"])
def test_names_in_another_form_are_the_same_clips(bound: str, home: Home, tmp_path: Path) -> None:
    ids = [f"š/{number}" for number in range(8)]
    forms = [np.array(ids), np.array([unicodedata.normalize("NFD", text) for text in ids])]
    for stage, names in zip(("first", "second"), forms if bound == "NFC" else forms[::-1], strict=True):
        source = sequences(tmp_path / "s.npz", sequence=None, id=names, label=np.array([name.partition("/")[0] for name in names]))
        assert import_rows(home, "signs", stage, source, "npz").lacking == []
        assert sorted(opened(home, stage)) == ids


def test_an_import_is_planned_extracted_and_verified_like_any_other_stage(home: Home, tmp_path: Path) -> None:
    done = run(home, "import", "signs", "holistic", sequences(tmp_path / "s.npz"), "--format", "npz", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["clips"] == 8
    planned = json.loads(run(home, "plan", "signs", "--json").stdout)["stages"]["holistic"]
    assert {key: planned[key] for key in ("fresh", "todo", "failed", "removed")} == {"fresh": 8, "todo": 0, "failed": 0, "removed": 0}
    for arguments in (["extract", "signs"], ["extract", "signs", "holistic", "--rehash"], ["verify", "signs"]):
        again = run(home, *arguments)
        assert again.exit_code == 0, again.output
    said = published(home, "signs", "holistic")
    assert said is not None
    assert said.stage == "imported"
    assert (home.manifests / "signs" / "holistic.csv").read_text().count("\n") == 9


def test_a_damaged_import_is_found_by_verify(home: Home, tmp_path: Path) -> None:
    import_rows(home, "signs", "holistic", sequences(tmp_path / "s.npz"), "npz")
    file = next(path for path in home.cache.rglob("c/**/*") if path.is_file())
    content = bytearray(file.read_bytes())
    content[8] ^= 255
    file.write_bytes(content)
    assert run(home, "verify", "signs").exit_code != 0


def test_a_stage_derives_from_an_import(home: Home, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((6, 5, 150)).astype(np.float32)
    import_rows(home, "signs", "keypoints", sequences(tmp_path / "s.npz", x=x, label=np.repeat(["a", "b"], 3), sequence=None), "npz")
    done = run(home, "extract", "signs", "kinematics", "--set", "kinematics.source=stage:keypoints")
    assert done.exit_code == 0, done.output
    assert opened(home, "kinematics")["a/0"].shape == (5, 565)
    import_rows(home, "signs", "keypoints", sequences(tmp_path / "s.npz", x=x + 1, label=np.repeat(["a", "b"], 3), sequence=None), "npz")
    with pytest.raises(UserError, match="signs/kinematics are stale"):
        opened(home, "kinematics")


def test_real_sequences_are_imported_whole(home: Home) -> None:
    source = shared("holistic_luja10/sequences.npz")
    done = run(home, "import", "luja", "holistic", source, "--format", "npz")
    assert done.exit_code == 0, done.output
    assert done.output == "luja/holistic: 300 clips imported, 9000 rows of (1662,)\n"
    table, features = manifest.read(home, "luja"), opened(home, "holistic", "luja")
    assert (len(table.samples), len(table.classes)) == (300, 10)
    with np.load(source) as file:
        x, label, sequence = file["x"], file["label"], file["sequence"]
    for number in range(0, 300, 37):
        np.testing.assert_array_equal(features[f"{label[number]}/{sequence[number]}"], x[number])


def test_what_was_imported_is_shown_and_has_no_picture(home: Home, tmp_path: Path) -> None:
    import_rows(home, "signs", "holistic", sequences(tmp_path / "s.npz"), "npz")
    assert "read by import" in run(home, "show", "signs", "holistic", "a/0").output
    done = run(home, "show", "signs", "holistic", "a/0", "--picture", tmp_path / "a.png")
    assert done.exit_code == 2
    assert "no picture of signs/holistic 'a/0': the clip has no such media" in done.output


def test_a_model_trains_on_an_import(home: Home, tmp_path: Path) -> None:
    x, label = np.stack([rows(5, seed) + 9 * (seed % 2) for seed in range(40)]), np.tile(["a", "b"], 20)
    import_rows(home, "signs", "theirs", sequences(tmp_path / "s.npz", x=x, label=label, sequence=None), "npz")
    done = run(home, "train", "signs", "lstm_late", "--set", "stages=theirs", "--set", "epochs=3", "--set", "hidden=8", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["n"] > 0
