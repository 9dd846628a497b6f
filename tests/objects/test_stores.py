"""A folder and a bucket keep the same promises, the bucket over a line that fails."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.objects import ObjectStore, bucket, opened
from pipeline.remote.signing import Key
from tests.s3_server import FAULTS, Line


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "bucket":
        request.getfixturevalue("line")
        return opened("s3://lab/some/prefix")
    return opened(str(tmp_path / "shared"))


def test_objects_are_there_whole_under_their_names(store: ObjectStore, tmp_path: Path) -> None:
    content = os.urandom((16 << 20) + 5)
    (tmp_path / "big").write_bytes(content)
    store.send(tmp_path / "big", "a/b/big")
    store.write("a/small", b"1")
    store.write("ab", b"2")
    store.fetch("a/b/big", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content
    assert (sorted(store.names("a/")), sorted(store.names(""))) == (["a/b/big", "a/small"], ["a/b/big", "a/small", "ab"])
    assert list(store.names("nowhere/")) == []
    store.write("a/small", b"3")
    assert store.read("a/small") == b"3"


def test_what_is_not_there_is_said_as_of_files(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    with pytest.raises(FileNotFoundError):
        store.fetch("nothing", tmp_path / "file")


def test_of_two_that_write_only_what_is_new_one_does(store: ObjectStore) -> None:
    assert store.write("it", b"first", only_new=True)
    assert not store.write("it", b"second", only_new=True)
    assert store.read("it") == b"first"


def test_names_are_read_page_by_page(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    store = opened("s3://lab/many")
    for number in range(7):
        store.write(f"of/{number}", b"")
    line.seen.clear()
    assert sorted(store.names("of/")) == [f"of/{number}" for number in range(7)]
    assert len(line.seen) == 3


@pytest.mark.parametrize("fault", FAULTS)
def test_a_line_that_fails_is_tried_again(line: Line, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "SILENT_SECONDS", 1 if fault == "delay" else 60)
    store, content = opened("s3://lab/x"), os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)

    def failing() -> None:
        line.faults.append(fault)

    failing()
    assert store.write("new", content, only_new=True), "though an answer that was lost said so before"
    failing()
    store.write("old", content)
    failing()
    store.send(tmp_path / "file", "sent")
    failing()
    assert store.read("sent") == content
    failing()
    store.fetch("new", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == content
    failing()
    assert sorted(store.names("")) == ["new", "old", "sent"]


def test_a_line_that_stays_down_is_one_sentence(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "RETRIES", 2)
    monkeypatch.setattr(bucket, "WAITS", (0.01,))
    line.faults.extend(["refuse"] * 50)
    with pytest.raises(UserError, match=r"^s3://lab/x does not answer as it should \(.*\); run the same line again when it does$"):
        opened("s3://lab/x").read("it")


def test_no_bucket_and_no_credentials_are_one_sentence(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened("s3://nobody/x")
    (tmp_path / "file").write_bytes(b"1")
    for work in (lambda: list(store.names("")), lambda: store.write("it", b"1"), lambda: store.send(tmp_path / "file", "it")):
        with pytest.raises(
            UserError, match=r"^s3://nobody/x lies in no bucket that is there \(NoSuchBucket\); make the bucket, or name another$"
        ):
            work()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr(bucket, "METADATA", "http://127.0.0.1:9/")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="s3://lab/x needs credentials in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        opened("s3://lab/x").read("it")


def test_credentials_in_a_url_are_refused_and_not_said_again() -> None:
    with pytest.raises(UserError, match="s3://lab/x: credentials stand in no URL") as raised:
        opened("s3://me:secret@lab/x")
    assert "secret" not in str(raised.value).replace("AWS_SECRET", "")


def test_a_place_that_is_none_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"ftp://lab/x: no place for objects \(.*\); name a folder, or s3://bucket/prefix"):
        opened("ftp://lab/x")


def test_without_its_library_a_bucket_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UserError, match=r"^a bucket needs obstore: pip install -e '.\[remote\]'; a folder does without$"):
        opened("s3://lab/x")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(UserError, match=r"^shared features are signed, which needs cryptography: pip install -e '.\[remote\]'$"):
        Key("a secret that only CI holds")
