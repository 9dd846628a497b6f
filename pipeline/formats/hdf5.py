"""One HDF5 file with the datasets that a Zarr group has: `features` `(N, T, *row_shape)`, `lengths`, `ids`, `labels`, `splits`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.formats._arrays import bad_container, clips_in
from pipeline.formats._clips import Format, Incoming, Outgoing, encodable

SUFFIXES = (".h5", ".hdf5", ".hdf")


def read(source: Path) -> Iterator[Incoming]:
    """Any file with such datasets."""
    import h5py

    with bad_container(source), h5py.File(source, "r") as file:
        yield from clips_in(source, {name: value for name, value in file.items() if isinstance(value, h5py.Dataset)})


def write(source: Outgoing, out: Path) -> None:
    """One HDF5 file with the datasets that a zarr group has."""
    import h5py

    with h5py.File(out, "x") as file:
        for key, value in source.attributes().items():
            file.attrs[key] = value
        dense = file.create_dataset("features", source.shape, source.features.dtype)
        for place, values in source.dense():
            dense[place] = values
        file["lengths"] = source.lengths
        for name, words in source.texts().items():
            file.create_dataset(name, data=[encodable(word) for word in words], shape=(len(words),), dtype=h5py.string_dtype())


format: Format = Format(read=read, write=write)
