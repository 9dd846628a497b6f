"""Imported rows may be said to be those of a stage: that is checked by shape and value, and runs on them then label videos."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.cache.publishing import opened
from pipeline.cache.stage import published
from pipeline.corpus.manifest import Home
from pipeline.datasets._drawing.clip import make_clip
from pipeline.types import Array
from tests.commands import run, said

torch.set_num_threads(1)
FRAMES = 4
VIDEOS = ("HELLO/signer1_rep1", "RAIN/signer3_rep2")
TINY = ("--set", "hidden=8", "--set", "epochs=2", "--set", "normalize=none", "--device", "cpu", "--json")


@dataclass
class Drawn:
    """Two drawn videos below `videos`, and what the stage `holistic` makes of them, `FRAMES` rows a clip."""

    videos: Path
    rows: dict[str, Array]

    def source(self, path: Path, changed: dict[str, Array] | None = None) -> Path:
        """An npz of these rows and of those of 18 more clips that have no video, of the same two labels."""
        random = np.random.default_rng(0)
        held = {f"{label}/more{n}": random.random((FRAMES, 1662), np.float32) for label in ("HELLO", "RAIN") for n in range(9)}
        held |= self.rows | (changed or {})
        np.savez(path, x=np.stack([*held.values()]), label=np.array([clip.split("/")[0] for clip in held]), id=np.array([*held]))
        return path

    def file(self, clip: str) -> Path:
        return self.videos / f"{clip}.mkv"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    root = tmp_path_factory.mktemp("like")
    make_clip(root / "videos", "HELLO", "signer1", 1)
    make_clip(root / "videos", "RAIN", "signer3", 2)
    for leftover in [*root.rglob("*_RDM*.mp4"), *root.rglob("*.npy")]:
        leftover.unlink()
    home = Home(root / "cache", root / "manifests")
    said(home, "manifest", "drawn", "--corpus", "folder", "--root", root / "videos")
    said(home, "extract", "drawn", "holistic", "--set", f"frames={FRAMES}")
    features = opened(home, "drawn", "holistic")
    return Drawn(root / "videos", {clip: np.array(features[clip]) for clip in VIDEOS})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


def test_a_run_on_imported_rows_labels_a_video_by_the_stage_that_they_are_like(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    source = drawn.source(tmp_path / "rows.npz")
    words = said(home, "import", "brought", "theirs", source, "--format", "npz", "--like", "holistic", "--root", drawn.videos)
    assert f"like holistic (frames={FRAMES}): 2 clips compared, off by 0 of the largest value at most" in words
    folder = json.loads(run(home, "train", "brought", "bilstm_attention", "--set", "stages=theirs", *TINY).stdout)["run"]
    done = run(home, "predict", folder, drawn.file(VIDEOS[0]), "--device", "cpu", "--json")
    assert done.exit_code == 0, done.output
    rows = opened(home, "brought-predict", "theirs")
    (clip,) = rows
    assert Path(clip) == drawn.file(VIDEOS[0])
    np.testing.assert_array_equal(rows[clip], drawn.rows[VIDEOS[0]])
    before = run(home, "import", "brought", "theirs", source, "--format", "npz")
    assert before.exit_code == 0
    known = published(home, "brought", "theirs")
    assert known is not None
    assert known.like is not None, "what was said of the same rows stays"
    assert known.like["fields"]["frames"] == FRAMES


def test_what_is_said_later_holds_for_a_run_of_before_and_for_what_derives(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    source = drawn.source(tmp_path / "rows.npz")
    said(home, "import", "brought", "theirs", source, "--format", "npz")
    said(home, "extract", "brought", "kinematics", "--set", "source=stage:theirs")
    folder = json.loads(run(home, "train", "brought", "lstm_late", "--set", "stages=kinematics", *TINY).stdout)["run"]
    refused = said(home, "predict", folder, drawn.file(VIDEOS[1]), status=2)
    assert "say which stage makes the same rows: signcache import brought theirs SRC --format FORMAT --like STAGE" in refused
    said(home, "import", "brought", "theirs", source, "--format", "npz", "--like", "holistic")
    said(home, "predict", folder, drawn.file(VIDEOS[1]), "--device", "cpu")
    again = opened(home, "brought-predict", "kinematics")
    np.testing.assert_array_equal(again[str(drawn.file(VIDEOS[1]))], opened(home, "brought", "kinematics")[VIDEOS[1]])


def test_videos_of_the_bound_corpus_are_compared_without_being_named(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    source = tmp_path / "rows.npz"
    np.savez(source, x=np.stack([*drawn.rows.values()]), label=np.array(["HELLO", "RAIN"]), id=np.array(VIDEOS))
    said(home, "manifest", "own", "--corpus", "folder", "--root", drawn.videos)
    words = said(home, "import", "own", "theirs", source, "--format", "npz", "--like", "holistic", "--sample", 1)
    assert "1 clips compared" in words


def test_a_clip_that_is_off_is_named_with_how_far_and_nothing_is_imported(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    wrong = drawn.rows[VIDEOS[1]].copy()
    wrong[2, 40] += 0.25 * np.abs(wrong).max()
    source = drawn.source(tmp_path / "rows.npz", {VIDEOS[1]: wrong})
    line = ("import", "brought", "theirs", source, "--format", "npz", "--like", "holistic", "--root", drawn.videos)
    done = run(home, *line)
    assert (done.exit_code, done.stderr.splitlines()[-1][:10]) == (2, "signcache:")
    text = f"clip '{VIDEOS[1]}': its rows are not those of stage 'holistic': off by 0.25 of the largest value in row 2 (tolerance 0.001)"
    assert text in done.stderr
    assert not home.manifests.exists()
    assert "off by 0.25" in said(home, *line, "--tolerance", 0.3)


def test_other_shapes_and_counts_are_one_line(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    source = drawn.source(tmp_path / "rows.npz")

    def refused(*words: object, of: Path = source) -> str:
        done = run(home, "import", "brought", "theirs", of, "--format", "npz", *words)
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        return str(done.stderr)

    assert "the rows are (1662,), those of stage 'resnet50' (2048,); leave --like out" in refused("--like", "resnet50")
    assert "stage 'kinematics' reads no files but 'stage:holistic'" in refused("--like", "kinematics")
    assert "no stage called 'holistc'; did you mean 'holistic'?" in refused("--like", "holistc")
    text = "the clips have 4 rows, and stage 'holistic' gives 60 of every clip"
    assert text in refused("--like", "holistic", "--set", "frames=60")
    assert "--set, --root and --sample tell of the stage that the rows are like; name it: --like STAGE" in refused("--root", drawn.videos)
    ragged = tmp_path / "ragged.npz"
    label, x = np.array(["a", "b"]), np.ones((2, 5, 1662), np.float32)
    np.savez(ragged, x=x, label=label, length=np.array([5, 3]))
    assert "the clips have 3 to 5 rows, and stage 'holistic' gives 60 of every clip" in refused("--like", "holistic", of=ragged)


def test_a_run_on_kept_landmarks_labels_videos_and_kept_landmarks(drawn: Drawn, home: Home, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    for number in range(20):
        folder = tmp_path / "MP_Data" / f"class{number % 2}" / str(number)
        folder.mkdir(parents=True)
        for frame, row in enumerate(random.random((FRAMES, 1662))):
            np.save(folder / f"{frame}.npy", row)
    said(home, "manifest", "kept", "--corpus", "mp_data", "--root", tmp_path)
    said(home, "extract", "kept", "mp_data")
    folder = json.loads(run(home, "train", "kept", "bilstm_attention", *TINY).stdout)["run"]
    said(home, "predict", folder, tmp_path / "MP_Data" / "class0" / "0", "--device", "cpu")
    said(home, "predict", folder, drawn.file(VIDEOS[0]), "--device", "cpu")
    rows = opened(home, "kept-predict", "mp_data")
    np.testing.assert_array_equal(rows[str(drawn.file(VIDEOS[0]))], drawn.rows[VIDEOS[0]])
