"""Bytes that change under an unchanged size and time: rows made from bytes that a clip has no more never win."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.checkout import Checkout, write_clip

CLIP = "class0/clip 02"
TOKENS = pytest.mark.parametrize("token", ["000000000000", "ffffffffffff"], ids=["lowest name", "highest name"])
ALL = ("colour", "palette", "brightness")


def name_shards(checkout: Checkout, token: str) -> None:
    """Shards written from now on sort before or after those of the same place written until now."""
    checkout.edit("pipeline/cache/shards.py", "{secrets.token_hex(6)}", token)


def rewrite(path: Path, content: bytes) -> None:
    """Other bytes under the same size and time; a container may end in any bytes."""
    stat = path.stat()
    assert len(content) <= stat.st_size
    path.write_bytes(content.ljust(stat.st_size, b"\0"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def other(folder: Path) -> bytes:
    """A clip of other pictures, shorter in bytes."""
    write_clip(folder / "other.mp4", 40, frames=2)
    return (folder / "other.mp4").read_bytes()


def fresh_rows(checkout: Checkout, folder: Path, stage: str) -> dict[str, tuple[tuple[int, ...], bytes]]:
    """What an extraction into an empty cache publishes."""
    anew = Checkout(folder / "anew")
    homes = ("--cache", anew.folder / "cache", "--manifests", anew.folder / "manifests")
    checkout.ok(*homes, "manifest", "tiny", "--corpus", "folder", "--root", checkout.folder / "clips")
    checkout.run(*homes, "extract", "tiny", stage)
    return anew.rows(stage)


@TOKENS
def test_rehash_publishes_the_rows_of_the_bytes_that_are_there(checkout: Checkout, tmp_path: Path, token: str) -> None:
    before = checkout.rows("colour")[CLIP]
    rewrite(checkout.clip(2), other(tmp_path))
    name_shards(checkout, token)
    assert checkout.extracted(*ALL, "--rehash") == dict.fromkeys(ALL, 1)
    assert checkout.rows("colour")[CLIP] != before
    for stage in ALL:
        assert checkout.rows(stage) == fresh_rows(checkout, tmp_path / stage, stage)
    assert checkout.extracted(*ALL) == {}
    assert checkout.extracted(*ALL, "--rehash") == {}


@TOKENS
def test_bytes_that_were_put_back_find_their_rows_again(checkout: Checkout, tmp_path: Path, token: str) -> None:
    before, content = checkout.rows("colour"), checkout.clip(2).read_bytes()
    rewrite(checkout.clip(2), other(tmp_path))
    name_shards(checkout, token)
    assert checkout.extracted("colour", "--rehash") == {"colour": 1}
    rewrite(checkout.clip(2), content)
    assert checkout.extracted("colour", "--rehash") == {}
    assert checkout.rows("colour") == before


@TOKENS
def test_a_rehash_that_is_killed_before_it_publishes_is_settled_by_the_bytes(checkout: Checkout, tmp_path: Path, token: str) -> None:
    rewrite(checkout.clip(2), other(tmp_path))
    name_shards(checkout, token)
    checkout.edit("pipeline/extraction/extract.py", "        publish(home,", "        raise SystemExit(9)\n        publish(home,")
    assert checkout.run("extract", "tiny", "colour", "--rehash").returncode == 9
    checkout.edit("pipeline/extraction/extract.py", "        raise SystemExit(9)\n", "")
    assert checkout.plan("colour")["colour"]["reasons"] == {"changed input": 1}
    assert checkout.extracted("colour") == {}
    assert checkout.rows("colour") == fresh_rows(checkout, tmp_path, "colour")


def test_a_clip_that_became_unreadable_loses_its_old_rows(checkout: Checkout) -> None:
    rewrite(checkout.clip(2), b"no video at all")
    assert checkout.run("extract", "tiny", "colour", "--rehash").returncode == 1
    assert_failed(checkout)


def test_a_clip_whose_new_bytes_kill_the_decoder_loses_its_old_rows(checkout: Checkout, tmp_path: Path) -> None:
    loop = "        for (image,) in frames:"
    checkout.edit("stages/colour.py", loop, f"        import os\n{loop}\n            os.path.exists('deadly') and os.abort()")
    checkout.ok("extract", "tiny", "colour")
    rewrite(checkout.clip(2), other(tmp_path))
    (checkout.folder / "deadly").touch()
    assert checkout.run("extract", "tiny", "colour", "--rehash").returncode == 1
    assert_failed(checkout)


def assert_failed(checkout: Checkout) -> None:
    assert CLIP not in checkout.rows("colour")
    assert checkout.plan("colour")["colour"]["failed"] == 1
    assert "nothing to do" in checkout.ok("extract", "tiny", "colour").stderr


def test_rows_of_bytes_that_are_gone_are_withdrawn_even_where_nothing_replaces_them_yet(checkout: Checkout, tmp_path: Path) -> None:
    rewrite(checkout.clip(2), other(tmp_path))
    assert checkout.extracted("colour", "--rehash", "--only", "class1/clip 01") == {}
    assert CLIP not in checkout.rows("colour")
    assert checkout.extracted("colour") == {"colour": 1}
    assert checkout.rows("colour") == fresh_rows(checkout, tmp_path, "colour")
