"""What a name stands for: bound once, rebound only to another root, and read back as it was written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.corpus import manifest
from pipeline.corpus.manifest import Binding, Home, Manifest
from pipeline.errors import UserError
from pipeline.types import Sample


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten clips."""
    return filled(tmp_path / "data", 10)


def filled(root: Path, clips: int) -> Path:
    for label in ("a", "b"):
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(clips):
            (root / label / f"{number:02}.mp4").write_text(f"{label}{number}")
    return root


def splits(table: Manifest) -> dict[str, str]:
    return {sample.id: sample.split for sample in table.samples}


def test_a_bound_name_is_read_back_as_it_was_bound(home: Home, root: Path) -> None:
    bound = manifest.bind(home, "signs", corpus="folder", root=root, seed=3)
    assert manifest.read(home, "signs") == bound
    assert bound.binding == Binding("folder", root, "stratified", 3)
    assert (bound.classes, len(bound.samples)) == (("a", "b"), 20)
    assert manifest.bind(home, "signs") == bound


def test_a_name_that_is_not_bound_says_what_to_run(home: Home) -> None:
    with pytest.raises(UserError, match="'signs' is not bound yet; run: signcache manifest signs"):
        manifest.read(home, "signs")
    with pytest.raises(UserError, match=r"no corpus called 'signs'.* bind it first: signcache manifest signs --corpus folder --root DIR"):
        manifest.bind(home, "signs")


def test_a_known_corpus_binds_itself_to_its_folder_in_data(home: Home) -> None:
    with pytest.raises(UserError, match=rf"no LIS corpus at {manifest.CHECKOUT}/data/lis: expected train/"):
        manifest.bind(home, "lis")


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "a b", "-x", "ž"])
def test_a_name_that_cannot_be_a_folders_is_refused(name: str, home: Home, root: Path) -> None:
    with pytest.raises(UserError, match="cannot name a data set or a stage: use letters, digits"):
        manifest.bind(home, name, corpus="folder", root=root)


@pytest.mark.parametrize("name", ["runs", "Runs", "signs-predict", "signs.csv", "signs.json"])
def test_a_name_that_the_cache_uses_itself_is_refused(name: str, home: Home, root: Path) -> None:
    with pytest.raises(UserError, match=rf"^'{name}' cannot name a data set: runs, .* are the cache's own; use another name$"):
        manifest.bind(home, name, corpus="folder", root=root)
    assert not home.manifests.exists()
    assert manifest.bind(home, f"{name}2", corpus="folder", root=root).samples


def test_another_root_rebinds_and_keeps_the_splits(home: Home, root: Path, tmp_path: Path) -> None:
    before = manifest.bind(home, "signs", corpus="folder", root=root)
    moved = tmp_path / "moved"
    shutil.move(root, moved)
    after = manifest.bind(home, "signs", root=moved)
    assert after.binding == replace(before.binding, root=moved)
    assert (after.digest, splits(after)) == (before.digest, splits(before))
    assert manifest.read(home, "signs") == after


def test_a_relative_root_is_kept_absolute(home: Home, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert manifest.bind(home, "signs", corpus="folder", root=Path("data")).binding.root == root


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (
            {"corpus": "lis"},
            r"'signs' is bound with corpus 'folder', not 'lis'; use another name, as in: .* signs2 --corpus lis --root \S+$",
        ),
        (
            {"split": "signer"},
            r"'signs' is bound with split 'stratified', not 'signer'; .* signs2 --corpus folder --root \S+ --split signer$",
        ),
        ({"seed": 1}, r"'signs' is bound with seed 0, not 1; .* --seed 1$"),
    ],
)
def test_another_corpus_split_or_seed_is_refused(asked: dict[str, object], reason: str, home: Home, root: Path) -> None:
    bound = manifest.bind(home, "signs", corpus="folder", root=root)
    with pytest.raises(UserError, match=reason):
        manifest.bind(home, "signs", **asked)
    assert manifest.read(home, "signs") == bound


def test_the_summary_counts_clips_classes_splits_and_media(home: Home, root: Path) -> None:
    table = manifest.bind(home, "signs", corpus="folder", root=root)
    assert manifest.summary(table) == "20 clips, 2 classes, train 16, val 2, test 2 (stratified), rgb 20"


