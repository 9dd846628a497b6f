"""What every place for objects offers, and the one that a folder or a URL names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from pipeline.errors import UserError

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


def opened(place: str) -> ObjectStore:
    """The store at a folder or URL; nothing is asked of it yet. Raises UserError where the place cannot be one."""
    from pipeline.objects.folder import Folder

    if not URL.match(place):
        return Folder(Path(place).expanduser().absolute())
    parts = urlsplit(place)
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: credentials stand in no URL; set them in the environment: AWS_ACCESS_KEY_ID"
        )
    if parts.scheme == "file":
        return Folder(Path(parts.path))
    from pipeline.objects.bucket import Bucket

    return Bucket(place)
