"""The two files of a name: whole or not read, in one atomic step, and never called damaged for a disk that refuses."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpus import manifest
from pipeline.corpus.manifest import Home
from pipeline.errors import UserError
from tests.commands import said
from tests.corpus.test_manifest import filled, splits


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "cache", tmp_path / "manifests")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return filled(tmp_path / "data", 10)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "corpus": "folder", "root": 5, "split": "", "seed": 0, "classes": []}'])
def test_a_damaged_binding_says_what_helps(text: str, home: Home, root: Path) -> None:
    manifest.bind(home, "signs", corpus="folder", root=root)
    (home.manifests / "signs.json").write_text(text)
    anew = r"restore it, or delete it and bind the name anew: signcache manifest signs --corpus CORPUS --root DIR$"
    for attempt in (manifest.read, manifest.bind):
        with pytest.raises(UserError, match=rf"^the manifest of 'signs' is damaged \(\S+signs\.json: .*\); {anew}"):
            attempt(home, "signs")


DAMAGED = {
    "": "signs.csv is missing",
    "id,label,split,signer,rgb\na/1,a,dev,,a/1.mp4\n": "split 'dev' of 'a/1'",
    "id,label\na/1,a\n": "'split' is not in list",
    "id,label,split,signer,rgb\na/1,a,train,,a/1.mp4,more\n": "6 values for the 5 columns of 'a/1'",
    f"id,label,split,signer,rgb\n{'x' * 200_000},a,train,,a/1.mp4\n": "field larger than field limit",
}
OTHER = {"id,label,split,signer,rgb\na/1,a,train,,a/1.mp4\n": "signs.csv is not as it was written"}


@pytest.mark.parametrize(
    ("text", "why", "has_digest"),
    [*((text, why, False) for text, why in DAMAGED.items()), ("", DAMAGED[""], True), *((text, why, True) for text, why in OTHER.items())],
)
def test_a_damaged_table_is_never_read_and_what_is_advised_works(text: str, why: str, has_digest: bool, home: Home, root: Path) -> None:
    before, table, binding = (
        manifest.bind(home, "signs", corpus="folder", root=root, seed=3),
        home.manifests / "signs.csv",
        home.manifests / "signs.json",
    )
    table.unlink()
    if text:
        table.write_text(text)
    if not has_digest:  # as the versions before wrote it
        binding.write_text(json.dumps({key: value for key, value in json.loads(binding.read_text()).items() if key != "table"}))
    for attempt in (manifest.read, manifest.bind):
        with pytest.raises(UserError, match=rf"^the manifest of 'signs' is damaged \(.*{why}.*\); restore it, or delete .*") as told:
            attempt(home, "signs")
    binding.unlink()
    said(home, *shlex.split(str(told.value).partition("divide the clips anew: signcache ")[2]))
    assert manifest.read(home, "signs") == before


@pytest.mark.parametrize("file", ["signs.json", "signs.csv"])
def test_a_file_that_cannot_be_read_now_is_not_called_damaged(file: str, home: Home, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound = manifest.bind(home, "signs", corpus="folder", root=root)
    (home.manifests / file).rename(home.manifests / "kept")
    (home.manifests / file).symlink_to(file)  # as a disk that fails: not missing, and not to be opened
    for attempt in (manifest.read, manifest.bind):
        with pytest.raises(UserError, match=rf"^cannot read \S+{file}: .*; nothing is lost: mend that and run the same line again$"):
            attempt(home, "signs")
    (home.manifests / "kept").replace(home.manifests / file)
    assert manifest.read(home, "signs") == manifest.bind(home, "signs") == bound


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.corpus import manifest

steps, replace = int(sys.argv[4]), os.replace

def counted(*paths):
    global steps
    if not steps:
        os.kill(os.getpid(), signal.SIGKILL)
    steps -= 1
    replace(*paths)

os.replace = counted
manifest.bind(manifest.Home(Path(sys.argv[1]), Path(sys.argv[2])), "signs", root=Path(sys.argv[3]))
"""


def test_a_kill_at_any_moment_leaves_the_old_manifest_or_the_new_one(home: Home, root: Path, tmp_path: Path) -> None:
    old = manifest.bind(home, "signs", corpus="folder", root=root)
    copied = shutil.copytree(home.manifests, tmp_path / "unharmed")
    other = tmp_path / "other"
    shutil.copytree(root, other)
    shutil.rmtree(other / "a")
    (other / "c").mkdir()
    for number in range(5):
        (other / "c" / f"{number}.mp4").write_text("c")
    new = manifest.bind(Home(home.cache, copied), "signs", root=other)
    seen = []
    for steps in range(5):
        words = [sys.executable, "-c", KILLED, home.cache, home.manifests, other, steps]
        done = subprocess.run(list(map(str, words)), check=False)
        seen.append((done.returncode, "old" if manifest.read(home, "signs") == old else "new"))
        assert manifest.read(home, "signs") in (old, new)
    assert seen == [(-signal.SIGKILL, "old"), (-signal.SIGKILL, "old"), (-signal.SIGKILL, "new"), (-signal.SIGKILL, "new"), (0, "new")]


def test_what_a_killed_writer_left_is_read_and_then_superseded(home: Home, root: Path, tmp_path: Path) -> None:
    manifest.bind(home, "signs", corpus="folder", root=root)
    filled(root, 11)
    words = [sys.executable, "-c", KILLED, home.cache, home.manifests, root, 2]
    assert subprocess.run(list(map(str, words)), check=False).returncode == -signal.SIGKILL
    between = manifest.read(home, "signs")
    assert len(between.samples) == 22
    filled(root, 12)
    assert subprocess.run(list(map(str, words)), check=False).returncode == -signal.SIGKILL, "killed again, before its own step"
    assert manifest.read(home, "signs") in (between, manifest.bind(home, "signs"))
    assert splits(manifest.bind(home, "signs")).items() >= splits(between).items()


def test_a_manifest_that_cannot_be_written_is_one_line(home: Home, root: Path) -> None:
    home.manifests.parent.mkdir(exist_ok=True)
    home.manifests.write_text("no folder")
    with pytest.raises(UserError, match=r"^cannot (read|write) \S+signs\.json: Not a directory"):
        manifest.bind(home, "signs", corpus="folder", root=root)
