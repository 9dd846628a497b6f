"""Features that another program made: `signcache import` brings them in, nothing extracts them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import PositiveInt

from pipeline.errors import ClipError
from pipeline.types import IMPORT_PREFIX, Array, Extractor, Frame


class Imported(Extractor):
    """`(T, *shape)` rows of another program -> `(T, *shape)` float32, or of the type that they came with.

    `source` is `import:` and the digest of what was imported and how, so its content is the identity.
    """

    source: str = IMPORT_PREFIX
    shape: tuple[PositiveInt, ...] = (1,)
    numbers: Literal["float32", "float16", "uint8", "int8", "int16", "int32", "int64"] = "float32"

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def dtype(self) -> str:
        return self.numbers

    def prepare(self, frames: Iterator[Frame]) -> Iterator[Array]:
        raise ClipError("imported rows are not extracted; import them again")


stage: type[Extractor] = Imported
