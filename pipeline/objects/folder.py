"""A folder that many machines reach, as a disk mounted by all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.atomic import replace, sync
from pipeline.errors import UserError


class Folder:
    """Objects as files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.place = root, str(root)

    def names(self, prefix: str) -> Iterator[str]:
        with self._refusals():
            for folder, _, files in os.walk(self.root / prefix):
                for name in files:
                    if not name.startswith("."):  # a writer that was killed
                        yield (Path(folder) / name).relative_to(self.root).as_posix()

    def read(self, name: str) -> bytes:
        with self._refusals():
            return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes, *, only_new: bool = False) -> bool:
        path = self.root / name
        with self._refusals():
            if not only_new:
                replace(path, content)
                return True
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            replace(temporary, content)
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            sync(path.parent)
            return True

    def fetch(self, name: str, file: Path) -> None:
        with self._refusals():
            shutil.copyfile(self.root / name, file)

    def send(self, file: Path, name: str) -> None:
        path = self.root / name
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with self._refusals():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(file, temporary)
                sync(temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
            sync(path.parent)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UserError(
                f"{self.place}: {error.strerror or error}; look at its rights and room, then run the same line again"
            ) from error
