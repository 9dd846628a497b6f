"""Clips without a modality: failures, unless their corpus says that they may lack it; then counted, and read without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.cache import open_stage
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.datasets.lis import Lis
from pipeline.decoding.video import headers, not_asked
from pipeline.errors import UserError
from tests.commands import run, said
from tests.video_files import write_clip

torch.set_num_threads(1)
SMALL = ("width=8", "heads=2", "layers=1", "feed_forward=8", "epochs=4", "warmup=0", "stages=rgb_cnn,radar_cnn", "lr=0.01")
SETTINGS = [word for pair in SMALL for word in ("--set", pair)]
RADAR = ("RDM1.mp4", "RDM2.mp4", "RDM3.mp4")
CLIPS = 7
WITHOUT = {"0_A/SAMPLE_1", "0_A/SAMPLE_2", "1_B/SAMPLE_10", "1_B/SAMPLE_11"}
BROKEN = "1_B/SAMPLE_12"


def clip(folder: Path, frames: int, tracks: Sequence[str] = ("RGB.mkv", *RADAR)) -> None:
    folder.mkdir(parents=True)
    for track in tracks:
        write_clip(folder / f"{folder.name}_{track}", frames, size=(32, 24))


@dataclass
class Corpus:
    """A LIS tree of 14 clips: four without radar, one with two of three receivers."""

    home: Home
    root: Path

    @classmethod
    def made(cls, folder: Path) -> Corpus:
        root = folder / "lis"
        for label in range(2):
            for number in range(CLIPS):
                name = f"{label}_{'AB'[label]}/SAMPLE_{10 * label + number}"
                radar = () if name in WITHOUT else RADAR[:2] if name == BROKEN else RADAR
                clip(root / "train" / name, 3 + 5 * label, ("RGB.mkv", *radar))
        return cls(Home(folder / "cache", folder / "manifests"), root)

    def extract(self, status: int) -> str:
        few = ("--set", "max_frames=4", "--set", "resize=16,16", "--device", "cpu")
        text = said(self.home, "extract", "lis", "radar_cnn", "--as", "rgb_cnn", "--set", "source=rgb", "--set", "receivers=1", *few)
        return text + said(self.home, "extract", "lis", "radar_cnn", *few, status=status)

    def planned(self) -> dict[str, Any]:
        done = run(self.home, "plan", "lis", "radar_cnn", "--json")
        assert done.exit_code == 0, done.output
        stage: dict[str, Any] = json.loads(done.stdout)["stages"]["radar_cnn"]
        return stage

    def train(self, *words: object, status: int = 0) -> tuple[str, str]:
        done = run(self.home, "train", "lis", "attention_fusion", *SETTINGS, "--device", "cpu", "--json", *words)
        assert done.exit_code == status, done.output
        return (str(json.loads(done.stdout)["run"]) if not status else ""), done.stderr


@pytest.fixture
def lis(tmp_path: Path) -> Corpus:
    return Corpus.made(tmp_path)


@pytest.fixture(scope="module")
def declared(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Extracted, after the name was told that clips may lack radar; the clip of two receivers is mended."""
    corpus = Corpus.made(tmp_path_factory.mktemp("declared"))
    write_clip(corpus.root / "train" / BROKEN / "SAMPLE_12_RDM3.mp4", 8, size=(32, 24))
    said(corpus.home, "manifest", "lis", "--root", corpus.root, "--may-lack", "radar")
    corpus.extract(status=0)
    return corpus


def test_a_clip_without_radar_fails_where_nobody_said_that_it_may_lack_it(lis: Corpus) -> None:
    said(lis.home, "manifest", "lis", "--root", lis.root)
    text = lis.extract(status=1)
    assert "rgb_cnn: 14 clips extracted, 0 failed, 14 of 14 ready" in text, "the other modality is none the worse"
    assert "radar_cnn: 9 clips extracted, 5 failed, 9 of 14 ready" in text
    assert lis.planned()["failed"] == 5
    _, text = lis.train(status=2)
    assert "5 of 14 clips have no features in lis/radar_cnn" in text


def test_a_declared_lack_is_counted_and_no_failure_but_two_of_three_receivers_are(lis: Corpus) -> None:
    text = said(lis.home, "manifest", "lis", "--root", lis.root, "--may-lack", "radar")
    assert "note: 4 of 14 clips of lis have no radar, which they may lack, first '0_A/SAMPLE_1'" in text
    text = lis.extract(status=1)
    assert "radar_cnn: 9 clips extracted, 1 failed, 9 of 10 ready, 4 without radar" in text
    assert f"failed: {BROKEN!r}: " in text
    planned = lis.planned()
    assert (planned["fresh"], planned["todo"], planned["failed"], planned["lacking"]) == (9, 0, 1, 4)
    assert "9 fresh  1 failed before  4 without radar" in said(lis.home, "plan", "lis", "radar_cnn")
    assert "nothing to do, 9 clips are fresh, 4 without radar" in said(lis.home, "extract", "lis", "radar_cnn")


