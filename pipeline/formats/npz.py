"""One `.npz` file of plain arrays."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.errors import UserError
from pipeline.formats._arrays import clips_in
from pipeline.formats._clips import Format, Incoming


def read(source: Path) -> Iterator[Incoming]:
    """`x` `(clips, rows, values)` with `label` and `sequence`, a value a clip."""
    try:
        with open(source, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, NotImplementedError, BadZipFile, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{source} is no .npz file of plain arrays: {error}") from error
    yield from clips_in(source, arrays)


format: Format = Format(read=read)
