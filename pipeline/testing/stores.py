"""What every store keeps to."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import registry
from pipeline.cache.shards import open_shard
from pipeline.errors import UserError
from pipeline.testing._contract import Contract, printed
from pipeline.types import Array, Store

DTYPES = ("float32", "float16", "uint8", "int64")
SHAPES = [(0,), (0, 5), (1,), (1, 1), (1, 2048), (3, 2, 4), (17, 96), (600, 1024), (5, 300_000), (2, 2048, 7, 7)]


def store_of(name: str) -> Store:
    """The store of this name."""
    found: Store = registry.create("store", name)
    return found


def values_of(shape: tuple[int, ...], dtype: str, *, zeros: bool = False) -> Array:
    """Rows of this shape: random, or nothing but zeros."""
    if zeros:
        return np.zeros(shape, dtype)
    return (np.random.default_rng(0).random(shape, np.float32) * 200).astype(dtype)


def written(folder: Path, name: str, values: Array) -> Path:
    """The shard of these rows, written anew."""
    path = folder / f"shard{store_of(name).suffix}"
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)
    store_of(name).write(path, values)
    return path


class StoreContract(Contract):
    """Rows come back as they were, mapped and read-only, also by the format's own library; a shard is written once."""

    def plainly(self, path: Path) -> Array:
        """The rows as the format's own library gives them to anyone; give your own for another format."""
        if path.suffix == ".zarr":
            import zarr

            return np.asarray(zarr.open_array(path, mode="r")[...])
        import h5py

        with h5py.File(path) as file:
            (dataset,) = file.values()
            return np.asarray(dataset[...])

    @pytest.mark.parametrize("zeros", [False, True])
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_rows_come_back_as_they_were_and_open_plainly(self, name: str, shape: tuple[int, ...], zeros: bool, tmp_path: Path) -> None:
        values = values_of(shape, "float32", zeros=zeros)
        path = written(tmp_path, name, values)
        for back in (store_of(name).open(path), self.plainly(path)):
            assert back.dtype == values.dtype
            np.testing.assert_array_equal(back, values, strict=True)

    def test_any_shape_and_type_comes_back(self, name: str, tmp_path: Path) -> None:
        @given(st.lists(st.integers(1, 6), max_size=3), st.integers(0, 40), st.sampled_from(DTYPES), st.booleans())
        def comes_back(shape: list[int], rows: int, dtype: str, zeros: bool) -> None:
            values = values_of((rows, *shape), dtype, zeros=zeros)
            path = written(tmp_path, name, values)
            np.testing.assert_array_equal(store_of(name).open(path), values, strict=True)
            np.testing.assert_array_equal(self.plainly(path), values, strict=True)

        comes_back()

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rows_are_read_only(self, name: str, dtype: str, tmp_path: Path) -> None:
        rows = store_of(name).open(written(tmp_path, name, values_of((40, 96), dtype)))
        with pytest.raises(ValueError, match="read-only"):
            rows[0] = 0

    def test_a_shard_is_never_written_twice(self, name: str, tmp_path: Path) -> None:
        path = written(tmp_path, name, values_of((3, 4), "float32"))
        with pytest.raises(Exception, match=r"(?i)exist"):
            store_of(name).write(path, values_of((3, 4), "float32", zeros=True))
        np.testing.assert_array_equal(self.plainly(path), values_of((3, 4), "float32"))

    def test_a_missing_shard_is_one_line(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"the shard .*gone.* is missing or damaged .*run: signcache verify .* --mend, then extract again"
        ):
            open_shard(tmp_path, name, f"gone{store_of(name).suffix}")

    def test_reading_imports_no_zarr_and_no_torch(self, name: str, tmp_path: Path) -> None:
        path = written(tmp_path, name, values_of((40, 96), "float32"))
        said = printed(f"""if True:
            import sys
            from pathlib import Path
            from pipeline import registry
            values = registry.create("store", {name!r}).open(Path({str(path)!r}))
            print(float(values.sum()) > 0, "zarr" in sys.modules, "torch" in sys.modules)""")
        assert said == ["True", "False", "False"]
