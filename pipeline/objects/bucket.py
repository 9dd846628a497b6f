"""A bucket of an object store: S3 and what speaks like it, Google's and Azure's, by obstore."""

from __future__ import annotations

import os
import random
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import UserError
from pipeline.objects.store import EXTRA

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PIECE = 8 << 20
"""Bytes of an object that are in memory at once."""
SILENT_SECONDS = 20
"""After which a connection that says nothing is given up, and tried again."""
NO_BUCKET = "NoSuchBucket"
METADATA = "169.254.169.254"
"""Where a machine in a cloud finds its own credentials, which is asked where the environment has none."""
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
        client: ClientConfig = {"timeout": timedelta(hours=6), "read_timeout": timedelta(seconds=SILENT_SECONDS)}
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
        yield from (str(found["path"]) for found in self._listed(prefix))

    def _listed(self, prefix: str) -> list[Mapping[str, Any]]:
        with self._bucket_missing():
            return self._tried(lambda: [found for page in self.obstore.list(self.store, prefix.rstrip("/") or None) for found in page])

    def read(self, name: str) -> bytes:
        return self._tried(lambda: bytes(self.obstore.get(self.store, name).bytes()))

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        mode = "create" if only_new else "overwrite"
        try:
            with self._bucket_missing():
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
        return {str(found["path"]): _stamp(found) for found in self._listed("")}

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
        def work() -> None:
            with open(file, "wb") as out:  # anew: not every store goes on in the middle of an object
                for piece in self.obstore.get(self.store, name).stream(min_chunk_size=PIECE):
                    out.write(piece)

        self._tried(work)

    def send(self, file: Path, name: str) -> None:
        with self._bucket_missing():
            self._tried(lambda: self.obstore.put(self.store, name, file))

    @contextmanager
    def _bucket_missing(self) -> Iterator[None]:
        """What is asked for here is not there only where the bucket itself is not."""
        try:
            yield
        except FileNotFoundError as error:
            raise UserError(f"{self.place} lies in no bucket that is there ({error}); make the bucket, or name another") from None

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
        except (errors.NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(_line(error)) from error
        except (errors.PermissionDeniedError, errors.UnauthenticatedError) as error:
            raise UserError(
                f"{self.place} refuses these credentials ({_line(error)}); they are read from the environment, as AWS_ACCESS_KEY_ID"
            ) from error
        except (errors.AlreadyExistsError, errors.PreconditionError) as error:
            raise FileExistsError(_line(error)) from error
        except errors.BaseError as error:
            if NO_BUCKET in str(error):  # of a list the library makes no such thing of it
                raise FileNotFoundError(NO_BUCKET) from error
            if METADATA in str(error):
                raise UserError(
                    f"{self.place} needs credentials in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from error
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
    said = " ".join(str(error).partition("Debug source")[0].split())
    code = re.search(r"<Code>(\w+)</Code>", said)
    return code[1] if code else said.partition(" after ")[0][:200]
