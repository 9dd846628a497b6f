"""What every store keeps to: each file of `pipeline/cache/stores/` is tested without being named here; then what ours promise beyond."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
import zarr

from pipeline import registry
from pipeline.cache import shards
from pipeline.cache.shards import open_shard
from pipeline.cache.stores import zarr as zarr_store
from pipeline.errors import UserError
from pipeline.testing import StoreContract
from pipeline.testing.stores import DTYPES, store_of, values_of, written
from pipeline.types import Array

STORES = registry.names("store")


class TestStores(StoreContract):
    names = STORES


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STORES)
def test_rows_are_mapped(name: str, dtype: str, tmp_path: Path) -> None:
    assert isinstance(store_of(name).open(written(tmp_path, name, values_of((40, 96), dtype))), np.memmap)


@pytest.mark.parametrize("chunk_bytes", [1, 64, 4096])
@pytest.mark.parametrize("shape", [(40, 6), (7,), (3, 2, 4), (0, 5)], ids=str)
def test_rows_come_back_however_small_the_chunks(
    shape: tuple[int, ...], chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_store, "CHUNK_BYTES", chunk_bytes)
    path = written(tmp_path, "zarr", values_of(shape, "float32"))
    np.testing.assert_array_equal(store_of("zarr").open(path), values_of(shape, "float32"), strict=True)
    np.testing.assert_array_equal(TestStores().plainly(path), values_of(shape, "float32"), strict=True)


def shard_file(path: Path) -> Path:
    (file,) = (part for part in path.rglob("*") if part.is_file() and part.name != "zarr.json")
    return file


@pytest.mark.parametrize("shape", [(30, 8), (3000, 512)])
def test_a_zarr_shard_is_one_array_in_one_file_with_whole_rows_a_chunk(shape: tuple[int, int], tmp_path: Path) -> None:
    path = written(tmp_path, "zarr", values_of(shape, "float32"))
    array = zarr.open_array(path, mode="r")
    assert (array.chunks[1], array.shards and array.shards[0] >= shape[0]) == (shape[1], True)
    assert len([part for part in path.rglob("*") if part.is_file()]) == 2
    assert shard_file(path).stat().st_size >= np.prod(shape) * 4


def test_all_zero_rows_are_written_and_not_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, "zarr", values_of((3000, 512), "float32", zeros=True))
    assert shard_file(path).stat().st_size >= 3000 * 512 * 4
    assert isinstance(zarr_store.store.open(path), np.memmap)


def foreign(path: Path, values: Array, **settings: Any) -> Array:
    """An array that another program wrote, as our store opens it."""
    array = zarr.create_array(store=path, shape=values.shape, dtype=values.dtype, **settings)
    array[:] = values
    return zarr_store.store.open(path)


@pytest.mark.parametrize(
    "settings",
    [
        {"chunks": (8, 16), "shards": (64, 16)},
        {"chunks": (64, 16)},
        {"chunks": (8, 16), "shards": (16, 16), "compressors": None},
        {"chunks": (8, 8), "shards": (64, 16), "compressors": None},
        {"chunks": (64, 8), "shards": (64, 16), "compressors": None},
    ],
    ids=["compressed", "not sharded", "many shards", "split rows", "two columns"],
)
def test_an_array_that_cannot_be_mapped_is_decoded(settings: dict[str, Any], tmp_path: Path) -> None:
    values = values_of((60, 16), "float32")
    rows = foreign(tmp_path / "other.zarr", values, **settings)
    assert not isinstance(rows, np.memmap)
    np.testing.assert_array_equal(rows, values)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 0


def test_chunks_that_are_out_of_order_are_decoded(tmp_path: Path) -> None:
    crc32c = pytest.importorskip("google_crc32c")
    values = values_of((64, 16), "float32")
    foreign(tmp_path / "other.zarr", values, chunks=(32, 16), shards=(64, 16), compressors=None)
    file = shard_file(tmp_path / "other.zarr")
    first, second, offsets = (content := file.read_bytes())[:2048], content[2048:4096], np.array([[2048, 2048], [0, 2048]], "<u8").tobytes()
    file.write_bytes(second + first + offsets + crc32c.value(offsets).to_bytes(4, "little"))
    rows = zarr_store.store.open(tmp_path / "other.zarr")
    assert not isinstance(rows, np.memmap)
    np.testing.assert_array_equal(rows, values)


def test_a_lost_chunk_is_not_read_as_zeros(tmp_path: Path) -> None:
    values = values_of((60, 16), "float32")
    values[8:16] = 0  # zarr leaves this chunk out by default, as if it were lost
    with pytest.raises(ValueError, match="chunks are missing in 0"):
        foreign(tmp_path / "lost.zarr", values, chunks=(8, 16), shards=(64, 16), compressors=None)


@pytest.mark.parametrize("kept", [0, 10, 0.5])
def test_a_cut_shard_is_one_line(kept: float, tmp_path: Path) -> None:
    path = written(tmp_path, "zarr", values_of((600, 1024), "float32"))
    content = shard_file(path).read_bytes()
    shard_file(path).write_bytes(content[: int(kept * len(content)) if kept < 1 else int(kept)])
    with pytest.raises(UserError, match=r"the shard .*shard\.zarr is missing or damaged \(.+\); run: signcache verify .* --mend"):
        open_shard(tmp_path, "zarr", path.name)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"shape": [3]}'])
def test_damaged_metadata_is_one_line(text: str, tmp_path: Path) -> None:
    path = written(tmp_path, "zarr", values_of((3, 4), "float32"))
    (path / "zarr.json").write_text(text)
    with pytest.raises(UserError, match="is missing or damaged"):
        open_shard(tmp_path, "zarr", path.name)


@pytest.mark.parametrize("name", STORES)
def test_the_disk_is_asked_for_rows_and_the_ends_of_files_without_opening_the_shard(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = values_of((600, 1024), "float32")
    path = written(tmp_path, name, values)
    asked = bytearray()

    def advise(file: int, begin: int, size: int, _: int) -> None:
        assert 0 < size <= shards.ASKED_BYTES
        asked.extend(os.pread(file, size, begin))

    monkeypatch.setattr(os, "posix_fadvise", advise, raising=False)
    monkeypatch.setattr(registry, "create", pytest.fail)
    shards.expect(path, 4096, [(100, 150), (400, 1)])
    ends = [file.read_bytes()[-shards.ASKED_BYTES :] for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    assert all(end in asked for end in ends)
    assert values[101:249].tobytes() in asked  # less one row for what lies before the rows
    assert len(asked) == sum(map(len, ends)) + 151 * 4096
    asked.clear()
    shards.expect(path, 4096, [(10_000, 9)])  # of a file that lost its end
    assert len(asked) == sum(map(len, ends))


def test_a_shard_is_summed_without_holding_it(tmp_path: Path) -> None:
    values = np.ones((4096, 2048), np.float32)
    name = shards.new_name(0)
    marker = shards.Marker(name, f"{name}.h5", "hdf5", "float32", (2048,), (), ())
    shards.write_shard(tmp_path / "warm", marker, values[:1], {})
    tracemalloc.start()
    try:
        shards.write_shard(tmp_path / "shard", marker, values, {})
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    finally:
        tracemalloc.stop()
    assert shards.read_record(tmp_path / "shard" / f"{name}.json").checksums == {
        f"{name}.h5": xxhash.xxh3_128_hexdigest((tmp_path / "shard" / f"{name}.h5").read_bytes())
    }
