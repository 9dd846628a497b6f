"""HDF5: one contiguous dataset `rows` a shard, written at once, so that readers can map the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.types import Array, Store

DATASET = "rows"


class Hdf5Store:
    """Shards that `h5py.File(path)["rows"]` reads, and that this reader maps."""

    suffix = ".h5"

    def write(self, path: Path, values: Array) -> None:
        """Write `(rows, *row_shape)` contiguous and uncompressed."""
        import h5py

        with h5py.File(path, "x") as file:
            file.create_dataset(DATASET, data=values)

    def open(self, path: Path) -> Array:
        """`(rows, *row_shape)`, mapped where the rows lie in one run, else (chunked, compressed, empty) decoded by h5py."""
        import h5py

        with h5py.File(path, "r") as file:
            rows = file[DATASET]
            shape, dtype, offset = rows.shape, rows.dtype, rows.id.get_offset()
            if offset is None:
                return np.asarray(rows[()])
        return np.memmap(path, dtype, "r", offset, shape)


store: Store = Hdf5Store()
