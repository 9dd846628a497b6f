"""A bucket of an object store: S3 and what speaks like it, Google's and Azure's, by obstore."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError
from pipeline.objects.store import EXTRA

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PIECE = 8 << 20
"""Bytes of an object that are asked for at once: what breaks off is asked for again from there."""
SILENT_SECONDS = 20
"""After which a connection that says nothing is given up, and tried again."""
CONNECTIONS = 8
RETRIES = 4
"""Of a request that the server refuses for now: by the library, which knows those that may be sent twice."""
PATIENCE_SECONDS = 60
WAITS = (0.1, 0.4, 1.6, 6.4)
"""Seconds before a request that broke off is tried again, at most: everything here may be sent twice."""
Found = TypeVar("Found")


class Unanswered(UserError):
    """A request that failed for a reason that may pass."""


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
        yield from self._tried(lambda: self._names(prefix))

    def _names(self, prefix: str) -> list[str]:
        pages = self.obstore.list(self.store, prefix.rstrip("/") or None, chunk_size=1000)
        return [str(found["path"]) for page in pages for found in page]

    def read(self, name: str) -> bytes:
        return self._tried(lambda: bytes(self.obstore.get(self.store, name).bytes()))

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        mode = "create" if only_new else "overwrite"
        try:
            self._tried(lambda: self.obstore.put(self.store, name, content, mode=mode, use_multipart=False))
        except FileExistsError:
            return self.read(name) == content  # of a try whose answer was lost
        return True

    def read_stamped(self, name: str) -> tuple[bytes, str]:
        """All of an object, and what its store calls these very bytes."""

        def work() -> tuple[bytes, str]:
            found = self.obstore.get(self.store, name)
            return bytes(found.bytes()), _stamp(found.meta)

        return self._tried(work)

    def read_all(self, names: Sequence[str]) -> Iterator[bytes]:
        """All of each object, several at a time."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            yield from pool.map(self.read, names)

    def stamps(self) -> dict[str, str]:
        """`{name: stamp}` of every object."""
        return self._tried(lambda: {str(found["path"]): _stamp(found) for page in self.obstore.list(self.store) for found in page})

    def has(self, name: str) -> bool:
        """Whether there is such an object."""
        try:
            self._tried(lambda: self.obstore.head(self.store, name))
        except FileNotFoundError:
            return False
        return True

    def delete(self, name: str) -> None:
        """Take an object away, where it is there."""
        with suppress(FileNotFoundError):
            self._tried(lambda: self.obstore.delete(self.store, name))

    def swap(self, name: str, content: bytes, stamp: str) -> str:
        """The new stamp of an object put where that of this `stamp` is, or none if it is empty; else raises FileExistsError."""
        mode = {"e_tag": f'"{stamp}"'} if stamp else "create"
        try:
            return _stamp(self._tried(lambda: self.obstore.put(self.store, name, content, mode=mode, use_multipart=False)))
        except FileNotFoundError:
            raise FileExistsError(f"{name} was deleted") from None
        except FileExistsError:
            there, now = self.read_stamped(name)
            if there != content:
                raise
            return now  # of a try whose answer was lost

    @cached_property
    def is_conditional(self) -> bool:
        """Whether the store heeds conditions of a PUT; some take them and overwrite all the same."""
        probe = f"leases/probe-{secrets.token_hex(8)}"
        try:
            self.write(probe, b"1", only_new=True)
            return not self.write(probe, b"2", only_new=True)
        finally:
            self.delete(probe)

    def fetch(self, name: str, file: Path) -> None:
        size, done = self._tried(lambda: int(self.obstore.head(self.store, name)["size"])), 0
        with open(file, "wb") as out:
            while done < size:
                part = {"start": done, "end": min(done + PIECE, size)}
                piece = self._tried(partial(self.obstore.get_range, self.store, name, **part))
                if not piece:
                    raise UserError(f"{self.place}/{name} changed while it was read; run the same line again")
                out.write(piece)
                done += len(piece)

    def send(self, file: Path, name: str) -> None:
        self._tried(lambda: self.obstore.put(self.store, name, file))

    def _tried(self, work: Callable[[], Found]) -> Found:
        """What `work` finds; tried again where the line breaks, which obstore itself does for few requests."""
        for wait in WAITS:
            try:
                with self._refusals():
                    return work()
            except Unanswered:
                time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # others wait as well, and not as long
        with self._refusals():
            return work()

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
        except (errors.AlreadyExistsError, errors.PreconditionError) as error:
            raise FileExistsError(_line(error)) from error
        except errors.BaseError as error:
            raise Unanswered(f"{self.place} does not answer as it should ({_line(error)}); run the same line again when it does") from error


def _stamp(said: Mapping[str, Any]) -> str:
    return str(said["e_tag"]).strip('"')


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
