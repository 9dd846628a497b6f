"""Only the holder of the key pushes, and what was changed since is believed no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.corpus.manifest import Home
from pipeline.remote import signing
from tests.commands import said
from tests.remote.conftest import SECRET, Mine


@pytest.fixture
def remote(tmp_path: Path, mine: Mine) -> Path:
    """A folder with the six shards of `mine`."""
    said(mine[0], "push", "signs", "resnet50", tmp_path / "remote")
    return tmp_path / "remote"


def test_without_the_key_nothing_is_pushed(mine: Mine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(signing.KEY)
    told = said(mine[0], "push", "signs", "resnet50", tmp_path / "remote", status=2)
    assert "without SIGNCACHE_REMOTE_KEY in the environment a remote is only read" in told
    monkeypatch.setenv(signing.KEY, "short")
    told = said(mine[0], "push", "signs", "resnet50", tmp_path / "remote", status=2)
    assert "SIGNCACHE_REMOTE_KEY has 5 characters, and at least 16 are wanted" in told
    assert not (tmp_path / "remote").exists()


def test_the_secret_stays_in_the_environment(mine: Mine, remote: Path) -> None:
    files = [path for folder in (remote, mine[0].cache) for path in folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_only_signers_that_are_believed_are_taken(yours: Home, remote: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signing.SIGNERS, signing.Key("another secret, of CI").signer)
    told = said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)
    assert told.count("who is not among SIGNCACHE_REMOTE_SIGNERS") == 6
    monkeypatch.setenv(signing.SIGNERS, signing.Key(SECRET).signer)
    assert "30 clips in 6 shards taken" in said(yours, "pull", "ours", "resnet50", remote, "--trust")
    monkeypatch.setenv(signing.SIGNERS, "CI")
    assert "holds 'CI', which is no signer: 64 hex digits" in said(yours, "pull", "ours", "resnet50", remote, "--trust", status=2)


def changed(said: dict[str, object], key: signing.Key) -> bytes:
    return key.signed({name: value for name, value in said.items() if name not in ("signer", "signature")})


def test_a_marker_that_was_changed_fits_its_signature_no_more(yours: Home, remote: Path) -> None:
    marker = next(remote.glob("markers/*/*.json"))
    marker.write_text(marker.read_text().replace('"rate_hz": 25.0', '"rate_hz": 24.0', 1))
    told = said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)
    assert f"shard {marker.stem}: its marker is damaged (its signature does not fit what it says)" in told
    assert "25 clips in 5 shards taken" in told


@pytest.mark.parametrize("file", ["../../../stolen", "/etc/passwd", "{shard}/../../../stolen", "other.zarr/c/0/0"])
def test_a_marker_that_names_files_elsewhere_is_refused_whoever_signed_it(yours: Home, remote: Path, tmp_path: Path, file: str) -> None:
    marker = next(remote.glob("markers/*/*.json"))
    content = json.loads(marker.read_bytes())
    named = file.format(shard=content["marker"]["shard"])
    for part in ("files", "checksums"):
        content[part] = {named: next(iter(content[part].values()))}
    marker.write_bytes(changed(content, signing.Key(SECRET)))
    told = said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)
    assert f"it names the file {named!r}, which is none of its shard" in told
    assert not list(tmp_path.rglob("stolen"))


def test_the_marker_of_another_identity_is_refused(yours: Home, remote: Path) -> None:
    marker = next(remote.glob("markers/*/*.json"))
    content = json.loads(marker.read_bytes())
    marker.write_bytes(changed({**content, "digest": "0" * 16}, signing.Key(SECRET)))
    assert "it is that of another shard" in said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)


def test_rows_of_another_shape_are_refused(yours: Home, remote: Path) -> None:
    marker = next(remote.glob("markers/*/*.json"))
    content = json.loads(marker.read_bytes())
    content["marker"]["store"] = "hdf5"
    marker.write_bytes(changed(content, signing.Key(SECRET)))
    told = said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)
    assert f"{marker.stem}.zarr is no shard of the store hdf5" in told


def test_a_shard_that_lost_its_files_is_refused(yours: Home, remote: Path) -> None:
    file = next(path for path in remote.glob("shards/**/*") if path.is_file())
    file.unlink()
    assert "its files are not there" in said(yours, "pull", "ours", "resnet50", remote, "--trust", status=1)


def test_a_remote_of_a_newer_format_and_an_empty_one_are_one_line(mine: Mine, yours: Home, remote: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    told = said(yours, "pull", "ours", "resnet50", empty, status=2)
    assert told == f"signcache: {empty} holds no features; push some first: signcache push NAME STAGE {empty}\n"
    (remote / "signcache.json").write_text('{"format": 2}')
    for home, *line in ((yours, "pull", "ours"), (mine[0], "push", "signs")):
        told = said(home, *line, "resnet50", remote, status=2)
        assert f"{remote}/signcache.json has format 2, this signcache reads up to 1: install a newer signcache" in told
    (remote / "signcache.json").write_text("{")
    told = said(yours, "pull", "ours", "resnet50", remote, status=2)
    assert f"{remote}/signcache.json is damaged" in told


def test_a_damaged_shard_stays_here(mine: Mine, tmp_path: Path) -> None:
    file = max((path for path in mine[0].cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)
    told = said(mine[0], "push", "signs", "resnet50", tmp_path / "remote", status=2)
    assert "differs from its checksum and stays here; run: signcache verify signs resnet50 --mend, then extract again" in told
