"""The place for objects that a folder or a URL names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pipeline.errors import UserError
from pipeline.objects.bucket import Bucket
from pipeline.objects.folder import Folder
from pipeline.objects.store import URL, ObjectStore


def opened(place: str) -> ObjectStore:
    """The store at a folder or URL; nothing is asked of it yet. Raises UserError where the place cannot be one."""
    if not URL.match(place):
        return Folder(Path(place).expanduser().absolute())
    parts = urlsplit(place)
    if parts.username or parts.password or parts.query:
        raise UserError(
            f"{parts.scheme}://{parts.hostname}{parts.path}: credentials stand in no URL; set them in the environment: AWS_ACCESS_KEY_ID"
        )
    if parts.scheme == "file":
        return Folder(Path(parts.path))
    return Bucket(place)
