"""A corpus whose disk comes and goes: no clip changes its split, and none is dropped in silence."""

from __future__ import annotations

import json
import random
import shutil
import unicodedata
from pathlib import Path

import pytest

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home, Manifest
from pipeline.errors import UserError
from pipeline.types import Sample
from tests.commands import said
from tests.test_datasets import lis_clip, touch


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return touch(tmp_path / "data", *(f"{label}/{number:02}.mp4" for label in "abc" for number in range(20)))


def splits(table: Manifest) -> dict[str, str]:
    return {sample.id: sample.split for sample in table.samples}


def bound(home: Home, root: Path, **asked: object) -> dict[str, str]:
    return splits(manifest.bind(home, "signs", corpus="folder", root=root, **asked))


def listed(root: Path, lines: list[str]) -> None:
    (root / "split.csv").write_text("\n".join(["file,split,signer", *lines]) + "\n")


@pytest.mark.parametrize("trial", range(10))
def test_clips_that_were_away_come_back_in_their_split(trial: int, home: Home, root: Path, tmp_path: Path) -> None:
    before, chance = bound(home, root, seed=trial), random.Random(trial)
    for again in range(3):
        away = chance.sample(sorted(root.glob("*/*.mp4")), 25)
        for path in away:
            shutil.move(path, tmp_path / f"{path.parent.name}-{path.name}")
        touch(root, *(f"{label}/new {again}-{number}.mp4" for label in "abcd" for number in range(4)))
        before |= bound(home, root)
        for path in away:
            shutil.move(tmp_path / f"{path.parent.name}-{path.name}", path)
    after = bound(home, root)
    assert {clip: after[clip] for clip in before} == before
    assert len(after) == 60 + 3 * 4 * 4


def test_what_is_away_is_said_and_forgotten_by_no_number_of_listings(home: Home, root: Path, tmp_path: Path) -> None:
    before = bound(home, root)
    shutil.move(root / "a", tmp_path / "a")
    for command in ("manifest", "manifest"):
        heard = said(home, command, "signs")
        assert "note: 20 clips of signs that were listed before are not there now, first 'a/00'; should they come back" in heard
    table = manifest.read(home, "signs")
    assert table == manifest.bind(home, "signs")
    assert {sample.id: sample.split for sample in table.away} == {clip: split for clip, split in before.items() if clip.startswith("a/")}
    shutil.move(tmp_path / "a", root / "a")
    assert bound(home, root) == before
    assert "not there now" not in said(home, "manifest", "signs")
    assert manifest.read(home, "signs").away == ()


def test_what_is_away_is_no_part_of_a_manifests_digest(home: Home, root: Path, tmp_path: Path) -> None:
    bound(home, root)
    shutil.rmtree(root / "a")
    other = Home(tmp_path / "cache2", tmp_path / "manifests2")
    manifest.write(
        other, manifest.Manifest("signs", manifest.read(home, "signs").binding, ("a", "b", "c"), manifest.bind(home, "signs").samples)
    )
    assert manifest.read(other, "signs").digest == manifest.read(home, "signs").digest


