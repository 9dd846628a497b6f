"""Something that happens to a cache at an exact moment: just before a reader in this process opens or lists its n-th file there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

EVENTS = ("open", "os.listdir", "os.scandir")


class _Moment:
    """The one hook of this process, for a hook stays until its end; it counts while `act` is set."""

    def __init__(self) -> None:
        self.folder, self.left, self.is_over = "", 0, False
        self.act: Callable[[], object] | None = None
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.act is None or event not in EVENTS or not str(arguments[0]).startswith(self.folder):
            return
        self.left -= 1
        if self.left < 0:
            act, self.act, self.is_over = self.act, None, True
            act()


_MOMENT = _Moment()


@contextmanager
def before_file(number: int, folder: Path, act: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Do `act` just before file `number` (from 0) below `folder` is opened or listed meanwhile; the result tells whether it was done."""
    _MOMENT.folder, _MOMENT.left, _MOMENT.act, _MOMENT.is_over = str(folder), number, act, False
    try:
        yield lambda: _MOMENT.is_over
    finally:
        _MOMENT.act = None
