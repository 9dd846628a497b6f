"""What every place for objects offers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
EXTRA = "pip install -e '.[remote]'"
"""What brings the libraries of this room and of `pipeline.remote`."""


class ObjectStore(Protocol):
    """Objects by name (`a/b/c`). An object is there whole or not at all; what is not there raises FileNotFoundError.

    What the store refuses, or does not answer after several tries, raises UserError.
    """

    place: str
    """As it is told to people, without credentials."""

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with `prefix`, a folder's with `/`, in no order; read page by page."""
        ...

    def read(self, name: str) -> bytes:
        """All of an object."""
        ...

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        """Put an object in one step; with `only_new`, False where one of this name is there, which then stays."""
        ...

    def fetch(self, name: str, file: Path) -> None:
        """Write an object to a file, which is not on disk yet when this returns, nor whole when it raises."""
        ...

    def send(self, file: Path, name: str) -> None:
        """Put a file's bytes as an object, in one step."""
        ...