def test_a_corpus_says_itself_what_its_clips_may_lack(lis: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lis, "may_lack", ("radar",), raising=False)
    said(lis.home, "manifest", "lis", "--root", lis.root)
    lis.extract(status=1)
    assert lis.planned()["lacking"] == 4


def test_what_was_said_is_kept_until_it_is_forgotten(lis: Corpus) -> None:
    said(lis.home, "manifest", "lis", "--root", lis.root, "--may-lack", "radar")
    said(lis.home, "plan", "lis", "--root", lis.root)
    assert manifest.read(lis.home, "lis").binding.may_lack == ("radar",)
    said(lis.home, "manifest", "lis", "--may-lack", "")
    table = manifest.read(lis.home, "lis")
    assert table.binding.may_lack == ()
    assert all(len(sample.media["radar"]) == 3 for sample in table.samples)


def test_a_modality_that_no_clip_has_is_one_line(lis: Corpus) -> None:
    text = said(lis.home, "manifest", "lis", "--root", lis.root, "--may-lack", "rader", status=2)
    assert text.startswith(f"signcache: --may-lack rader: the clips below {lis.root} have radar, rgb; name some of these")
    assert text.count("\n") == 1


def test_rows_of_radar_that_has_gone_are_read_no_more(declared: Corpus, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(declared.home.cache, tmp_path / "cache")
    shutil.copytree(declared.home.manifests, tmp_path / "manifests")
    shutil.copytree(declared.root, tmp_path / "lis")
    corpus = Corpus(Home(tmp_path / "cache", tmp_path / "manifests"), tmp_path / "lis")
    for track in RADAR:
        (corpus.root / "train/0_A/SAMPLE_0" / f"SAMPLE_0_{track}").unlink()
    said(corpus.home, "manifest", "lis", "--root", corpus.root)
    _, text = corpus.train(status=2)
    assert "1 of 14 clips has no features in lis/radar_cnn (first: 0_A/SAMPLE_0: no radar media)" in text
    said(corpus.home, "extract", "lis", "radar_cnn")
    assert "0_A/SAMPLE_0" not in open_stage("lis", "radar_cnn", cache=corpus.home.cache, manifests=corpus.home.manifests)
    _, text = corpus.train()
    assert "read without it" in text


def test_a_model_that_reads_every_stage_of_every_clip_refuses_and_names_one_that_does_without(declared: Corpus) -> None:
    words = ("--set", "stages=rgb_cnn,radar_cnn", "--set", "hidden=4", "--set", "epochs=1", "--device", "cpu")
    text = said(declared.home, "train", "lis", "lstm_late", *words, status=2)
    assert "4 of 14 clips of lis have no radar (first: 0_A/SAMPLE_1), which this model reads of every clip; train one that does" in text
    assert "attention_fusion" in text
    assert text.count("\n") == 1
    text = said(declared.home, "train", "lis", "lstm_late", *words, "--allow-missing", 4)
    assert "4 clips left out for want of features: 0_A/SAMPLE_1 (radar_cnn: no radar media)" in text


def test_clips_without_radar_are_trained_scored_and_counted(declared: Corpus) -> None:
    folder, text = declared.train()
    record, result = (json.loads((Path(folder) / name).read_bytes()) for name in ("run.json", "result.json"))
    counts = record["lacking"]["radar_cnn"]
    assert sum(counts.values()) == 4
    assert record["dropped"] == {}
    counted = ", ".join(f"{split} {clips}" for split, clips in counts.items())
    line = f"clips without radar_cnn, as their corpus says they may be, and read without it: {counted}"
    assert line in record["warnings"]
    assert line in text
    assert line in (Path(folder) / "report.html").read_text()
    assert result["n"] == record["clips"]["val"]
    assert result.get("without", {}).get("radar_cnn", {}).get("n", 0) == counts.get("val", 0)
    again = json.loads(run(declared.home, "evaluate", folder, "--json").stdout)
    assert (again["top1"], again["n"]) == (result["top1"], result["n"])


def test_every_clip_is_scored_in_folds_those_without_radar_too(declared: Corpus) -> None:
    folder, _ = declared.train("--folds", 2)
    record, result = (json.loads((Path(folder) / name).read_bytes()) for name in ("run.json", "result.json"))
    assert result["n"] == 14
    assert sum(record["lacking"]["radar_cnn"].values()) == 4


def test_a_clip_that_lacks_every_stage_of_a_model_is_no_clip_of_it(declared: Corpus) -> None:
    done = run(declared.home, "train", "lis", "attention_fusion", *SETTINGS, "--set", "stages=radar_cnn", "--device", "cpu")
    assert done.exit_code == 2
    assert "4 of 14 clips have no features in lis/radar_cnn (first: 0_A/SAMPLE_1: no radar media)" in done.stderr


def test_a_file_without_radar_beside_it_is_predicted_and_says_so(declared: Corpus, tmp_path: Path) -> None:
    folder, _ = declared.train()
    clip(tmp_path / "new" / "SAMPLE_90", 8, ("RGB.mkv",))
    clip(tmp_path / "new" / "SAMPLE_91", 8)
    clip(tmp_path / "new" / "SAMPLE_92", 8, ("RGB.mkv", "RDM1.mp4"))
    done = run(declared.home, "predict", folder, tmp_path / "new", "--device", "cpu")
    assert done.exit_code == 1
    lines = {Path(line.split("  ")[0]).name: line for line in done.stdout.splitlines()}
    assert "failed" not in lines["SAMPLE_90"] + lines["SAMPLE_91"]
    assert "failed: radar_cnn: " in lines["SAMPLE_92"]
    assert "clips without radar_cnn, as their corpus says they may be, and read without it: test 1" in done.stderr
    alone = run(declared.home, "predict", folder, tmp_path / "new" / "SAMPLE_90", "--device", "cpu")
    assert alone.exit_code == 0, alone.output
    assert lines["SAMPLE_90"] in alone.stdout


def test_features_that_spare_a_clip_read_it_as_no_rows_and_no_other(declared: Corpus) -> None:
    features = open_stage("lis", "radar_cnn", cache=declared.home.cache, manifests=declared.home.manifests)
    spared = features.sparing(["0_A/SAMPLE_1", "0_A/SAMPLE_0"])
    assert (spared["0_A/SAMPLE_1"].shape, spared.length("0_A/SAMPLE_1")) == ((0, 96), 0)
    np.testing.assert_array_equal(spared["0_A/SAMPLE_0"], features["0_A/SAMPLE_0"])
    line = "clip '0_A/SAMPLE_2' has no features in lis/radar_cnn; it has no radar media, which clips of lis may lack: "
    for every in (features, spared):
        with pytest.raises(UserError, match=f"^{line}leave it out, or read a stage of its rgb$"):
            every["0_A/SAMPLE_2"]
    with pytest.raises(
        UserError, match=r"^clip '0_A/SAMPEL' has no features in lis/radar_cnn; lis has no such clip; see: manifests/lis.csv$"
    ):
        features["0_A/SAMPEL"]


def test_a_file_is_explained_over_the_pictures_that_its_networks_saw(declared: Corpus, tmp_path: Path) -> None:
    from PIL import Image

    folder, _ = declared.train()
    clip(tmp_path / "new" / "SAMPLE_80", 8)
    clip(tmp_path / "new" / "SAMPLE_81", 8, ("RGB.mkv",))
    for name, stages in (("SAMPLE_80", {"rgb_cnn", "radar_cnn"}), ("SAMPLE_81", {"rgb_cnn"})):
        out = tmp_path / name
        done = run(declared.home, "explain", folder, tmp_path / "new" / name, "--out", out, "--json")
        assert done.exit_code == 0, done.output
        found = json.loads(done.stdout)
        assert set(found["stages"]) == stages
        assert ("the clip has no rows of radar_cnn" in found["notes"]) == (name == "SAMPLE_81")
        assert (out / "explanation.html").read_text().count("data:image/jpeg") == len(stages)
        assert headers(out / "explanation.mp4", not_asked)[0] > 0
        with Image.open(out / "explanation.png") as picture:
            assert picture.width > picture.height / 8
    both = run(declared.home, "explain", folder, tmp_path / "new", "--out", tmp_path / "out")
    assert both.exit_code == 2
    assert "holds 2 clips; name one of them, as in " in both.stderr


def test_a_package_explains_files_without_its_corpus(declared: Corpus, tmp_path: Path) -> None:
    folder, _ = declared.train()
    said(declared.home, "package", folder, tmp_path / "package.zip")
    clip(tmp_path / "SAMPLE_81", 8, ("RGB.mkv",))
    home = Home(tmp_path / "cache", tmp_path / "manifests")
    text = said(home, "explain", tmp_path / "package.zip", tmp_path / "SAMPLE_81", "--out", tmp_path / "out")
    assert "note: the clip has no rows of radar_cnn" in text
    assert f"page: {tmp_path}/out/explanation.html" in text
