"""Zarr v3: one sharded array a shard, inner chunks of whole rows, uncompressed, so that readers can map the file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from pipeline.types import Array, Store

CHUNK_BYTES = 1 << 20
INDEX_CRC_BYTES = 4
NO_CHUNK = np.iinfo(np.uint64).max


class ZarrStore:
    """Shards that `zarr.open` reads, and that this reader maps without importing zarr."""

    suffix = ".zarr"

    def write(self, path: Path, values: Array) -> None:
        """Write `(rows, *row_shape)`; all-zero chunks are written too, since a missing chunk cannot be told from a lost one."""
        import zarr

        row_bytes = max(1, values.dtype.itemsize * math.prod(values.shape[1:]))
        chunk_rows = max(1, min(len(values), CHUNK_BYTES // row_bytes))
        shard_rows = max(1, math.ceil(len(values) / chunk_rows)) * chunk_rows
        array = zarr.create_array(
            store=path,
            shape=values.shape,
            dtype=values.dtype,
            chunks=(chunk_rows, *values.shape[1:]),
            shards=(shard_rows, *values.shape[1:]),
            compressors=None,
            config={"write_empty_chunks": True},
        )
        if len(values):
            array[:] = values

    def open(self, path: Path) -> Array:
        """`(rows, *row_shape)`, mapped where the shard's index shows one contiguous run, else decoded by zarr."""
        meta = json.loads((path / "zarr.json").read_bytes())
        shape = tuple(meta["shape"])
        dtype = np.dtype(meta["data_type"]).newbyteorder("<")
        if 0 in shape:
            return np.empty(shape, dtype)
        offset = _contiguous_offset(path, meta)
        if offset is None:
            import zarr

            values = np.asarray(zarr.open_array(path, mode="r")[:])
            values.flags.writeable = False
            return values
        return np.memmap(_shard_file(path, len(shape)), dtype, "r", offset, shape)


def _shard_file(path: Path, dimensions: int) -> Path:
    return path.joinpath("c", *["0"] * dimensions)


def _contiguous_offset(path: Path, meta: dict[str, object]) -> int | None:
    """Where the rows begin in the one shard file, or None where they are compressed or scattered; ValueError where some are lost."""
    grid = meta["chunk_grid"]["configuration"]["chunk_shape"]  # type: ignore[index]
    codec = meta["codecs"][0]  # type: ignore[index]
    if codec["name"] != "sharding_indexed" or [c["name"] for c in codec["configuration"]["codecs"]] != ["bytes"]:
        return None
    inner = codec["configuration"]["chunk_shape"]
    shape = meta["shape"]
    if grid[0] < shape[0] or list(inner[1:]) != list(shape[1:]):  # type: ignore[index]
        return None
    file = _shard_file(path, len(inner))
    index_bytes = grid[0] // inner[0] * 16
    with open(file, "rb") as shard:
        shard.seek(-index_bytes - INDEX_CRC_BYTES, 2)
        index = np.frombuffer(shard.read(index_bytes), "<u8").reshape(-1, 2)
    offsets, sizes = index[:, 0], index[:, 1]
    if (offsets == NO_CHUNK).any():
        raise ValueError(f"chunks are missing in {file.name}")
    if (offsets[1:] != offsets[:-1] + sizes[:-1]).any():
        return None
    return int(offsets[0])


store: Store = ZarrStore()