def test_a_root_that_is_gone_a_link_that_leads_nowhere_and_an_empty_mount_point_change_nothing(
    home: Home, root: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(root)
    before = bound(home, link)
    files = {path: path.read_bytes() for path in home.manifests.glob("signs.*")}
    root.rename(tmp_path / "away")
    with pytest.raises(UserError, match=r"no folder .*link; expected there"):
        bound(home, link)
    root.mkdir()
    with pytest.raises(UserError, match=r"no clips of corpus 'folder' below .*link"):
        bound(home, link)
    assert {path: path.read_bytes() for path in home.manifests.glob("signs.*")} == files
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert bound(home, link) == before


def test_a_new_clip_of_a_signer_who_is_away_joins_his_split(home: Home, root: Path, tmp_path: Path) -> None:
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*.mp4"))
    lines = [f"{name},,signer{place % 6}" for place, name in enumerate(names)]
    listed(root, lines)
    before = bound(home, root)
    for signer in range(6):
        own = [line.partition(",")[0] for line in lines if line.endswith(f"signer{signer}")]
        for name in own:
            shutil.move(root / name, tmp_path / name.replace("/", "-"))
        touch(root, f"a/new of {signer}.mp4")
        here = [line for line in lines if line.partition(",")[0] not in own]
        listed(root, [*here, f"a/new of {signer}.mp4,,signer{signer}"])
        assert bound(home, root)[f"a/new of {signer}"] == before[own[0].removesuffix(".mp4")]
        for name in own:
            shutil.move(tmp_path / name.replace("/", "-"), root / name)
        lines.append(f"a/new of {signer}.mp4,,signer{signer}")
        listed(root, lines)
    after = bound(home, root)
    assert {clip: after[clip] for clip in before} == before


def test_lines_of_clips_that_are_away_may_be_taken_out_and_put_back(home: Home, root: Path, tmp_path: Path) -> None:
    lines = [f"{label}/{number:02}.mp4,{'test' if number % 3 else 'train'}," for label in "abc" for number in range(20)]
    listed(root, lines)
    before = bound(home, root)
    shutil.move(root / "b", tmp_path / "b")
    with pytest.raises(
        UserError, match=r"names 20 files that are not there, first 'b/00\.mp4'; bring them back, or take out their lines: "
    ):
        bound(home, root)
    listed(root, [line for line in lines if not line.startswith("b/")])
    assert bound(home, root).items() <= before.items()
    shutil.move(tmp_path / "b", root / "b")
    assert bound(home, root) == before, "without their lines"
    listed(root, lines)
    assert bound(home, root) == before


def test_one_signer_left_of_a_split_by_signer_blocks_nothing(home: Home, root: Path, tmp_path: Path) -> None:
    listed(root, [f"{label}/{number:02}.mp4,,{label}" for label in "abc" for number in range(20)])
    before = bound(home, root)
    for label in "bc":
        shutil.move(root / label, tmp_path / label)
    listed(root, [f"a/{number:02}.mp4,,a" for number in range(20)])
    assert bound(home, root).items() <= before.items()
    (root / "split.csv").unlink()
    assert bound(home, root).items() <= before.items()


@pytest.mark.parametrize(("column", "word"), [("split", "split"), ("signer", "signer")])
def test_a_clip_that_the_corpus_own_list_does_not_name_is_unassigned_with_a_warning(column: str, word: str, home: Home, root: Path) -> None:
    parts = {"a": "train", "b": "val", "c": "test"}
    own = "{part}," if column == "split" else ",{part}"
    lines = [f"{label}/{number:02}.mp4,{own.format(part=parts[label])}" for label in "abc" for number in range(20)]
    listed(root, lines)
    before = bound(home, root)
    touch(root, "a/new.mp4")
    heard = said(home, "manifest", "signs")
    assert (
        f"warning: 1 clips of signs are in no split and take no part in training and scoring, first 'a/new': the corpus gives no {word}"
        in heard
    )
    assert "unassigned 1" in heard
    assert splits(manifest.read(home, "signs")) == {**before, "a/new": "unassigned"}
    listed(root, [*lines[1:], "a/new.mp4," + own.format(part="train")])
    after = bound(home, root)
    assert after["a/new"] == before["a/00"]
    assert {clip: after[clip] for clip in before} == before, "a clip that the list forgot keeps what it had"
    assert "in no split" not in said(home, "manifest", "signs")


def lis_sample(number: int, label: str) -> list[str]:
    return lis_clip(f"train/{label}", number)


def test_validation_cut_from_an_official_train_stays_when_it_is_away_or_the_lists_grow(home: Home, tmp_path: Path) -> None:
    root = tmp_path / "LIS"
    for number in range(60):
        touch(root, *lis_sample(number, f"{number % 3}_{'ABC'[number % 3]}"))
    before = splits(manifest.bind(home, "lis", root=root))
    cut = [clip for clip, split in before.items() if split == "val"]
    assert cut
    for clip in cut:
        shutil.move(root / "train" / clip, tmp_path / clip.replace("/", "-"))
    touch(root, *lis_sample(100, "0_A"), *lis_sample(101, "1_B"))
    between = splits(manifest.bind(home, "lis"))
    for clip in cut:
        shutil.move(tmp_path / clip.replace("/", "-"), root / "train" / clip)
    assert splits(manifest.bind(home, "lis")) == {**before, **between}


def test_validation_cut_by_clips_stays_when_more_signers_would_have_it_cut_by_them(home: Home, root: Path) -> None:
    lines = [f"{label}/{number:02}.mp4,train,signer{number % 2}" for label in "abc" for number in range(20)]
    listed(root, lines)
    before = bound(home, root)
    assert set(before.values()) == {"train", "val"}
    touch(root, "a/new.mp4")
    listed(root, [*lines, "a/new.mp4,train,signer2"])
    after = bound(home, root)
    assert {clip: after[clip] for clip in before} == before


def test_official_validation_that_is_away_is_not_cut_anew(home: Home, root: Path, tmp_path: Path) -> None:
    parts = {"a": "train", "b": "val", "c": "test"}
    lines = [f"{label}/{number:02}.mp4,{parts[label]}," for label in "abc" for number in range(20)]
    listed(root, lines)
    before = bound(home, root)
    shutil.move(root / "b", tmp_path / "b")
    touch(root, *(f"a/new {number}.mp4" for number in range(30)))
    lines += [f"a/new {number}.mp4,train," for number in range(30)]
    listed(root, [line for line in lines if not line.startswith("b/")])
    after = bound(home, root)
    assert set(after.values()) == {"train", "test"}
    shutil.move(tmp_path / "b", root / "b")
    listed(root, lines)
    assert bound(home, root) == {**after, **before}


def test_a_manifest_without_memory_is_read_and_remembers_from_then_on(home: Home, root: Path, tmp_path: Path) -> None:
    """As the versions before wrote it."""
    before = bound(home, root)
    path = home.manifests / "signs.json"
    content = json.loads(path.read_bytes())
    path.write_text(json.dumps({**{k: v for k, v in content.items() if k not in ("table", "away")}, "digest": "0" * 16}))
    assert splits(manifest.read(home, "signs")) == before
    written = path.read_bytes()
    assert bound(home, root) == before
    assert path.read_bytes() == written, "nothing changed"
    shutil.move(root / "a", tmp_path / "a")
    bound(home, root)
    shutil.move(tmp_path / "a", root / "a")
    assert bound(home, root) == before


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


@pytest.mark.parametrize("first", ["NFC", "NFD"])
def test_a_corpus_copied_to_a_disk_that_writes_names_in_another_form_is_the_same(first: str, home: Home, tmp_path: Path) -> None:
    names = [f"{label}/č{number}.mp4" for label in ("žuta", "što") for number in range(20)]
    other = "NFD" if first == "NFC" else "NFC"
    for form in ("NFC", "NFD"):
        touch(tmp_path / form, *(unicodedata.normalize(form, name) for name in names))
        (tmp_path / form / "split.csv").write_text(
            "file,signer\n" + "".join(f"{name},{'Ćo' if i % 2 else 'Zoë'}\n" for i, name in enumerate(names))
        )
    before = manifest.bind(home, "signs", corpus="folder", root=tmp_path / first, split="stratified")
    after = manifest.bind(home, "signs", root=tmp_path / other)
    assert set(before.ids) == {name.removesuffix(".mp4") for name in names}
    assert (splits(after), after.classes, after.away) == (splits(before), before.classes, ())
    assert [s.signer for s in after.samples] == [s.signer for s in before.samples]
    assert manifest.missing_files(after) == []


def test_names_that_an_older_manifest_holds_in_another_form_stay(home: Home, tmp_path: Path) -> None:
    names = [decomposed(f"žuta/č{number}.mp4") for number in range(10)]
    root = touch(tmp_path / "data", *names)
    table = manifest.bind(home, "signs", corpus="folder", root=root)
    old = [Sample(decomposed(s.id), s.media, decomposed("žuta"), s.split, decomposed("Ćo")) for s in table.samples]
    manifest.write(home, Manifest("signs", table.binding, (decomposed("žuta"),), tuple(old)))
    after = manifest.bind(home, "signs")
    assert (splits(after), after.classes, after.away) == ({s.id: s.split for s in old}, (decomposed("žuta"),), ())
