"""Media that are no video: arrays of `.npy`, `.mat`, `.txt`, `.csv` and `.json` files, folders of frames, and series of images."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.corpus.media import FRAME, IMAGES, files_of
from pipeline.errors import ClipError
from pipeline.types import Array

Reader = Literal["numpy", "scipy", "text", "json", "pillow"]


class Images(Sequence[Array]):
    """Image files as `(H, W, 3)` uint8 frames, read when they are asked for."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: Any) -> Any:
        from PIL import Image

        path = self.files[number]
        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ClipError(f"{path.name} cannot be decoded: {error}") from error


def reader_of(path: Path) -> Reader | None:
    """Who reads a track that is no video, by its suffix or, of a folder or series, by that of its first file."""
    known: Mapping[str, Reader] = {".npy": "numpy", ".mat": "scipy", ".txt": "text", ".csv": "text", ".json": "json"}
    if os.path.isfile(path):
        return known.get(path.suffix.lower())
    suffix = files_of(path)[0].suffix.lower()
    return "pillow" if suffix in IMAGES else known.get(suffix)


def read_rows(path: Path) -> Array | Images:
    """What a track holds, one instant a row: of a `.json`, rows with named fields. Raises ClipError with the reason."""
    if not os.path.isfile(path) and files_of(path) != [path]:
        return _frames(path)
    if not os.path.exists(path):
        raise ClipError(f"{path.name} is missing")
    readers: Mapping[str, Callable[[Path], Array]] = {".npy": read_npy, ".mat": _matlab, ".json": _json}
    values = readers.get(path.suffix.lower(), _text)(path)
    if values.ndim == 0:
        raise ClipError(f"{path.name} holds one number, not one row an instant")
    if not len(values):
        raise ClipError(f"{path.name} holds no frames")
    return values


def read_npy(path: Path) -> Array:
    """A memory map of a plain `.npy` file; raises ClipError where it is none."""
    try:
        values: Array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise ClipError(f"{path.name} is no plain .npy array: {error}") from error
    return values


def _frames(path: Path) -> Array | Images:
    """The frames of a folder or series, which are numbered without a gap: images, or one `.npy` row each."""
    files = files_of(path)
    if {file.suffix.lower() for file in files} <= IMAGES:
        return Images(files)
    numbers = [int(match[2]) for file in files if (match := FRAME.fullmatch(file.name)) and file.suffix.lower() == ".npy"]
    if len(numbers) != len(files):
        raise ClipError(f"{path.name} holds other files than frames <number>.npy or images")
    for before, after in itertools.pairwise(numbers):
        if after != before + 1:
            raise ClipError(f"{path.name} has frame {before} and then {after}: one is missing, or one is there twice")
    rows = [read_npy(file) for file in files]
    for file, row in zip(files, rows, strict=True):
        if row.shape != rows[0].shape:
            raise ClipError(f"{path.name}: {file.name} is {row.shape}, {files[0].name} is {rows[0].shape}")
    return np.stack(rows)


def _matlab(path: Path) -> Array:
    """The one array of a MATLAB file, whatever its name: `(T, C)` as it is, `(..., T)` of three axes with time first."""
    import scipy.io

    try:
        content = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise ClipError(f"{path.name} is a MATLAB 7.3 file; save it with -v7") from error
    except Exception as error:  # what scipy raises on a bad file is not documented
        raise ClipError(f"{path.name} is no MATLAB file that can be read: {error}") from error
    arrays = {key: value for key, value in content.items() if not key.startswith("__") and isinstance(value, np.ndarray)}
    numeric = {key: value for key, value in arrays.items() if value.dtype.kind in "fiu" and value.ndim in (2, 3)}
    if len(numeric) != 1:
        found = ", ".join(f"{key} {value.shape}" for key, value in arrays.items()) or "nothing"
        raise ClipError(f"{path.name} is to hold one array of numbers; it holds {found}")
    values: Array = next(iter(numeric.values()))
    return np.ascontiguousarray(np.moveaxis(values, 2, 0)) if values.ndim == 3 else values


def _text(path: Path) -> Array:
    """`(T, C)` numbers separated by commas, semicolons or blanks; a first line of names and lines after `#` do not count."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"{path.name} cannot be read as text: {error}") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        cells = re.split(r"\s*[,;]\s*" if re.search("[,;]", line) else r"\s+", line)
        try:
            row = [float(cell) if cell else math.nan for cell in cells]
        except ValueError as error:
            if not rows and not any(map(_is_number, cells)):
                continue
            raise ClipError(f"{path.name}, line {number}: {error}") from error
        if rows and len(row) != len(rows[0]):
            raise ClipError(f"{path.name}, line {number}: {len(row)} values after lines of {len(rows[0])}")
        rows.append(row)
    return np.array(rows)


def _is_number(cell: str) -> bool:
    try:
        return float(cell) is not None
    except ValueError:
        return False


def _json(path: Path) -> Array:
    """`{name: T x K list, ...}` as T rows with a field of K numbers for each list; NaN or null stands for a missing value or row."""
    try:
        content = json.loads(path.read_bytes())
        lists = {key: value for key, value in content.items() if isinstance(value, list)}
    except (OSError, ValueError, AttributeError) as error:
        raise ClipError(f"{path.name} is no JSON object of lists: {error}") from error
    if not lists:
        raise ClipError(f"{path.name} holds no lists, one row an instant")
    lengths = {key: len(value) for key, value in lists.items()}
    if len(set(lengths.values())) > 1:
        raise ClipError(f"{path.name}: its lists differ in length: {', '.join(f'{key} {length}' for key, length in lengths.items())}")
    fields = {key: _field(path, key, value) for key, value in lists.items()}
    rows = np.empty(next(iter(lengths.values())), [(key, np.float64, values.shape[1:]) for key, values in fields.items()])
    for key, values in fields.items():
        rows[key] = values
    return rows


def _field(path: Path, key: str, rows: list[Any]) -> Array:
    """`(T, K)` of a list of lists, `(T,)` of a list of numbers."""
    width = max((len(row) for row in rows if isinstance(row, list)), default=None)
    try:
        if width is None:
            return np.array([math.nan if row is None else float(row) for row in rows])
        whole = [row if isinstance(row, list) else [row] * width for row in rows]
        for number, row in enumerate(whole):
            if len(row) != width:
                raise ClipError(f"{path.name}: {key} has {len(row)} values in row {number}, {width} in others")
        return np.array([[math.nan if value is None else float(value) for value in row] for row in whole])
    except (TypeError, ValueError) as error:
        raise ClipError(f"{path.name}: {key} holds what is no number: {error}") from error
