"""Rows of a body-worn sensor: accelerometer, gyroscope or whatever a recorder wrote, a row an instant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pipeline.errors import ClipError, UserError
from pipeline.layouts import Kind, Layout, Part
from pipeline.types import Array, Extractor, Frame

Unit: TypeAlias = Literal["g", "m/s2", "deg/s", "rad/s", "other"]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
STANDARD_GRAVITY = 9.80665
"""m/s2 in 1 g (3rd CGPM, 1901)."""
VECTORS: Mapping[str, Kind] = {"g": "change", "m/s2": "change", "deg/s": "spin", "rad/s": "spin"}
"""What three columns of a unit are, x, y and z."""
TO_SI: Mapping[str, float] = {"g": STANDARD_GRAVITY, "deg/s": math.pi / 180}


class Inertial(Extractor):
    """`(T, channels)` sensor rows -> `(T, channels)` float32, or `(T, len(columns))` where only some columns are kept.

    Files are `.npy`, `.mat`, `.txt` or `.csv`. `units="stored"` keeps the numbers; `"si"` turns g into m/s2 and deg/s into
    rad/s by `stored_units`, one a column of the file. With `rate_hz`, instant k shows the row nearest in time,
    `floor(k * stored_rate_hz / rate_hz + 0.5)`, as long as there is one; 0 keeps every row. The stored defaults are
    those of UTD-MHAD: acceleration in g, angular velocity in deg/s, 50 Hz. A row that holds no finite number fails its clip.
    """

    source: str = "inertial"
    channels: PositiveInt = 6
    columns: tuple[NonNegativeInt, ...] | None = None
    rate_hz: Rate = 0.0
    stored_rate_hz: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 50.0
    units: Literal["stored", "si"] = "stored"
    stored_units: tuple[Unit, ...] = ("g", "g", "g", "deg/s", "deg/s", "deg/s")

    @model_validator(mode="after")
    def _fits(self) -> Inertial:
        if self.units == "si" and len(self.stored_units) != self.channels:
            raise UserError(f"stage 'inertial': {len(self.stored_units)} stored_units for {self.channels} channels; name one each")
        if self.columns is not None and (not self.columns or max(self.columns) >= self.channels):
            chosen = ",".join(map(str, self.columns)) or "none"
            raise UserError(f"stage 'inertial': columns={chosen}: choose from 0..{self.channels - 1}")
        return self

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.channels if self.columns is None else len(self.columns),)

    @property
    def row_layout(self) -> Layout | None:
        columns = list(range(self.channels)) if self.columns is None else list(self.columns)
        if len(self.stored_units) != self.channels:
            return None
        parts = []
        for first in columns[::3]:
            kind = VECTORS.get(self.stored_units[first])
            if kind is None or first % 3 or len({*self.stored_units[first : first + 3]}) > 1:
                return None
            parts.append(Part(f"{self.stored_units[first]} {first}", 1, 3, 3, kind, "any", told_by=None))
        return Layout(tuple(parts)) if columns == [first + axis for first in columns[::3] for axis in range(3)] else None

    def select(self, length: int, rate_hz: float) -> NDArray[np.int64]:
        if not self.rate_hz:
            return np.arange(length, dtype=np.int64)
        step = (rate_hz or self.stored_rate_hz) / self.rate_hz
        instants = np.arange(math.ceil(length / step) + 1)
        wanted: NDArray[np.int64] = np.floor(instants * step + 0.5).astype(np.int64)
        return wanted[wanted < length]

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        factors = np.array([TO_SI.get(unit, 1.0) for unit in self.stored_units]) if self.units == "si" else 1.0
        for number, tracks in enumerate(frames):
            if len(tracks) != 1 or tracks[0].size != self.channels or tracks[0].ndim > 1:
                shape = " + ".join(str(track.shape) for track in tracks)
                raise ClipError(f"sensor rows are {shape}, where {self.channels} channels are expected (--set channels=N)")
            row = np.asarray(tracks[0], np.float64).reshape(-1) * factors
            if not np.isfinite(row).all():
                raise ClipError(f"row {number} of the sensor holds a value that is no finite number")
            yield (row if self.columns is None else row[list(self.columns)]).astype(np.float32)


stage: type[Extractor] = Inertial
