"""An object put only where it is still the one that was seen: by the store where it can, else by a lease."""

from __future__ import annotations

import random
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import UserError
from pipeline.objects.bucket import Bucket

WAITS = (0.1, 0.3, 1.0, 3.0, 5.0)
"""Seconds for which another's lease is waited for, at most."""


def swapped(store: Bucket, name: str, content: bytes, seen: str) -> str:
    """The stamp of an object that is put in place of that which was `seen`, or of none where that is empty.

    Raises FileExistsError where another is there, UserError where somebody else holds the lease.
    """
    if store.is_conditional:
        return store.swap(name, content, seen)
    with _leased(store, name):
        try:
            now = store.read_stamped(name)[1]
        except FileNotFoundError:
            now = ""
        if now != seen:
            raise FileExistsError(name)
        store.write(name, content)
        return store.read_stamped(name)[1]


@contextmanager
def _leased(store: Bucket, name: str) -> Iterator[None]:
    """Alone among those that ask for this: who has put its lease and then sees no other's holds it; who sees one takes its own back.

    So of two that ask at once none or one holds it, in a store whose list has what was put before it was asked for, as S3's has.
    """
    folder = f"leases/{name}/"
    for wait in (*WAITS, None):
        mine = f"{folder}{secrets.token_hex(8)}"
        store.write(mine, socket.gethostname().encode())
        try:
            others = [each for each in store.names(folder) if each != mine]
            if not others:
                yield
                return
        finally:
            store.delete(mine)
        if wait is not None:
            time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311
    raise UserError(
        f"another writer is publishing {store.place}/{name}; run the same line again when it has, or, where it died, "
        f"delete {store.place}/{others[0]} first"
    )
