"""A bucket of an object store: S3 and what speaks like it, Google's and Azure's, by obstore."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import UserError
from pipeline.objects.store import EXTRA

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PIECE = 8 << 20
"""Bytes of an object that are asked for at once: what breaks off is asked for again from there."""
SILENT_SECONDS = 20
"""After which a connection that says nothing is given up, and tried again."""
RETRIES = 8
PATIENCE_SECONDS = 120
"""All tries of a request together."""


class Bucket:
    """Objects below a URL's prefix. Every request is tried again, ever later, where the store fails, throttles or drops it."""

    def __init__(self, url: str) -> None:
        obstore = _obstore()
        self.place = url.rstrip("/")
        client: ClientConfig = {"timeout": timedelta(minutes=10), "read_timeout": timedelta(seconds=SILENT_SECONDS)}
        if os.environ.get("AWS_ENDPOINT_URL", "").startswith("http://"):
            client["allow_http"] = True
        wait = timedelta(milliseconds=100)
        retry: RetryConfig = {
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=PATIENCE_SECONDS),
            "backoff": {"init_backoff": wait, "max_backoff": timedelta(seconds=10), "base": 2},
        }
        try:
            self.store = obstore.store.from_url(url, client_options=client, retry_config=retry)
        except (obstore.exceptions.BaseError, ValueError) as error:
            raise UserError(f"{self.place}: no place for objects ({_line(error)}); name a folder, or s3://bucket/prefix") from error
        self.obstore = obstore

    def names(self, prefix: str) -> Iterator[str]:
        with self._refusals():
            for page in self.obstore.list(self.store, prefix.rstrip("/") or None, chunk_size=1000):
                yield from (str(found["path"]) for found in page)

    def read(self, name: str) -> bytes:
        with self._refusals():
            return bytes(self.obstore.get(self.store, name).bytes())

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        with self._refusals():
            try:
                self.obstore.put(self.store, name, content, mode="create" if only_new else "overwrite", use_multipart=False)
            except self.obstore.exceptions.AlreadyExistsError:
                return self.read(name) == content  # of a try whose answer was lost
            return True

    def fetch(self, name: str, file: Path) -> None:
        with self._refusals(), open(file, "wb") as out:
            size, done = int(self.obstore.head(self.store, name)["size"]), 0
            while done < size:
                piece = self.obstore.get_range(self.store, name, start=done, end=min(done + PIECE, size))
                out.write(piece)
                done += len(piece)

    def send(self, file: Path, name: str) -> None:
        with self._refusals():
            self.obstore.put(self.store, name, file)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        errors = self.obstore.exceptions
        try:
            yield
        except errors.NotFoundError as error:
            raise FileNotFoundError(_line(error)) from error
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise UserError(
                f"{self.place} refuses these credentials ({_line(error)}); they are read from the environment, as AWS_ACCESS_KEY_ID"
            ) from error
        except errors.BaseError as error:
            raise UserError(f"{self.place} does not answer as it should ({_line(error)}); run the same line again when it does") from error


def _obstore() -> Any:
    try:
        import obstore
        import obstore.exceptions
        import obstore.store
    except ImportError as error:
        raise UserError(f"a bucket needs obstore: {EXTRA}; a folder does without") from error
    return obstore


def _line(error: Exception) -> str:
    """The first words of what a library says, on one line."""
    return " ".join(str(error).partition("Debug source")[0].split())[:200]
