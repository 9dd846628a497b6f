"""A Zarr group: `features` `(N, T, *row_shape)` padded with zeros, `lengths`, `ids`, `labels`, `splits`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.formats._arrays import bad_container, clips_in, known
from pipeline.formats._clips import GROUP_BYTES, Format, Incoming, Outgoing, encodable


def read(source: Path) -> Iterator[Incoming]:
    """Any group with such arrays, or attributes in place of the small ones."""
    import zarr

    with bad_container(source):
        opened = zarr.open(source, mode="r")
        arrays = dict(opened.arrays()) if isinstance(opened, zarr.Group) else {"x": opened}
        lists = {name: np.array(value) for name, value in opened.attrs.asdict().items() if name in known() and isinstance(value, list)}
        yield from clips_in(source, {**lists, **arrays})


def write(source: Outgoing, out: Path) -> None:
    """A zarr group: `features` `(N, T, *row_shape)`, `lengths`, `ids`, `labels`, `splits`."""
    import zarr

    group = zarr.create_group(out)
    group.attrs.update(source.attributes())
    clips = max(1, min(source.shape[0], GROUP_BYTES // max(1, source.shape[1] * source.features.row_bytes)))
    chunks = tuple(max(1, n) for n in (clips, *source.shape[1:]))
    dense = group.create_array("features", shape=source.shape, dtype=source.features.dtype, chunks=chunks, compressors=None)
    for place, values in source.dense():
        dense[place] = values
    group.create_array("lengths", data=source.lengths)
    for name, words in source.texts().items():
        texts = group.create_array(name, shape=(len(words),), dtype=str)
        if words:
            texts[:] = np.array([encodable(word) for word in words])


format: Format = Format(read=read, write=write)