def test_the_same_words_again_are_no_contradiction(home: Home, root: Path) -> None:
    bound = manifest.bind(home, "signs", corpus="folder", root=root)
    assert manifest.bind(home, "signs", corpus="folder", root=root, split="stratified", seed=0) == bound


def test_listing_again_finds_new_and_removed_clips(home: Home, root: Path) -> None:
    before = splits(manifest.bind(home, "signs", corpus="folder", root=root))
    filled(root, 12)
    (root / "a" / "00.mp4").unlink()
    after = splits(manifest.bind(home, "signs"))
    assert set(after) - set(before) == {"a/10", "a/11", "b/10", "b/11"}
    assert set(before) - set(after) == {"a/00"}
    assert all(after[clip] == split for clip, split in before.items() if clip in after)


def test_a_class_that_lost_its_clips_keeps_its_index(home: Home, root: Path) -> None:
    manifest.bind(home, "signs", corpus="folder", root=root)
    shutil.rmtree(root / "a")
    assert manifest.bind(home, "signs").classes == ("a", "b")


def test_a_manifest_that_did_not_change_is_not_written_again(home: Home, root: Path) -> None:
    manifest.bind(home, "signs", corpus="folder", root=root)
    before = (home.manifests / "signs.csv").stat().st_ino
    manifest.bind(home, "signs")
    assert (home.manifests / "signs.csv").stat().st_ino == before


def test_a_root_that_is_empty_now_leaves_the_manifest_alone(home: Home, root: Path) -> None:
    bound = manifest.bind(home, "signs", corpus="folder", root=root)
    shutil.rmtree(root)
    root.mkdir()
    with pytest.raises(UserError, match=r"no clips of corpus 'folder' below .*; expected there: <class>/<clip>\.mp4"):
        manifest.bind(home, "signs")
    assert manifest.read(home, "signs") == bound


@pytest.mark.parametrize("part", ["/etc/passwd", "../secret.mp4", "a/../../x.mp4"])
def test_a_file_outside_the_root_is_refused(part: str, home: Home, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def escaping(self: object, root: Path) -> Iterator[Sample]:
        yield Sample("x", {"rgb": (part,)}, "a", "train", None)

    monkeypatch.setattr(registry.find("dataset", "folder").__class__, "samples", escaping)
    with pytest.raises(UserError, match=r"clip 'x' names the file '.*', which is not below its root"):
        manifest.bind(home, "signs", corpus="folder", root=root)


def test_a_manifest_of_a_newer_signcache_is_not_guessed_at(home: Home, root: Path) -> None:
    manifest.bind(home, "signs", corpus="folder", root=root)
    path = home.manifests / "signs.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 2}))
    with pytest.raises(UserError, match=r"signs\.json has format 2, this signcache reads up to 1: install a newer signcache"):
        manifest.read(home, "signs")


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=12)
NAMES = st.one_of(
    TEXTS,
    st.sampled_from(["two\nlines", "re\rturn", "re\r\nturn", 'quo"te', "com,ma", "=1+1", " space ", "'", "\ufeffmark", "žuta"]),
    st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"_").replace(b"/", b"_").decode("utf-8", "surrogateescape")),
).filter(lambda text: text not in (".", ".."))
MEDIA = st.dictionaries(st.sampled_from(["rgb", "radar", "inertial"]), st.lists(NAMES, min_size=1, max_size=12).map(tuple), min_size=1)
SAMPLES = st.lists(
    st.builds(
        Sample, id=NAMES, media=MEDIA, label=NAMES | st.none(), split=st.sampled_from(["train", "val", "test"]), signer=NAMES | st.none()
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda sample: sample.id,
)


@given(SAMPLES)
def test_any_name_survives_the_table(tmp_path_factory: pytest.TempPathFactory, samples: list[Sample]) -> None:
    home = Home(manifests=tmp_path_factory.getbasetemp() / "tables")
    classes = tuple(sorted({sample.label for sample in samples if sample.label}))
    table = Manifest("any", Binding("folder", Path("/data/ž"), "official", 0), classes, tuple(samples))
    manifest.write(home, table)
    back = manifest.read(home, "any")
    assert back == table
    assert back.digest == table.digest
