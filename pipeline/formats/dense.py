"""One array of all clips, in a Zarr group, an HDF5 file or a `.npy`, whichever the source is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.decoding.tables import read_npy
from pipeline.formats import hdf5, zarr
from pipeline.formats._arrays import clips_in, known
from pipeline.formats._clips import Format, Incoming


def read(source: Path) -> Iterator[Incoming]:
    """By its suffix; of a `.npy` the others lie beside it as `label.npy` or `<name>_label.npy`."""
    suffix = source.suffix.lower()
    if suffix == ".npy":
        beside = {name: path for name in known() for path in _beside(source, name)}
        return clips_in(source, {name: read_npy(path) for name, path in beside.items()} | {"x": read_npy(source)})
    return hdf5.read(source) if suffix in hdf5.SUFFIXES else zarr.read(source)


def _beside(source: Path, name: str) -> Iterator[Path]:
    yield from (path for path in (source.with_name(f"{name}.npy"), source.with_name(f"{source.stem}_{name}.npy")) if path.is_file())


format: Format = Format(read=read)
