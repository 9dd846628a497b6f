"""MP_Data folders: landmarks kept a file a frame, as the widespread MediaPipe tutorial (nicknochnack) writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline import registry
from pipeline.decoding.tables import read_rows
from pipeline.formats._clips import Format, Incoming


def read(source: Path) -> Iterator[Incoming]:
    """`[MP_Data/]<label>/<sequence>/<frame>.npy`."""
    for sample in registry.create("dataset", "mp_data").samples(source):
        (folder,) = sample.media["landmarks"]
        rows = np.asarray(read_rows(source / folder))
        name = f"{sample.label}/{sample.id.rpartition('/')[2]}"
        yield Incoming((name, sample.id), rows, sample.label, "unassigned", len(rows))


format: Format = Format(read=read)
